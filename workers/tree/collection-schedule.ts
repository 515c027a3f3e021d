/** When garbage is collected without being asked: now and then, where there may be some, and while nothing else happens. */
import { header } from '../../engine/layout.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import { takeSnapshot } from '../../engine/snapshot.ts';
import type { GarbageCollector } from './garbage-collector.ts';

/**
 * Chunks that were written in the last so many seconds stay. What is in use is kept whatever its age; this spares
 * contents that come and go quickly from being stored again.
 */
const GRACE_SECONDS = 600;
/** How often it looks whether nothing happens, in milliseconds: as long must nothing have happened. */
const LOOK_MS = 1000;
/** The longest that a timer can wait, some 25 days. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** A timer that asks for collections. Threads: the tree worker's own, on its event loop. */
export class CollectionSchedule {
  readonly intervalMs: number;
  readonly #memory: SharedMemory;
  readonly #collector: GarbageCollector;
  #timer: NodeJS.Timeout | undefined;
  #requests = -1;
  #looks = 0;
  #isStopped = false;

  /** `intervalMs` 0: never. */
  constructor(memory: SharedMemory, collector: GarbageCollector, intervalMs: number) {
    this.#memory = memory;
    this.#collector = collector;
    this.intervalMs = intervalMs;
    this.#rest();
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  #rest(): void {
    if (this.intervalMs > 0) this.#after(this.intervalMs, () => this.#due());
  }

  #after(milliseconds: number, then: () => void): void {
    if (this.#isStopped) return;
    this.#timer = setTimeout(then, Math.min(milliseconds, TIMER_MAX_MS));
    this.#timer.unref();
  }

  #due(): void {
    this.#looks = 0;
    this.#requests = -1;
    if (this.#collector.mayBeUseful) this.#look();
    else this.#rest();
  }

  /** Waits until nothing happens, but no longer than another interval. */
  #look(): void {
    const { requests } = takeSnapshot(this.#memory);
    const settling = Atomics.load(this.#memory.words, header.SETTLING >>> 2);
    const isIdle = requests === this.#requests && settling === 0;
    this.#requests = requests;
    this.#looks += 1;
    if (!isIdle && this.#looks * LOOK_MS < this.intervalMs) {
      return this.#after(Math.min(LOOK_MS, this.intervalMs), () => this.#look());
    }
    const order = { graceSeconds: Math.min(GRACE_SECONDS, this.intervalMs / 1000), dryRun: false };
    this.#collector.collect(order, () => this.#rest());
  }
}
