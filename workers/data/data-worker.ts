/**
 * A data worker: it owns regions of open inodes, gathers what fronts send for them, and decides what is settled when.
 * Several data workers serve one file at once; each region has one owner (invariant 7).
 *
 *     PIECE ─► Region.put ─► Settler       READ ─► Reader ─┬► SourceList: where the bytes come from
 *     SETTLED, SYNC ───────► Settler                       └► Loader: asks the tree (KNOWN, LOADED)
 *
 * This file reads descriptors and connects those parts; it does itself what ends content: discards and forgotten
 * inodes. A PIECE, a READ and a chunk settled in place allocate nothing once the worker has seen as many at once.
 */
import { descriptor, kind, REGION_BYTES, TREE_WORKER } from '../../engine/layout.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import { type Commands, doubleAt, Message, regionAt, startAt } from '../commands.ts';
import { Loader } from './loader.ts';
import { Reader } from './reader.ts';
import type { Region } from './region.ts';
import { type InodeRegions, RegionTable } from './region-table.ts';
import { Settler } from './settler.ts';
import { SourceList } from './source-list.ts';
import type { TreeHalf } from './tree-half.ts';
import { release } from './waiter.ts';

/** One data worker's state and decisions. Threads: its own. */
export class DataWorker {
  readonly #commands: Commands;
  readonly #words: Uint32Array;
  readonly #message = new Message();
  readonly #list: SourceList;
  readonly #table: RegionTable;
  readonly #loader: Loader;
  readonly #settler: Settler;
  readonly #reader: Reader;
  readonly #tree: TreeHalf | undefined;

  /** `tree` is given where the tree worker is on the same thread: it then need not be sent messages. */
  constructor(memory: SharedMemory, commands: Commands, tree?: TreeHalf) {
    this.#commands = commands;
    this.#tree = tree;
    this.#words = memory.words;
    this.#list = new SourceList(commands);
    const table = new RegionTable(memory);
    const loader = new Loader(memory, commands, table);
    const ended = (region: Region): void => this.#reader.unpark(region);
    const settle = (region: Region): void => this.#settler.settle(region);
    this.#table = table;
    this.#loader = loader;
    this.#settler = new Settler(memory, commands, { table, loader, ended, tree });
    this.#reader = new Reader(memory, commands, { table, loader, settle });
  }

  /** Handles one descriptor, given by the index of its first word. */
  handle(word: number): void {
    const words = this.#words;
    const slot = words[word + descriptor.INODE];
    const a = words[word + descriptor.A];
    switch (words[word + descriptor.KIND]) {
      case kind.PIECE:
        return this.#piece(word, slot);
      case kind.READ:
        return this.#reader.read(word);
      case kind.SETTLED:
        return this.#settler.settled(word);
      case kind.SYNC:
        return this.#sync(slot, a, words[word + descriptor.B]);
      case kind.KNOWN:
        return this.#loader.known(word);
      case kind.LOADED:
        return this.#loaded(word);
      case kind.INLINED:
        return this.#settler.inlined(slot);
      case kind.DISCARD:
        return this.#discard(word, slot);
      case kind.DROP:
        return this.#drop(slot, a, words[word + descriptor.B] === 1);
      case kind.RELOAD:
        return this.#reload(slot, a);
      case kind.SETTLE_ALL:
        return this.#settler.awaitAll((errno) => this.#acknowledge(a, errno));
      case kind.FENCE:
        return this.#acknowledge(a, 0);
      case kind.PRESSURE:
        return; // `relieve` runs after each turn.
      default:
        throw new Error(`a data worker got a descriptor of kind ${words[word + descriptor.KIND]}`);
    }
  }

  /** After the descriptors of a turn: frees frames when they are short, and tries failed settles again. */
  relieve(): void {
    this.#settler.relieve();
  }

  /** How long the worker may sleep, in microseconds. */
  get patienceMicros(): number {
    return this.#table.failing.size > 0 ? 20_000 : 10_000_000;
  }

  // ---- payloads ----

  #piece(word: number, slot: number): void {
    const words = this.#words;
    const start = startAt(words, word + descriptor.OFFSET);
    const end = start + words[word + descriptor.LENGTH];
    const frame = words[word + descriptor.A];
    const region = this.#table.region(slot, regionAt(words, word + descriptor.OFFSET));
    region.put(start, end, frame, words[word + descriptor.B], this.#commands);
    this.#settler.wrote(region);
  }

  #sync(slot: number, request: number, workers: number): void {
    const done = (errno: number): void => {
      // Where others are asked as well, what they have told the tree worker must be heard first; and so must inline
      // content that native code gathers when this turn ends.
      const isAlone = workers === 1 && this.#table.find(slot, 0)?.inlineBusy !== true;
      if (isAlone && this.#tree?.commit(slot, request, errno) === true) return;
      this.#commands.syncDone(request, errno, slot);
    };
    const inode = this.#table.inode(slot);
    if (inode === undefined) done(0);
    else this.#settler.await(inode.active, false, done);
  }

  // ---- the tree's knowledge ----

  /** The tree worker has told what a region holds, or that it cannot. */
  #loaded(word: number): void {
    const region = this.#loader.answered(word);
    if (region === undefined) return;
    const errno = this.#words[word + descriptor.B];
    if (errno !== 0) return this.#loadFailed(region, errno);
    const isInline = this.#words[word + descriptor.A] === 1;
    const holes = region.loaded(isInline ? this.#words[word + descriptor.LENGTH] : -1);
    for (const { start, end } of holes) this.#discardInline(region, start, end);
    this.#reader.unpark(region);
    if (region.settleWhenLoaded) {
      region.settleWhenLoaded = false;
      this.#settler.settle(region);
    }
  }

  /** The tree cannot tell: who reads gets the error; what is dirty stays dirty and is tried again. */
  #loadFailed(region: Region, errno: number): void {
    region.loading = false;
    this.#reader.failParked(region, errno);
    if (region.settleWhenLoaded) {
      region.settleWhenLoaded = false;
      this.#settler.loadFailed(region, errno);
    }
  }

  // ---- discards and the end of an inode ----

  #discard(word: number, slot: number): void {
    const offset = doubleAt(this.#words, word + descriptor.OFFSET);
    const end = offset + doubleAt(this.#words, word + descriptor.PAYLOAD);
    const token = this.#words[word + descriptor.A];
    const inode = this.#table.inode(slot);
    if (inode !== undefined) {
      if (end === Number.POSITIVE_INFINITY) {
        inode.emptyFrom = Math.min(inode.emptyFrom, Math.ceil(offset / REGION_BYTES));
      }
      const [first, behind] = [Math.floor(offset / REGION_BYTES), Math.ceil(end / REGION_BYTES)];
      for (const region of inode.between(first, behind)) {
        const from = Math.max(0, offset - region.offset);
        this.#discardIn(region, from, Math.min(REGION_BYTES, end - region.offset));
      }
    }
    this.#acknowledge(token, 0);
  }

  #discardIn(region: Region, start: number, end: number): void {
    region.cut(start, end, this.#commands);
    const offset = region.offset + start;
    region.change({ kind: 'discard', offset, length: end - start });
    if (start === 0 && end === REGION_BYTES && !region.loading) region.becomesHole();
    region.job?.trim(start, end);
    if (region.inlineBytes > start) this.#discardInline(region, start, end);
    if (region.isSettled) {
      this.#table.rests(region);
      for (const { waiter } of region.waiters.splice(0)) release(waiter, 0);
    }
  }

  #discardInline(region: Region, start: number, end: number): void {
    if (end >= region.inlineBytes) {
      region.inlineBytes = start === 0 ? -1 : start;
      return;
    }
    this.#commands.inline(region.slot, start);
    const list = this.#list.begin();
    list.zero(end - start);
    list.end();
  }

  /**
   * Nobody has the inode open any more: forget it, but not before its data is stored. Where somebody has opened it again
   * and reads, it stays: the tree will ask once more.
   */
  #drop(slot: number, token: number, discard: boolean): void {
    const inode = this.#table.inode(slot);
    if (inode === undefined) return this.#acknowledge(token, 0);
    if (discard) {
      for (const region of inode.regions.values()) this.#discardIn(region, 0, REGION_BYTES);
    }
    this.#forget(inode, token);
  }

  #forget(inode: InodeRegions, token: number): void {
    this.#settler.await(inode.active, true, (errno) => {
      // The inode may have been opened and written again since: that has to be stored first, too.
      if (inode.active.size > 0) return this.#forget(inode, token);
      if (!isRead(inode)) {
        for (const region of inode.regions.values()) region.dropAll(this.#commands);
        this.#loader.forget(inode);
        this.#table.forget(inode);
      }
      this.#acknowledge(token, errno);
    });
  }

  /** The tree changes the content: what is dirty is stored before, and what is stored must be asked for anew. */
  #reload(slot: number, token: number): void {
    const inode = this.#table.inode(slot);
    if (inode === undefined) return this.#acknowledge(token, 0);
    this.#settler.await(inode.active, false, (errno) => {
      inode.emptyFrom = Number.POSITIVE_INFINITY;
      for (const region of inode.regions.values()) region.unlearn(this.#commands);
      this.#acknowledge(token, errno);
    });
  }

  #acknowledge(token: number, errno: number): void {
    const message = this.#message.begin(kind.ACK, 0, 0, 0).a(token).b(errno);
    this.#commands.push(TREE_WORKER, message.words);
  }
}

/** Whether READs wait for a region. */
function isRead(inode: InodeRegions): boolean {
  for (const region of inode.regions.values()) {
    if (region.parked !== undefined) return true;
  }
  return false;
}
