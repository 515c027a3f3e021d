/**
 * Takes in what owners of regions report of open inodes, and writes it into the tree when it is asked to (invariant 3).
 *
 *     EXTENT, INLINE ─► pending of the inode        commit ─┬─────────────────────────► apply ─► done
 *                                                           └► barrier of the store ────┘
 */
import { MillraceError } from '../../engine/errors.ts';
import { descriptor, INLINE_BYTES, kind } from '../../engine/layout.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import type { Tree } from '../../engine/tree/tree.ts';
import type { ContentChange, Extent } from '../../engine/tree/types.ts';
import { type Commands, extentAt, Message } from '../commands.ts';
import type { Barriers } from './barrier.ts';
import type { OpenInode, Slots } from './slots.ts';
import type { Turn } from './turn.ts';

/** Changes of one inode that wait for a commit; more are committed without being asked. */
const PENDING_MAX = 4096;
/** Buffers for inline content that are kept for later. */
const INLINE_BUFFERS = 64;

/** A commit that waits for the store's barrier. */
interface Commit {
  open: OpenInode;
  /** Which changes of the inode, counted from its opening, the barrier covers: later ones need the next. */
  upTo: number;
  done(errno: number): void;
}

/** Pending changes of open inodes, and their way into the tree. Threads: the tree worker's own. */
export class Commits {
  readonly #memory: SharedMemory;
  readonly #commands: Commands;
  readonly #tree: Tree;
  readonly #slots: Slots;
  readonly #turn: Turn;
  readonly #barriers: Barriers;
  readonly #storeNeedsSync: boolean;
  readonly #message = new Message();
  /** Commits that the next barrier of the store will allow. */
  #waiting: Commit[] = [];
  #barrierRuns = false;
  /** Memory for inline content that waits for a commit. */
  readonly #inlineBuffers: Uint8Array[] = [];

  /** `storeNeedsSync`: stored chunks need a barrier before a commit may name them. */
  constructor(
    memory: SharedMemory,
    commands: Commands,
    parts: { tree: Tree; slots: Slots; turn: Turn; barriers: Barriers; storeNeedsSync: boolean },
  ) {
    this.#memory = memory;
    this.#commands = commands;
    this.#tree = parts.tree;
    this.#slots = parts.slots;
    this.#turn = parts.turn;
    this.#barriers = parts.barriers;
    this.#storeNeedsSync = parts.storeNeedsSync;
  }

  // ---- what is reported ----

  /** A data worker has stored a part of a file; the descriptor begins at `word`. */
  extent(word: number): void {
    const { words } = this.#memory;
    this.addExtent(words[word + descriptor.INODE], extentAt(words, word));
  }

  /** The inode's inline cell holds `bytes` bytes that replace region 0; the data worker learns that it is free again. */
  inline(slot: number, bytes: number, worker: number): void {
    this.setInline(slot, bytes);
    this.#commands.push(worker, this.#message.begin(kind.INLINED, slot, 0, 0).words);
  }

  /** Adds an extent, which is kept, to what is pending. */
  addExtent(slot: number, extent: Extent): void {
    const open = this.#slots.bySlot(slot);
    if (open === undefined) return;
    open.pending.push({ kind: 'extent', extent });
    if (open.pending.length !== PENDING_MAX) return;
    open.underWay += 1;
    this.#turn.later(() => {
      open.underWay -= 1;
      this.commit(open, () => {});
    });
  }

  /** Adds what the inode's inline cell holds to what is pending; the cell is free again at the return. */
  setInline(slot: number, bytes: number): void {
    const open = this.#slots.bySlot(slot);
    if (open === undefined) return;
    const last = open.pending.at(-1);
    if (last?.kind === 'inline') this.#dropInline(open.pending.pop());
    const content = (this.#inlineBuffers.pop() ?? new Uint8Array(INLINE_BYTES)).subarray(0, bytes);
    content.set(this.#memory.inlineCell(slot, bytes));
    open.pending.push({ kind: 'inline', bytes: content });
  }

  /** The change is in the tree, or void: its bytes can be used again. */
  #dropInline(change: ContentChange | undefined): void {
    if (change?.kind !== 'inline' || this.#inlineBuffers.length === INLINE_BUFFERS) return;
    this.#inlineBuffers.push(new Uint8Array(change.bytes.buffer));
  }

  // ---- the way into the tree ----

  /** Writes what is pending of an inode into the tree once the store has it for good, then calls `done` in a turn. */
  commit(open: OpenInode, done: (errno: number) => void): void {
    const chunks = open.pending.some((change) => change.kind === 'extent');
    if (!this.#storeNeedsSync || !chunks) {
      return done(this.#apply(open, open.pending.length));
    }
    open.underWay += 1;
    this.#waiting.push({ open, upTo: 0, done });
    this.#startBarrier();
  }

  #startBarrier(): void {
    if (this.#barrierRuns || this.#waiting.length === 0) return;
    const commits = this.#waiting;
    this.#waiting = [];
    this.#barrierRuns = true;
    const token = this.#barriers.open(1, (errno) => {
      this.#barrierRuns = false;
      for (const { open, upTo, done } of commits) {
        open.underWay -= 1;
        // Two commits of one inode share the changes before the barrier; those behind it wait for the next.
        done(errno || this.#apply(open, Math.max(0, upTo - open.applied)));
      }
      this.#startBarrier();
    });
    for (const commit of commits) commit.upTo = commit.open.applied + commit.open.pending.length;
    this.#commands.syncStore(token);
  }

  /** Writes size, mtime and the first pending changes of an inode: 0 or an errno. Within a transaction. */
  #apply(open: OpenInode, count: number): number {
    if (this.#slots.bySlot(open.slot) !== open) {
      throw new MillraceError(
        'INVARIANT',
        `inode ${open.ino} is committed from a slot that is not its own`,
      );
    }
    const writes = this.#slots.writesOf(open.slot);
    if (open.pending.length === 0 && writes === open.committedWrites) return 0;
    const changes = open.pending.splice(0, count);
    open.committedWrites = writes;
    this.#turn.flushAtEnd();
    const { seconds, nanoseconds } = this.#slots.mtimeOf(open.slot);
    const update = { size: this.#slots.sizeOf(open.slot), mtime: { seconds, nanoseconds } };
    const result = this.#tree.applyContent(open.ino, changes, update);
    if (typeof result !== 'number') {
      open.applied += changes.length;
      for (const change of changes) this.#dropInline(change);
      return 0;
    }
    open.pending = [...changes, ...open.pending];
    open.committedWrites = -1;
    return result;
  }
}
