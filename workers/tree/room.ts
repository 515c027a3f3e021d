/**
 * Sees to it that garbage does not fill the store: collects it when much of what was free is used up, and at once when
 * the store is full. Who was refused then waits, and tries again.
 */
import { constants } from 'node:os';
import { header } from '../../engine/layout.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import type { CollectionOutcome } from '../task.ts';
import type { Forgetting } from './forgetting.ts';
import type { GarbageCollector } from './garbage-collector.ts';

/** A collection is worth its work when this part of what was free after the last one is used up. */
const PRESSED_SHARE = 0.25;
/** Milliseconds behind a collection that made no room in a full store. */
const VAIN_REST_MS = 1000;
/** A collection before the store is full waits so many times as long as the last one took. */
const REST_TIMES = 10;
/** Milliseconds that a collection may keep others waiting: then they are told what the store says. */
const PATIENCE_MS = 30_000;
/** Nothing is spared: what is in use is kept whatever its age. */
const ORDER = { graceSeconds: 0, dryRun: false };

/** What a {@link Room} is made of. */
interface Parts {
  memory: SharedMemory;
  collector: Pick<GarbageCollector, 'collect' | 'mayBeUseful'>;
  /** Inodes that are about to leave garbage behind. */
  forgetting: Pick<Forgetting, 'isUnderWay'>;
  /** Bytes that the store can still take. */
  freeBytes: () => number;
  /** Whether the tree's file has no room for more than removals. */
  isTreeShort: () => boolean;
  /** Runs a task soon, and in no turn: a collection begins with turns of its own. */
  later: (task: () => void) => void;
}

/** Collections of one mount for want of room. Threads: the tree worker's own. */
export class Room {
  readonly #words: Uint32Array;
  readonly #collector: Parts['collector'];
  readonly #forgetting: Parts['forgetting'];
  readonly #freeBytes: () => number;
  readonly #isTreeShort: () => boolean;
  readonly #later: Parts['later'];
  readonly #waiting: (() => void)[] = [];
  /** The most that was free since the last collection. */
  #mostFree = 0;
  /** Until then only a full store is a reason to collect; and until the other one, nothing is. */
  #restsUntil = 0;
  #vainUntil = 0;
  #isCollecting = false;
  #isStopped = false;
  #patience: NodeJS.Timeout | undefined;

  constructor({ memory, collector, forgetting, freeBytes, isTreeShort, later }: Parts) {
    this.#words = memory.words;
    this.#collector = collector;
    this.#forgetting = forgetting;
    this.#freeBytes = freeBytes;
    this.#isTreeShort = isTreeShort;
    this.#later = later;
  }

  /** Collects when much is used up. For now and then: asks the file system of the store. */
  look(): void {
    if (performance.now() < this.#restsUntil || !this.#mayCollect) return;
    const free = this.#freeBytes();
    this.#mostFree = Math.max(this.#mostFree, free);
    if (this.#mostFree - free >= this.#mostFree * PRESSED_SHARE) this.#collect();
  }

  /** After every turn: collects when the store is full, or its tree; the latter makes nobody wait. */
  notice(): void {
    if (this.#isTreeShort() && performance.now() >= this.#restsUntil && this.#mayCollect) {
      this.#collect();
    }
    if (!this.#isFull || this.#isMaking) return;
    const begins = this.#mayCollect;
    if (!begins && (!this.#isCollecting || this.#isVain)) return;
    Atomics.store(this.#words, header.MAKING_ROOM >>> 2, 1);
    this.#patience = setTimeout(() => this.#loseHope(), PATIENCE_MS).unref();
    if (begins) this.#collect();
  }

  /** Has `then` called when room has been made, in no turn or in one; false: nobody is making any. */
  await(then: () => void): boolean {
    this.notice();
    if (!this.#isMaking) return false;
    this.#waiting.push(then);
    return true;
  }

  /** The mount ends: nobody is waiting any more, and nobody will be told. */
  stop(): void {
    this.#isStopped = true;
    this.#waiting.length = 0;
    this.#letGo();
  }

  get #isFull(): boolean {
    return Atomics.load(this.#words, header.STORE_ERRNO >>> 2) === constants.errno.ENOSPC;
  }

  get #isMaking(): boolean {
    return Atomics.load(this.#words, header.MAKING_ROOM >>> 2) === 1;
  }

  get #isVain(): boolean {
    return this.#isStopped || performance.now() < this.#vainUntil;
  }

  get #mayCollect(): boolean {
    if (this.#isCollecting || this.#isVain) return false;
    return this.#collector.mayBeUseful || this.#forgetting.isUnderWay;
  }

  #collect(): void {
    const start = performance.now();
    this.#isCollecting = true;
    const done = (outcome: CollectionOutcome): void => {
      const now = performance.now();
      const hasRoom = 'swept' in outcome && outcome.swept.deleted > 0;
      this.#restsUntil = now + REST_TIMES * (now - start);
      if (!this.#isStopped) this.#vainUntil = hasRoom ? 0 : now + VAIN_REST_MS;
      this.#ended(hasRoom);
    };
    this.#later(() => this.#collector.collect(ORDER, done));
  }

  #ended(hasRoom: boolean): void {
    this.#isCollecting = false;
    this.#mostFree = this.#freeBytes();
    // Until a put fails again, data may wait for the store.
    if (hasRoom && this.#isFull) Atomics.store(this.#words, header.STORE_ERRNO >>> 2, 0);
    if (this.#isMaking) this.#letGo();
  }

  /** The collection takes long: it goes on, and a later one may be waited for again. */
  #loseHope(): void {
    this.#vainUntil = performance.now() + VAIN_REST_MS;
    this.#letGo();
  }

  #letGo(): void {
    clearTimeout(this.#patience);
    Atomics.store(this.#words, header.MAKING_ROOM >>> 2, 0);
    for (const then of this.#waiting.splice(0)) then();
  }
}
