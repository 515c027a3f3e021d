/**
 * A data worker: it owns regions of open inodes, gathers what fronts send for them, and decides what is settled when.
 * Several data workers serve one file at once; each region has one owner (invariant 7).
 *
 * A *settle* turns plaintext into a stored chunk: in place when the whole region lies in frames, from a copy when a
 * part of it does (an append may still need the plaintext), into the inode's inline cell when the file is tiny.
 */
import { constants } from 'node:os';
import {
  descriptor,
  header,
  INLINE_BYTES,
  inode,
  kind,
  NONE,
  REGION_BYTES,
  TREE_WORKER,
} from '../../engine/layout.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import type { Extent } from '../../engine/tree/types.ts';
import { type Commands, doubleAt, Message } from '../commands.ts';
import {
  type ParkedRead,
  PIECE,
  type Range,
  Region,
  type SettleJob,
  type Waiter,
} from './region.ts';
import { PIECES_LISTED, SourceList } from './source-list.ts';

/** A region in more pieces than this is settled from a copy, part by part: a list of sources names no more. */
const PIECES_MAX = PIECES_LISTED;
/** A region in more extents than this is rewritten as one extent per stretch. */
const EXTENTS_MAX = 64;
/** A region in more extents than this is rewritten as one, its holes filled with zeros. */
const EXTENTS_DENSE = 512;
/** Regions of one inode that a worker remembers without need. */
const REGIONS_KEPT = 4096;
/** READs of stored bytes up to this length are answered by the worker itself: handing them on costs more. */
const URGENT_BYTES = 64 * 1024;
/** First wait before a failed settle is tried again, and the longest, in milliseconds. */
const RETRY_MS = 50;
const RETRY_MS_MAX = 2000;

/** What a worker knows of one inode slot. */
interface SlotState {
  readonly slot: number;
  readonly regions: Map<number, Region>;
  /** Regions that are not settled. */
  readonly active: Set<Region>;
  /** Regions from this index on that are not in `regions` are empty in the store. */
  emptyFrom: number;
}

/** One data worker's state and decisions. Threads: its own. */
export class DataWorker {
  readonly #memory: SharedMemory;
  readonly #commands: Commands;
  readonly #words: Uint32Array;
  readonly #message = new Message();
  readonly #list = new SourceList();
  readonly #slots = new Map<number, SlotState>();
  readonly #jobs = new Map<number, SettleJob>();
  /** Regions with dirty bytes, oldest first: a Set keeps the order in which they became dirty. */
  readonly #dirty = new Set<Region>();
  /** Regions with clean pieces, whose frames can be had at any time. */
  readonly #clean = new Set<Region>();
  readonly #failing = new Set<Region>();
  #jobNumber = 0;

  constructor(memory: SharedMemory, commands: Commands) {
    this.#memory = memory;
    this.#commands = commands;
    this.#words = memory.words;
  }

  /** Handles one descriptor, given by the index of its first word. */
  handle(word: number): void {
    const words = this.#words;
    const slot = words[word + descriptor.INODE];
    const a = words[word + descriptor.A];
    const b = words[word + descriptor.B];
    const length = words[word + descriptor.LENGTH];
    const offset = doubleAt(words, word + descriptor.OFFSET);
    switch (words[word + descriptor.KIND]) {
      case kind.PIECE:
        return this.#piece(slot, offset, length, a, b);
      case kind.READ:
        return this.#read(word, slot, offset, length);
      case kind.SETTLED:
        return this.#settled(a, b, words.slice(word + descriptor.PAYLOAD, word + descriptor.WORDS));
      case kind.SYNC:
        return this.#sync(slot, a);
      case kind.KNOWN:
        return this.#known(word, slot, offset, length);
      case kind.LOADED:
        return this.#loaded(word, slot, offset, length);
      case kind.INLINED:
        return this.#inlined(slot);
      case kind.DISCARD:
        return this.#discard(slot, offset, doubleAt(words, word + descriptor.PAYLOAD), a);
      case kind.DROP:
        return this.#drop(slot, a, b === 1);
      case kind.SETTLE_ALL:
        return this.#settleAll(a);
      case kind.PRESSURE:
        return; // `relieve` runs after each turn.
      default:
        throw new Error(`a data worker got a descriptor of kind ${words[word + descriptor.KIND]}`);
    }
  }

  /** After the descriptors of a turn: frees frames when they are short, and tries failed settles again. */
  relieve(): void {
    if (Atomics.load(this.#words, header.PRESSURE >>> 2) === 1) this.#evict();
    if (this.#failing.size === 0) return;
    const now = performance.now();
    for (const region of this.#failing) {
      if (region.retryAt <= now && region.job === undefined) this.#settle(region);
    }
  }

  /** How long the worker may sleep, in microseconds. */
  get patienceMicros(): number {
    return this.#failing.size > 0 ? 20_000 : 10_000_000;
  }

  // ---- writes ----

  #piece(slot: number, offset: number, length: number, frame: number, at: number): void {
    const region = this.#region(slot, Math.floor(offset / REGION_BYTES));
    const start = offset - region.offset;
    region.put(start, start + length, frame, at, this.#commands);
    this.#touch(region);
    if (region.isFull || region.pieces.length > PIECES_MAX) this.#settle(region);
  }

  /** Forgets the oldest regions of an inode that need no work: the tree can tell them again. */
  #prune(state: SlotState): void {
    for (const region of state.regions.values()) {
      if (state.regions.size <= REGIONS_KEPT / 2) return;
      const isIdle = region.isSettled && !region.loading && region.parked.length === 0;
      if (!isIdle || region.pieces.length > 0 || region.inlineBusy) continue;
      state.regions.delete(region.index);
      state.emptyFrom = Math.max(state.emptyFrom, region.index + 1);
    }
  }

  #touch(region: Region): void {
    this.#dirty.add(region);
    this.#slot(region.slot).active.add(region);
  }

  #slot(slot: number): SlotState {
    let state = this.#slots.get(slot);
    if (state === undefined) {
      const stored = this.#memory.doubles[this.#memory.inodeWord(slot, inode.STORED) >>> 1];
      const emptyFrom = Math.ceil(stored / REGION_BYTES);
      state = { slot, regions: new Map(), active: new Set(), emptyFrom };
      this.#slots.set(slot, state);
    }
    return state;
  }

  #region(slot: number, index: number): Region {
    const state = this.#slot(slot);
    let region = state.regions.get(index);
    if (region === undefined) {
      region = new Region(slot, index);
      if (index >= state.emptyFrom) region.extents = [];
      if (state.regions.size >= REGIONS_KEPT) this.#prune(state);
      state.regions.set(index, region);
    }
    return region;
  }

  // ---- settling ----

  /** Starts to settle what is dirty, unless a job runs already or the region must be loaded first. */
  #settle(region: Region): void {
    if (region.job !== undefined || region.dirtyBytes === 0) return;
    if (region.isFull && region.pieces.length <= PIECES_MAX) return this.#settleInPlace(region);
    // Region 0 may be inline, and many extents want to be joined: both need to know what is stored.
    const mustKnow = region.index === 0 || region.pieces.length > EXTENTS_MAX;
    if (mustKnow && region.extents === undefined) {
      region.settleWhenLoaded = true;
      return this.#load(region);
    }
    if (this.#fitsInline(region)) {
      if (!region.inlineBusy) this.#settleInline(region);
      return;
    }
    this.#settleCopy(region);
  }

  #fitsInline(region: Region): boolean {
    const stored = region.extents?.length ?? 0;
    return region.index === 0 && stored === 0 && region.contentEnd <= INLINE_BYTES;
  }

  #newJob(region: Region, bytes: number, ranges: Range[], inPlace: boolean): SettleJob {
    const job: SettleJob = {
      number: this.#jobNumber++ >>> 0,
      region,
      bytes,
      ranges,
      inPlace: inPlace ? region.pieces : undefined,
      deferred: [],
    };
    region.job = job;
    this.#jobs.set(job.number, job);
    this.#dirty.delete(region);
    this.#failing.delete(region);
    return job;
  }

  /** The whole region lies in frames: they become the chunk. */
  #settleInPlace(region: Region): void {
    const list = this.#list.clear();
    region.sources(0, REGION_BYTES, list);
    const range = { start: 0, end: REGION_BYTES, chunkOffset: 0 };
    const job = this.#newJob(region, REGION_BYTES, [range], true);
    region.pieces = [];
    region.coveredBytes = 0;
    region.dirtyBytes = 0;
    this.#clean.delete(region);
    this.#commands.settle(job.number, true, REGION_BYTES, list.count);
    list.write(this.#commands);
  }

  /** A part of the region lies in frames: a copy of what is dirty becomes a chunk. */
  #settleCopy(region: Region): void {
    const list = this.#list.clear();
    const ranges: Range[] = [];
    for (const { start, end } of this.#stretchesToSettle(region)) {
      const chunkOffset = list.bytes;
      ranges.push({ start, end: region.sources(start, end, list), chunkOffset });
      if (list.isFull) break;
    }
    const job = this.#newJob(region, list.bytes, ranges, false);
    this.#pin(region, ranges);
    if (region.dirtyBytes > 0) {
      // The list was full: what is left needs one more job, which everybody who waits must see end.
      this.#dirty.add(region);
      for (const entry of region.waiters) entry.target += 1;
    }
    this.#commands.settle(job.number, false, list.bytes, list.count);
    list.write(this.#commands);
  }

  /** Keeps the frames of all pieces in these ranges, clean ones too, for as long as the job may read them. */
  #pin(region: Region, ranges: readonly Range[]): void {
    let r = 0;
    for (const piece of region.pieces) {
      while (r < ranges.length && ranges[r].end <= piece.start) r += 1;
      if (r === ranges.length) return;
      if (piece.end <= ranges[r].start) continue;
      if (piece.state === PIECE.DIRTY) region.dirtyBytes -= piece.end - piece.start;
      piece.state = PIECE.SETTLING;
    }
  }

  /** What is dirty; or everything, when what is stored is inline or in too many extents. */
  #stretchesToSettle(region: Region): { start: number; end: number }[] {
    const dirty: { start: number; end: number }[] = [];
    for (const piece of region.pieces) {
      if (piece.state !== PIECE.DIRTY) continue;
      const last = dirty.at(-1);
      if (last !== undefined && last.end === piece.start) last.end = piece.end;
      else dirty.push({ start: piece.start, end: piece.end });
    }
    if (region.inlineBytes > 0) return region.stretches();
    // After a failure only what is new is tried: what is stored already may be what cannot be read.
    if (region.extents === undefined || region.failures > 0) return dirty;
    const extents = region.extents.length + dirty.length;
    if (extents > EXTENTS_DENSE) return [{ start: 0, end: region.contentEnd }];
    return extents > EXTENTS_MAX ? region.stretches() : dirty;
  }

  /** A tiny file: its bytes go into the inline cell, and from there into the tree. */
  #settleInline(region: Region): void {
    const end = region.contentEnd;
    for (let from = 0; from < end; ) {
      const list = this.#list.clear();
      const reached = region.sources(from, end, list);
      this.#commands.inline(region.slot, from, list.count);
      list.write(this.#commands);
      from = reached;
    }
    for (const piece of region.pieces) this.#commands.free(piece.frame);
    region.pieces = [];
    region.coveredBytes = 0;
    region.dirtyBytes = 0;
    region.inlineBytes = end;
    region.inlineBusy = true;
    this.#dirty.delete(region);
    this.#clean.delete(region);
    this.#tell(this.#message.begin(kind.INLINE, region.slot, 0, end).a(this.#commands.worker));
    // The tree worker gets this before any COMMIT that follows: who waits need not wait for its answer.
    this.#ended(region, 0);
  }

  #inlined(slot: number): void {
    const region = this.#slots.get(slot)?.regions.get(0);
    if (region === undefined) return;
    region.inlineBusy = false;
    if (region.dirtyBytes > 0 && region.waiters.length > 0) this.#settle(region);
  }

  #settled(number: number, errno: number, id: Uint32Array): void {
    const job = this.#jobs.get(number);
    if (job === undefined) throw new Error(`settle job ${number} is not known`);
    this.#jobs.delete(number);
    const region = job.region;
    region.job = undefined;
    if (errno === 0) this.#stored(job, id);
    else this.#failed(job);
    for (const frame of job.deferred) this.#commands.free(frame);
    this.#ended(region, errno);
  }

  #stored(job: SettleJob, id: Uint32Array): void {
    const region = job.region;
    region.failures = 0;
    if (region.inlineBytes >= 0) {
      region.inlineBytes = -1;
      region.extents ??= [];
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
      this.#tellExtent(region.slot, extent);
    }
    if (job.inPlace !== undefined) return;
    for (const piece of region.pieces) {
      if (piece.state === PIECE.SETTLING) piece.state = PIECE.CLEAN;
    }
    if (region.pieces.length > PIECES_MAX / 2) region.dropClean(this.#commands);
    if (region.pieces.length > 0) this.#clean.add(region);
  }

  /** Nothing is lost: the plaintext is dirty again, and will be tried again. */
  #failed(job: SettleJob): void {
    const region = job.region;
    for (const piece of job.inPlace ?? []) {
      // What was discarded meanwhile must not come back: only what is left of the ranges does.
      for (const range of job.ranges) {
        const start = Math.max(piece.start, range.start);
        const end = Math.min(piece.end, range.end);
        if (start >= end) continue;
        this.#commands.hold(piece.frame);
        const at = piece.at + start - piece.start;
        const part = { start, end, frame: piece.frame, at, state: PIECE.DIRTY };
        region.putBelow(part, this.#commands);
      }
      this.#commands.free(piece.frame);
    }
    for (const piece of region.pieces) {
      if (piece.state !== PIECE.SETTLING) continue;
      piece.state = PIECE.DIRTY;
      region.dirtyBytes += piece.end - piece.start;
    }
    const delay = Math.min(RETRY_MS * 2 ** region.failures, RETRY_MS_MAX);
    region.failures += 1;
    region.retryAt = performance.now() + delay;
    this.#failing.add(region);
    this.#dirty.add(region);
  }

  /** A settle of the region has been tried: tells who waits for it, and starts the next one where it is wanted. */
  #ended(region: Region, errno: number): void {
    region.settles += 1;
    const state = this.#slot(region.slot);
    if (region.isSettled) {
      state.active.delete(region);
      this.#dirty.delete(region);
      this.#failing.delete(region);
    } else if (region.dirtyBytes > 0) {
      this.#dirty.add(region);
    }
    const waiting = region.waiters;
    region.waiters = [];
    for (const entry of waiting) {
      const failed = errno !== 0 && !entry.waiter.patient;
      const reached = region.settles >= entry.target && (errno === 0 || !entry.waiter.patient);
      if (failed || reached || region.isSettled) this.#release(entry.waiter, errno);
      else region.waiters.push(entry);
    }
    this.#unpark(region);
    if (region.dirtyBytes > 0 && region.job === undefined && !this.#failing.has(region)) {
      if (region.waiters.length > 0 || region.isFull) this.#settle(region);
    }
  }

  #release(waiter: Waiter, errno: number): void {
    waiter.errno ||= errno;
    waiter.remaining -= 1;
    if (waiter.remaining === 0) waiter.done(waiter.errno);
  }

  /** Has what is dirty in these regions settled, and `waiter` told when that was tried. */
  #await(regions: Iterable<Region>, waiter: Waiter): void {
    waiter.remaining += 1;
    for (const region of [...regions]) {
      if (region.isSettled) continue;
      const running = region.job !== undefined ? 1 : 0;
      const target = region.settles + running + (region.dirtyBytes > 0 ? 1 : 0);
      waiter.remaining += 1;
      region.waiters.push({ waiter, target });
      this.#settle(region);
    }
    this.#release(waiter, 0);
  }

  #sync(slot: number, request: number): void {
    const done = (errno: number): void => this.#commands.syncDone(request, errno, slot);
    const active = this.#slots.get(slot)?.active ?? [];
    this.#await(active, { remaining: 0, errno: 0, patient: false, done });
  }

  #settleAll(token: number): void {
    const done = (errno: number): void => this.#acknowledge(token, errno);
    this.#await(this.#dirtyOrSettling(), { remaining: 0, errno: 0, patient: false, done });
  }

  #dirtyOrSettling(): Set<Region> {
    const regions = new Set<Region>();
    for (const state of this.#slots.values())
      for (const region of state.active) regions.add(region);
    return regions;
  }

  // ---- frames ----

  /** Frees frames: what is stored already at once, what is dirty by settling it, oldest first. */
  #evict(): void {
    for (const region of this.#clean) region.dropClean(this.#commands);
    this.#clean.clear();
    // While chunks are being settled, their frames come free soon: breaking up half-filled regions would only hurt.
    if (Atomics.load(this.#words, header.SETTLING >>> 2) > 0) return;
    let left = Math.ceil(this.#dirty.size / 2);
    for (const region of [...this.#dirty]) {
      if (left-- <= 0) break;
      if (!this.#failing.has(region)) this.#settle(region);
    }
  }

  // ---- reads ----

  #read(word: number, slot: number, offset: number, length: number): void {
    const region = this.#region(slot, Math.floor(offset / REGION_BYTES));
    const part = {
      request: this.#words[word + descriptor.A],
      frame: this.#words[word + descriptor.PAYLOAD],
      frameOffset: this.#words[word + descriptor.PAYLOAD + 1],
    };
    const start = offset - region.offset;
    this.#answer(region, { part, start, end: start + length });
  }

  #answer(region: Region, read: ParkedRead): void {
    if (region.job?.inPlace !== undefined) {
      region.parked.push(read); // The plaintext is becoming ciphertext; the store will have it.
      return;
    }
    if (!region.knows(read.start, read.end)) {
      region.parked.push(read);
      return this.#load(region);
    }
    const list = this.#list.clear();
    const bytes = read.end - read.start;
    if (region.sources(read.start, read.end, list) < read.end) return this.#readLater(region, read);
    const urgent = list.inMemory || bytes <= URGENT_BYTES;
    this.#commands.read(read.part, bytes, urgent, list.count);
    list.write(this.#commands);
  }

  /** The range lies in more pieces than a command can name: once they are stored, it lies in a few extents. */
  #readLater(region: Region, read: ParkedRead): void {
    region.dropClean(this.#commands);
    if (region.failures > 0) return this.#failRead(read.part, constants.errno.EIO);
    region.parked.push(read);
    this.#settle(region);
  }

  #unpark(region: Region): void {
    if (region.parked.length === 0) return;
    const parked = region.parked;
    region.parked = [];
    for (const read of parked) this.#answer(region, read);
  }

  // ---- the tree's knowledge ----

  #load(region: Region): void {
    if (region.loading) return;
    region.loading = true;
    region.late = [];
    this.#asked.set(this.#key(region.slot, region.index), []);
    const message = this.#message.begin(kind.QUERY, region.slot, region.offset, REGION_BYTES);
    this.#tell(message.a(this.#commands.worker));
  }

  /** Extents that have arrived for regions that are being loaded. */
  readonly #asked = new Map<number, Extent[]>();

  #key(slot: number, index: number): number {
    return index * 65536 + slot;
  }

  #known(word: number, slot: number, offset: number, length: number): void {
    const extents = this.#asked.get(this.#key(slot, Math.floor(offset / REGION_BYTES)));
    extents?.push({
      offset,
      length,
      chunkLength: this.#words[word + descriptor.A],
      chunkOffset: this.#words[word + descriptor.B],
      id: this.#words.slice(word + descriptor.PAYLOAD, word + descriptor.WORDS),
    });
  }

  #loaded(word: number, slot: number, offset: number, length: number): void {
    const index = Math.floor(offset / REGION_BYTES);
    const extents = this.#asked.get(this.#key(slot, index)) ?? [];
    this.#asked.delete(this.#key(slot, index));
    const region = this.#slots.get(slot)?.regions.get(index);
    if (region === undefined) return;
    const errno = this.#words[word + descriptor.B];
    if (errno !== 0) return this.#loadFailed(region, errno);
    const isInline = this.#words[word + descriptor.A] === 1;
    const holes = region.loaded(extents, isInline ? length : -1);
    for (const { start, end } of holes) this.#discardInline(region, start, end);
    this.#unpark(region);
    if (region.settleWhenLoaded) {
      region.settleWhenLoaded = false;
      this.#settle(region);
    }
  }

  /** The tree cannot tell: who reads gets the error; what is dirty stays dirty and is tried again. */
  #loadFailed(region: Region, errno: number): void {
    region.loading = false;
    for (const read of region.parked.splice(0)) this.#failRead(read.part, errno);
    if (region.settleWhenLoaded) {
      region.settleWhenLoaded = false;
      region.retryAt = performance.now() + RETRY_MS_MAX;
      this.#failing.add(region);
      this.#ended(region, errno);
    }
  }

  #failRead(part: { request: number; frame: number }, errno: number): void {
    // A part of an assembled answer must be counted down: an impossible range fails it natively.
    if (part.frame === NONE) this.#commands.reply(part.request, errno);
    else this.#commands.failPart(part.request, errno);
  }

  // ---- discards and the end of an inode ----

  #discard(slot: number, offset: number, length: number, token: number): void {
    const state = this.#slots.get(slot);
    if (state !== undefined) {
      const end = offset + length;
      if (end === Number.POSITIVE_INFINITY) {
        state.emptyFrom = Math.min(state.emptyFrom, Math.ceil(offset / REGION_BYTES));
      }
      for (const region of state.regions.values()) {
        if (region.offset < end && region.offset + REGION_BYTES > offset) {
          const from = Math.max(0, offset - region.offset);
          this.#discardIn(region, from, Math.min(REGION_BYTES, end - region.offset));
        }
      }
    }
    this.#acknowledge(token, 0);
  }

  #discardIn(region: Region, start: number, end: number): void {
    region.cut(start, end, this.#commands);
    const offset = region.offset + start;
    region.change({ kind: 'discard', offset, length: end - start });
    if (start === 0 && end === REGION_BYTES && !region.loading) region.extents = [];
    const job = region.job;
    if (job !== undefined) job.ranges = trim(job.ranges, start, end);
    if (region.inlineBytes > start) this.#discardInline(region, start, end);
    if (region.isSettled) {
      this.#slot(region.slot).active.delete(region);
      this.#dirty.delete(region);
      this.#failing.delete(region);
      for (const { waiter } of region.waiters.splice(0)) this.#release(waiter, 0);
    }
  }

  #discardInline(region: Region, start: number, end: number): void {
    if (end >= region.inlineBytes) {
      region.inlineBytes = start === 0 ? -1 : start;
      return;
    }
    const list = this.#list.clear();
    list.zero(end - start);
    this.#commands.inline(region.slot, start, list.count);
    list.write(this.#commands);
  }

  /** Nobody has the inode open any more: forget it, but not before its data is stored. */
  #drop(slot: number, token: number, discard: boolean): void {
    const state = this.#slots.get(slot);
    if (state === undefined) return this.#acknowledge(token, 0);
    if (discard) {
      for (const region of state.regions.values()) this.#discardIn(region, 0, REGION_BYTES);
    }
    const forget = (errno: number): void => {
      // The inode may have been opened and written again since: that has to be stored first, too.
      if (state.active.size > 0) {
        return this.#await(state.active, { remaining: 0, errno: 0, patient: true, done: forget });
      }
      for (const region of state.regions.values()) {
        for (const piece of region.pieces) this.#commands.free(piece.frame);
        for (const read of region.parked) this.#failRead(read.part, constants.errno.EIO);
        this.#clean.delete(region);
      }
      this.#slots.delete(slot);
      this.#acknowledge(token, errno);
    };
    this.#await(state.active, { remaining: 0, errno: 0, patient: true, done: forget });
  }

  #acknowledge(token: number, errno: number): void {
    this.#tell(this.#message.begin(kind.ACK, 0, 0, 0).a(token).b(errno));
  }

  #tellExtent(slot: number, extent: Extent): void {
    const message = this.#message.begin(kind.EXTENT, slot, extent.offset, extent.length);
    this.#tell(message.a(extent.chunkLength).b(extent.chunkOffset).id(extent.id));
  }

  #tell(message: Message): void {
    this.#commands.push(TREE_WORKER, message.words);
  }
}

/** The ranges without the bytes from `start` to `end`. */
function trim(ranges: Range[], start: number, end: number): Range[] {
  const kept: Range[] = [];
  for (const range of ranges) {
    if (range.end <= start || range.start >= end) {
      kept.push(range);
      continue;
    }
    if (range.start < start) kept.push({ ...range, end: start });
    if (range.end > end) {
      kept.push({ start: end, end: range.end, chunkOffset: range.chunkOffset + end - range.start });
    }
  }
  return kept;
}
