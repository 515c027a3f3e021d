/**
 * The open inodes of this mount: their slots in shared memory, and what of their content the tree does not have yet.
 *
 * A slot outlives the last close for a while: opening the file again is then cheap, and workers are asked to forget
 * many inodes at once instead of one by one.
 */
import { constants } from 'node:os';
import { INODE_SLOTS, inode } from '../../engine/layout.ts';
import { OPEN_FILES_MAX } from '../../engine/limits.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import type { Attributes, ContentChange, Time } from '../../engine/tree/types.ts';

/** Closed inodes that keep their slots, and how many of the oldest are given up when there are more. */
const CLOSED_MAX = 2048;
const CLOSED_BATCH = 512;
const WORD = 0x1_0000_0000;
/** The part of the bound below which a bound that was reached counts as left again. */
const RELIEVED = 0.9;

/** An inode that has a slot. */
export interface OpenInode {
  readonly slot: number;
  readonly ino: number;
  openers: number;
  writers: number;
  /** Counts opens since the slot was taken: tells whether it was opened again while workers were forgetting it. */
  opens: number;
  /** What happened to the content since the last commit, in order. */
  pending: ContentChange[];
  /** Changes of the content that were committed since the slot was taken. */
  applied: number;
  /** The slot's count of writes at the last commit. */
  committedWrites: number;
  /** The slot's count of bytes at the last commit of all that was written. */
  committedBytes: number;
  /** It has no name, and nobody holds it: what it contains does not matter any more. */
  forgotten: boolean;
  /** Workers have been asked to forget it. */
  dropping: boolean;
  /** Commits and discards of it that are under way: until they have ended its slot must not become another inode's. */
  underWay: number;
}

/** How many inodes may be open, and who is told when that is not enough. */
export interface SlotLimits {
  /** Inodes that may be open at once; `OPEN_FILES_MAX` at most. */
  readonly openMax: number;
  /** Told, as a sentence and what to do, once for each time that the bound is reached. */
  readonly onLimit: (what: string) => void;
}

/** The table of slots. Threads: the tree worker's own; sizes and times are changed by fronts as well. */
export class Slots {
  readonly #memory: SharedMemory;
  readonly #byIno = new Map<number, OpenInode>();
  readonly #bySlot: (OpenInode | undefined)[] = [];
  readonly #free: number[] = [];
  /** Inodes that nobody has open, least recently closed first. */
  readonly #closed = new Set<OpenInode>();
  readonly #time: Time = { seconds: 0, nanoseconds: 0 };
  readonly #limits: SlotLimits;
  #fresh = 0;
  /** Inodes that somebody has open. */
  #opened = 0;
  #isLimitTold = false;

  constructor(memory: SharedMemory, limits?: SlotLimits) {
    this.#memory = memory;
    this.#limits = limits ?? { openMax: OPEN_FILES_MAX, onLimit: () => {} };
  }

  /** Takes or finds the slot of an inode and counts one opener; -ENFILE when no more inodes may be open. */
  open(attributes: Attributes, write: boolean): OpenInode | number {
    let open = this.#byIno.get(attributes.ino);
    if (open === undefined || open.openers === 0) {
      if (this.#opened >= this.#limits.openMax) return this.#refuse();
      if (open === undefined) {
        const slot = this.#free.pop() ?? this.#fresh++;
        if (slot >= INODE_SLOTS) {
          this.#fresh = INODE_SLOTS;
          return this.#refuse();
        }
        open = this.#take(slot, attributes);
      }
      this.#opened += 1;
    }
    open.openers += 1;
    open.opens += 1;
    if (write) open.writers += 1;
    this.#closed.delete(open);
    return open;
  }

  #refuse(): number {
    if (!this.#isLimitTold) {
      this.#isLimitTold = true;
      const { openMax, onLimit } = this.#limits;
      onLimit(
        this.#opened < openMax
          ? `${this.#byIno.size - this.#opened} closed files cannot be stored and keep their places: opening fails ` +
              'with ENFILE until the store takes data again'
          : `${openMax} files are open, which is the bound: opening more fails with ENFILE; close some, or mount ` +
              `with a higher -o max_open_files (${OPEN_FILES_MAX} at most)`,
      );
    }
    return -constants.errno.ENFILE;
  }

  #take(slot: number, attributes: Attributes): OpenInode {
    const { doubles, words } = this.#memory;
    const word = this.#memory.inodeWord(slot, 0);
    words.fill(0, word, word + 16);
    doubles[(word + (inode.SIZE >>> 2)) >>> 1] = attributes.size;
    doubles[(word + (inode.STORED >>> 2)) >>> 1] = attributes.size;
    words[word + (inode.USED >>> 2)] = 1;
    this.setMtime(slot, attributes.mtime);
    doubles[(word + (inode.INO >>> 2)) >>> 1] = attributes.ino;
    const open: OpenInode = {
      slot,
      ino: attributes.ino,
      openers: 0,
      writers: 0,
      opens: 0,
      pending: [],
      applied: 0,
      committedWrites: 0,
      committedBytes: 0,
      forgotten: false,
      dropping: false,
      underWay: 0,
    };
    this.#byIno.set(open.ino, open);
    this.#bySlot[slot] = open;
    return open;
  }

  /** Counts one opener less. True: that was the last one. */
  close(open: OpenInode, write: boolean): boolean {
    if (open.openers === 0) return false;
    open.openers -= 1;
    if (write && open.writers > 0) open.writers -= 1;
    if (open.openers > 0) return false;
    this.#opened -= 1;
    if (this.#opened < this.#limits.openMax * RELIEVED) this.#isLimitTold = false;
    this.#closed.add(open);
    return true;
  }

  /** Gives the slot back: workers have forgotten it. False: not now, the tree does not have all of the inode yet. */
  free(open: OpenInode): boolean {
    if (open.underWay > 0 || this.isDirty(open)) return false;
    this.#closed.delete(open);
    this.#byIno.delete(open.ino);
    this.#bySlot[open.slot] = undefined;
    this.#memory.doubles[this.#memory.inodeWord(open.slot, inode.INO) >>> 1] = 0;
    this.#free.push(open.slot);
    return true;
  }

  bySlot(slot: number): OpenInode | undefined {
    return this.#bySlot[slot];
  }

  byIno(ino: number): OpenInode | undefined {
    return this.#byIno.get(ino);
  }

  all(): Iterable<OpenInode> {
    return this.#byIno.values();
  }

  /** Closed inodes to forget now: the oldest when there are too many, or all of them. */
  closedToDrop(all: boolean): OpenInode[] {
    if (!all && this.#closed.size <= CLOSED_MAX) return [];
    const drop: OpenInode[] = [];
    for (const open of this.#closed) {
      if (!all && drop.length >= CLOSED_BATCH) break;
      if (!open.dropping) drop.push(open);
    }
    return drop;
  }

  sizeOf(slot: number): number {
    return this.#memory.doubles[this.#memory.inodeWord(slot, inode.SIZE) >>> 1];
  }

  setSize(slot: number, size: number): void {
    this.#memory.doubles[this.#memory.inodeWord(slot, inode.SIZE) >>> 1] = size;
  }

  /** What a WRITE takes from the inode: bits of `privilege`. */
  setPrivileges(slot: number, privileges: number): void {
    const { words } = this.#memory;
    Atomics.store(words, this.#memory.inodeWord(slot, inode.PRIVILEGES), privileges);
  }

  /** From now on, a worker that has forgotten the inode must not take any region for empty. */
  forgetStored(slot: number): void {
    this.#memory.doubles[this.#memory.inodeWord(slot, inode.STORED) >>> 1] = Infinity;
  }

  /** Count of writes: differs from `committedWrites` while size and mtime are newer than the tree's. */
  writesOf(slot: number): number {
    return Atomics.load(this.#memory.words, this.#memory.inodeWord(slot, inode.WRITES));
  }

  /** Bytes that were written since the last commit of everything, at most; overwritten ones count again. */
  unsettledOf(slot: number): number {
    const open = this.#bySlot[slot];
    if (open === undefined) return 0;
    return this.#writtenOf(slot) - open.committedBytes;
  }

  /** All that was written so far is in the tree. */
  settled(open: OpenInode): void {
    open.committedBytes = this.#writtenOf(open.slot);
  }

  /** Read as two words: a number that is wrong while the upper one changes harms nobody. */
  #writtenOf(slot: number): number {
    const word = this.#memory.inodeWord(slot, inode.WRITTEN);
    return this.#memory.words[word + 1] * WORD + this.#memory.words[word];
  }

  /** The object is only valid until the next call. */
  mtimeOf(slot: number): Time {
    const word = this.#memory.inodeWord(slot, inode.MTIME);
    const low = this.#memory.words[word];
    this.#time.seconds = this.#memory.signed[word + 1] * 4 + (low >>> 30);
    this.#time.nanoseconds = low & 0x3fff_ffff;
    return this.#time;
  }

  setMtime(slot: number, time: Time): void {
    const word = this.#memory.inodeWord(slot, inode.MTIME);
    const low = ((time.seconds & 3) << 30) | time.nanoseconds;
    this.#memory.words[word] = low >>> 0;
    this.#memory.signed[word + 1] = Math.floor(time.seconds / 4);
  }

  /** Workers may hold data that could not be stored: the inode stays dirty until a later commit. */
  keepDirty(open: OpenInode): void {
    open.committedWrites = -1;
  }

  /** Whether the tree lacks something of the inode. */
  isDirty(open: OpenInode): boolean {
    return open.pending.length > 0 || this.writesOf(open.slot) !== open.committedWrites;
  }
}
