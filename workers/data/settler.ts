/**
 * Decides how and when plaintext becomes stored chunks, and tells who waits for that.
 *
 * A *settle* turns plaintext into a stored chunk: in place when the whole region lies in frames, from a copy when a
 * part of it does (an append may still need the plaintext), into the inode's inline cell when the file is tiny.
 *
 *     settle ──► in place | copy ──► (mover) ──► SETTLED ──► stored | failed ──► ended: waiters, READs, the next settle
 *           └──► inline ──► (tree worker) ─────────────────────────────────────► ended
 */
import { constants } from 'node:os';
import {
  CHUNK_ID_BYTES,
  descriptor,
  header,
  INLINE_BYTES,
  kind,
  REGION_BYTES,
  TREE_WORKER,
  WORD_BYTES,
} from '../../engine/layout.ts';
import { REGION_EXTENTS_MAX } from '../../engine/limits.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import type { Extent } from '../../engine/tree/types.ts';
import { type Commands, Message } from '../commands.ts';
import type { LinkedList } from './links.ts';
import type { Loader } from './loader.ts';
import { PIECE } from './pieces.ts';
import { EXTENTS_KEPT, type Region, type Stretch } from './region.ts';
import type { RegionTable } from './region-table.ts';
import { type Range, type SettleJob, SettleJobs, WHOLE_REGION } from './settle-job.ts';
import { PIECES_LISTED, SourceList } from './source-list.ts';
import type { TreeHalf } from './tree-half.ts';
import { newWaiter, release, type Waiter } from './waiter.ts';

/** A region in more pieces than this is settled from a copy, part by part: a list of sources names no more. */
const PIECES_MAX = PIECES_LISTED;
/** A region with more stretches of content than this is rewritten as one, its holes filled with zeros. */
const STRETCHES_MAX = 512;
/** First wait before a failed settle is tried again, and the longest, in milliseconds. */
const RETRY_MS = 50;
const RETRY_MS_MAX = 2000;

/** The settles of one worker. Threads: its own. */
export class Settler {
  readonly #words: Uint32Array;
  readonly #commands: Commands;
  readonly #table: RegionTable;
  readonly #loader: Loader;
  readonly #list: SourceList;
  readonly #message = new Message();
  readonly #jobs = new SettleJobs();
  /** Called when a settle of a region has ended: READs may wait for that. */
  readonly #ended: (region: Region) => void;
  readonly #memory: SharedMemory;
  readonly #tree: TreeHalf | undefined;

  constructor(
    memory: SharedMemory,
    commands: Commands,
    parts: {
      table: RegionTable;
      loader: Loader;
      ended: (region: Region) => void;
      tree: TreeHalf | undefined;
    },
  ) {
    this.#memory = memory;
    this.#tree = parts.tree;
    this.#words = memory.words;
    this.#commands = commands;
    this.#list = new SourceList(commands);
    this.#table = parts.table;
    this.#loader = parts.loader;
    this.#ended = parts.ended;
  }

  // ---- starting ----

  /** A piece was put into the region: settles it when there is no reason to wait for more. */
  wrote(region: Region): void {
    this.#table.wrote(region);
    if (region.isFull || region.pieces.count > PIECES_MAX) this.settle(region);
  }

  /** Starts to settle what is dirty, unless a job runs already or the region must be loaded first. */
  settle(region: Region): void {
    if (region.job !== undefined || region.dirtyBytes === 0) return;
    if (region.isFull && region.pieces.count <= PIECES_MAX) return this.#settleInPlace(region);
    // Region 0 may be inline, and extents are joined when there are many: who adds one must know what is stored.
    if (region.extents === undefined) {
      region.settleWhenLoaded = true;
      return this.#loader.load(region);
    }
    if (fitsInline(region)) {
      if (!region.inlineBusy) this.#settleInline(region);
      return;
    }
    this.#settleCopy(region);
  }

  #begin(region: Region): SettleJob {
    this.#table.dirty.remove(region.dirtyLink);
    this.#table.failing.delete(region);
    return this.#jobs.begin(region);
  }

  /** The whole region lies in frames: they become the chunk. */
  #settleInPlace(region: Region): void {
    const job = this.#begin(region);
    this.#commands.settle(job.number, true, REGION_BYTES);
    const list = this.#list.begin();
    region.sources(0, REGION_BYTES, list);
    list.end();
    job.bytes = REGION_BYTES;
    job.inPlace = region.takePieces();
    this.#table.clean.remove(region.cleanLink);
  }

  /** A part of the region lies in frames: a copy of what is dirty becomes a chunk. */
  #settleCopy(region: Region): void {
    const dirty = region.dirtyStretches();
    const stretches = stretchesToSettle(region, dirty);
    const ranges: Range[] = [];
    const job = this.#begin(region);
    job.joins = stretches !== dirty;
    this.#commands.settle(job.number, false, 0);
    const list = this.#list.begin();
    for (const { start, end } of stretches) {
      const chunkOffset = list.bytes;
      ranges.push({ start, end: region.sources(start, end, list), chunkOffset });
      if (list.isFull) break;
    }
    list.end();
    this.#commands.setBytes(list.bytes);
    job.bytes = list.bytes;
    job.ranges = ranges;
    pin(region, ranges);
    if (region.dirtyBytes > 0) {
      // The list was full: what is left needs one more job, which everybody who waits must see end.
      job.isCut = true;
      this.#table.dirty.add(region.dirtyLink);
      for (const entry of region.waiters) entry.target += 1;
    }
  }

  /** A tiny file: its bytes go into the inline cell, and from there into the tree. */
  #settleInline(region: Region): void {
    const end = region.contentEnd;
    const isCopied = this.#copyToCell(region, end);
    for (let from = 0; from < end && !isCopied; ) {
      this.#commands.inline(region.slot, from);
      const list = this.#list.begin();
      from = region.sources(from, end, list);
      list.end();
    }
    region.dropAll(this.#commands);
    region.inlineBytes = end;
    this.#table.dirty.remove(region.dirtyLink);
    this.#table.clean.remove(region.cleanLink);
    if (isCopied) {
      this.#tree?.inline(region.slot, end);
      return this.#end(region, 0);
    }
    region.inlineBusy = true;
    const message = this.#message.begin(kind.INLINE, region.slot, 0, end);
    this.#commands.push(TREE_WORKER, message.a(this.#commands.worker).words);
    // The tree worker gets this before any COMMIT that follows: who waits need not wait for its answer.
    this.#end(region, 0);
  }

  /**
   * Copies the content into the inline cell here and now, where it is one piece and the tree worker on this thread can
   * take it at once. False: native code must do it, when the turn ends.
   */
  #copyToCell(region: Region, end: number): boolean {
    if (this.#tree === undefined || region.pieces.count !== 1) return false;
    const { start, end: pieceEnd, frame, at } = region.pieces.at(0);
    if (start !== 0 || pieceEnd !== end) return false;
    const bytes = this.#memory.frameBytes(frame, at + end).subarray(at);
    this.#memory.inlineCell(region.slot, end).set(bytes);
    return true;
  }

  /** The inline cell of an inode is free again. */
  inlined(slot: number): void {
    const region = this.#table.find(slot, 0);
    if (region === undefined) return;
    region.inlineBusy = false;
    if (region.dirtyBytes > 0 && region.waiters.length > 0) this.settle(region);
  }

  // ---- ending ----

  /** A mover has done the job that the descriptor at `word` is about. */
  settled(word: number): void {
    const job = this.#jobs.get(this.#words[word + descriptor.A]);
    const errno = this.#words[word + descriptor.B];
    const { region, inPlace, joins } = job;
    region.job = undefined;
    if (errno === 0) this.#stored(job, word + descriptor.PAYLOAD);
    else this.#failed(job);
    if (inPlace !== undefined) region.returnPieces(inPlace);
    job.inPlace = undefined;
    for (let i = 0; i < job.deferred.length; i++) this.#commands.free(job.deferred[i]);
    this.#jobs.end(job);
    if (joins && errno === constants.errno.EIO && this.#settleApart(region)) return;
    this.#end(region, errno);
  }

  /**
   * What is stored could perhaps not be read, so that it was not joined with what is dirty: has the dirty part stored
   * alone, and does not try the other again before the region has twice as many extents. False: it must be joined.
   */
  #settleApart(region: Region): boolean {
    const stored = region.extents?.length ?? 0;
    if (stored >= REGION_EXTENTS_MAX || region.inlineBytes > 0) return false;
    region.joinsAt = Math.min(Math.max(region.joinsAt, 2 * stored), REGION_EXTENTS_MAX);
    this.settle(region);
    return region.job !== undefined;
  }

  /** The chunk is in the store; its id lies in the word `idWord` and those behind it. */
  #stored(job: SettleJob, idWord: number): void {
    const { region } = job;
    region.failures = 0;
    if (job.joins) region.joinsAt = EXTENTS_KEPT;
    if (job.ranges === WHOLE_REGION && !region.loading) {
      this.#tell(region, region.becomesChunk(this.#words, idWord));
    } else {
      this.#storedRanges(job, this.#words.slice(idWord, idWord + CHUNK_ID_BYTES / WORD_BYTES));
    }
    if (job.inPlace !== undefined) return;
    for (let i = 0; i < region.pieces.count; i++) {
      const piece = region.pieces.at(i);
      if (piece.state === PIECE.SETTLING) piece.state = PIECE.CLEAN;
    }
    // A job that follows must not list again what this one has stored, or it would come no further.
    const isMuch = job.isCut || region.pieces.count > PIECES_MAX / 2;
    if (isMuch) region.dropClean(this.#commands);
    if (region.pieces.count > 0) this.#table.clean.add(region.cleanLink);
  }

  #storedRanges(job: SettleJob, id: Uint32Array): void {
    const { region } = job;
    if (region.inlineBytes >= 0) {
      region.inlineBytes = -1;
      if (region.extents === undefined) region.becomesHole();
    }
    for (const range of job.ranges) {
      const extent: Extent = {
        offset: region.offset + range.start,
        length: range.end - range.start,
        chunkOffset: range.chunkOffset,
        chunkLength: job.bytes,
        id,
      };
      region.change({ kind: 'extent', extent });
      this.#tell(region, extent);
    }
  }

  #tell(region: Region, extent: Extent): void {
    const { slot, index } = region;
    if (this.#tree !== undefined) return this.#tree.extent(slot, extent);
    const start = extent.offset - index * REGION_BYTES;
    const message = this.#message.beginInRegion(kind.EXTENT, slot, index, start, extent.length);
    message.a(extent.chunkLength).b(extent.chunkOffset).id(extent.id);
    this.#commands.push(TREE_WORKER, message.words);
  }

  /** Nothing is lost: the plaintext is dirty again, and will be tried again. */
  #failed(job: SettleJob): void {
    const { region, inPlace } = job;
    for (let i = 0; inPlace !== undefined && i < inPlace.count; i++) {
      const piece = inPlace.at(i);
      // What was discarded meanwhile must not come back: only what is left of the ranges does.
      for (const range of job.ranges) {
        const start = Math.max(piece.start, range.start);
        const end = Math.min(piece.end, range.end);
        if (start < end) region.putBelow(piece, start, end, this.#commands);
      }
      this.#commands.free(piece.frame);
    }
    for (let i = 0; i < region.pieces.count; i++) {
      const piece = region.pieces.at(i);
      if (piece.state !== PIECE.SETTLING) continue;
      piece.state = PIECE.DIRTY;
      region.dirtyBytes += piece.end - piece.start;
    }
    const delay = Math.min(RETRY_MS * 2 ** region.failures, RETRY_MS_MAX);
    region.failures += 1;
    this.#retryAfter(region, delay);
    this.#table.dirty.add(region.dirtyLink);
  }

  #retryAfter(region: Region, milliseconds: number): void {
    region.retryAt = performance.now() + milliseconds;
    this.#table.failing.add(region);
  }

  /** The tree could not tell what a region that must be settled has stored. */
  loadFailed(region: Region, errno: number): void {
    this.#retryAfter(region, RETRY_MS_MAX);
    this.#end(region, errno);
  }

  /** A settle of the region has been tried: tells who waits for it, and starts the next one where it is wanted. */
  #end(region: Region, errno: number): void {
    region.settles += 1;
    if (region.isSettled) this.#table.rests(region);
    else if (region.dirtyBytes > 0) this.#table.dirty.add(region.dirtyLink);
    if (region.waiters.length > 0) endWaits(region, errno);
    this.#ended(region);
    if (region.dirtyBytes > 0 && region.job === undefined && !this.#table.failing.has(region)) {
      if (region.waiters.length > 0 || region.isFull) this.settle(region);
    }
  }

  // ---- waiting ----

  /** Has what is dirty in these regions settled, and `done` told when that was tried: with the first errno, or 0. */
  await(regions: LinkedList<Region>, patient: boolean, done: (errno: number) => void): void {
    const waiter = newWaiter(patient, done);
    waiter.remaining += 1;
    this.#wait(regions, waiter);
    release(waiter, 0);
  }

  /** The same for all regions of the worker. */
  awaitAll(done: (errno: number) => void): void {
    const waiter = newWaiter(false, done);
    waiter.remaining += 1;
    for (const inode of this.#table.inodes()) this.#wait(inode.active, waiter);
    release(waiter, 0);
  }

  #wait(regions: LinkedList<Region>, waiter: Waiter): void {
    for (const region of regions.toArray()) {
      if (region.isSettled) continue;
      const running = region.job !== undefined ? 1 : 0;
      const target = region.settles + running + (region.dirtyBytes > 0 ? 1 : 0);
      waiter.remaining += 1;
      region.waiters.push({ waiter, target });
      this.settle(region);
    }
  }

  // ---- memory ----

  /** After the descriptors of a turn: frees frames when they are short, and tries failed settles again. */
  relieve(): void {
    if (Atomics.load(this.#words, header.PRESSURE >>> 2) === 1) this.#evict();
    if (this.#table.failing.size === 0) return;
    const now = performance.now();
    for (const region of this.#table.failing) {
      if (region.retryAt <= now && region.job === undefined) this.settle(region);
    }
  }

  /** Frees frames: what is stored already at once, what is dirty by settling it, oldest first. */
  #evict(): void {
    const { clean, dirty, failing } = this.#table;
    for (let link = clean.first; link !== undefined; link = clean.first) {
      link.owner.dropClean(this.#commands);
      clean.remove(link);
    }
    // While chunks are being settled, their frames come free soon: breaking up half-filled regions would only hurt.
    if (Atomics.load(this.#words, header.SETTLING >>> 2) > 0) return;
    let left = Math.ceil(dirty.size / 2);
    for (const region of dirty.toArray()) {
      if (left-- <= 0) break;
      if (!failing.has(region)) this.settle(region);
    }
  }
}

function fitsInline(region: Region): boolean {
  const stored = region.extents?.length ?? 0;
  return region.index === 0 && stored === 0 && region.contentEnd <= INLINE_BYTES;
}

/**
 * What is dirty; or everything, when what is stored is inline or in too many extents.
 *
 * Joining waits until it makes them half as many, so that what it writes again is paid for by many settles. However a
 * region came about, after a settle it has at most 2 * STRETCHES_MAX extents, and one more for each stretch that was
 * dirty; up to REGION_EXTENTS_MAX and as many where some cannot be read.
 */
function stretchesToSettle(region: Region, dirty: Stretch[]): Stretch[] {
  if (region.inlineBytes > 0) return region.stretches();
  const stored = region.extents?.length ?? 0;
  // After a failure only what is new is tried: what is stored already may be what cannot be read.
  if (region.failures > 0 && stored < REGION_EXTENTS_MAX) return dirty;
  const extents = stored + dirty.length;
  if (extents <= region.joinsAt) return dirty;
  const stretches = region.stretches();
  if (stretches.length > STRETCHES_MAX) return [{ start: 0, end: region.contentEnd }];
  return extents > 2 * stretches.length ? stretches : dirty;
}

/** Keeps the frames of all pieces in these ranges, clean ones too, for as long as the job may read them. */
function pin(region: Region, ranges: readonly Range[]): void {
  let r = 0;
  for (let i = 0; i < region.pieces.count; i++) {
    const piece = region.pieces.at(i);
    while (r < ranges.length && ranges[r].end <= piece.start) r += 1;
    if (r === ranges.length) return;
    if (piece.end <= ranges[r].start) continue;
    if (piece.state === PIECE.DIRTY) region.dirtyBytes -= piece.end - piece.start;
    piece.state = PIECE.SETTLING;
  }
}

/** Tells those who need not wait for more settles of the region. */
function endWaits(region: Region, errno: number): void {
  const waiting = region.waiters;
  region.waiters = [];
  for (const entry of waiting) {
    const failed = errno !== 0 && !entry.waiter.patient;
    const reached = region.settles >= entry.target && (errno === 0 || !entry.waiter.patient);
    if (failed || reached || region.isSettled) release(entry.waiter, errno);
    else region.waiters.push(entry);
  }
}
