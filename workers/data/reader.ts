/** Answers READs: from plaintext in frames, from chunks and inline bytes, or later, when a region knows more. */
import { constants } from 'node:os';
import { descriptor } from '../../engine/layout.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import { type Commands, regionAt, startAt } from '../commands.ts';
import type { Loader } from './loader.ts';
import { Pool } from './pool.ts';
import type { Region } from './region.ts';
import type { RegionTable } from './region-table.ts';
import { SourceList } from './source-list.ts';

/** READs of stored bytes up to this length are answered by the worker itself: handing them on costs more. */
const URGENT_BYTES = 64 * 1024;
/** READs that are kept for reuse: more than this are seldom parked at once. */
const READS_KEPT = 256;
/** NONE as a signed word, which V8 keeps without allocating. */
const NO_FRAME = -1;

/** A READ of one region, or one that waits to be used again. */
export class ParkedRead {
  /** In bytes from the region's start. */
  start = 0;
  end = 0;
  request = 0;
  /** Where the answer is assembled; NO_FRAME: nowhere, it goes to the kernel. */
  frame: number = NO_FRAME;
  frameOffset = 0;
  /** The next one that is parked at the region. */
  next: ParkedRead | undefined;
}

/** The READs of one worker. Threads: its own. */
export class Reader {
  readonly #memory: SharedMemory;
  readonly #commands: Commands;
  readonly #table: RegionTable;
  readonly #loader: Loader;
  readonly #list: SourceList;
  readonly #reads = new Pool<ParkedRead>(READS_KEPT, () => new ParkedRead());
  /** Has what is dirty of a region settled, so that it lies in fewer pieces. */
  readonly #settle: (region: Region) => void;

  constructor(
    memory: SharedMemory,
    commands: Commands,
    parts: { table: RegionTable; loader: Loader; settle: (region: Region) => void },
  ) {
    this.#memory = memory;
    this.#commands = commands;
    this.#list = new SourceList(commands);
    this.#table = parts.table;
    this.#loader = parts.loader;
    this.#settle = parts.settle;
  }

  /** Answers or parks the READ whose descriptor begins at `word`. */
  read(word: number): void {
    const { signed, words } = this.#memory;
    const index = regionAt(words, word + descriptor.OFFSET);
    const read = this.#reads.take();
    read.start = startAt(words, word + descriptor.OFFSET);
    read.end = read.start + signed[word + descriptor.LENGTH];
    read.request = signed[word + descriptor.A];
    read.frame = signed[word + descriptor.PAYLOAD];
    read.frameOffset = signed[word + descriptor.PAYLOAD + 1];
    this.#answer(this.#table.region(signed[word + descriptor.INODE], index), read);
  }

  /** Tries again what is parked at a region that has changed. */
  unpark(region: Region): void {
    let read = region.parked;
    region.parked = undefined;
    while (read !== undefined) {
      const { next } = read;
      read.next = undefined;
      this.#answer(region, read);
      read = next;
    }
  }

  /** Fails what is parked at a region. */
  failParked(region: Region, errno: number): void {
    let read = region.parked;
    region.parked = undefined;
    while (read !== undefined) {
      const { next } = read;
      read.next = undefined;
      this.#fail(read, errno);
      read = next;
    }
  }

  /** Answers a READ and lets go of it, or parks it. */
  #answer(region: Region, read: ParkedRead): void {
    // Plaintext that is becoming ciphertext cannot be read; the store will have it.
    if (region.job?.inPlace !== undefined) return park(region, read);
    if (!region.knows(read.start, read.end)) {
      park(region, read);
      return this.#loader.load(region);
    }
    const bytes = read.end - read.start;
    this.#commands.read(read.request, read.frame, read.frameOffset, bytes);
    const list = this.#list.begin();
    if (region.sources(read.start, read.end, list) < read.end) {
      this.#commands.takeBack();
      return this.#readLater(region, read);
    }
    list.end();
    if (list.inMemory || bytes <= URGENT_BYTES) this.#commands.makeUrgent();
    this.#reads.give(read);
  }

  /** The range lies in more pieces than a command can name: once they are stored, it lies in a few extents. */
  #readLater(region: Region, read: ParkedRead): void {
    const { count } = region.pieces;
    region.dropClean(this.#commands);
    if (region.isSettled && region.pieces.count < count) return this.#answer(region, read);
    // Where nothing is dirty no settle comes that would help.
    if (region.failures > 0 || region.isSettled) return this.#fail(read, constants.errno.EIO);
    park(region, read);
    this.#settle(region);
  }

  #fail(read: ParkedRead, errno: number): void {
    // A part of an assembled answer must be counted down: an impossible range fails it natively.
    if (read.frame === NO_FRAME) this.#commands.reply(read.request, errno);
    else this.#commands.failPart(read.request, errno);
    this.#reads.give(read);
  }
}

/** Puts a READ behind those that wait at the region. */
function park(region: Region, read: ParkedRead): void {
  if (region.parked === undefined) {
    region.parked = read;
    return;
  }
  let last = region.parked;
  while (last.next !== undefined) last = last.next;
  last.next = read;
}
