/**
 * One region of an open inode, as its data worker knows it: plaintext pieces in frames on top of what is stored.
 *
 *     pieces    [####]      [##][#####]        newest plaintext, in frames; no two overlap
 *     extents   [========][-----hole----][===] or inline bytes: what lies below, once it is known
 *
 * This file keeps the lists right and decides nothing about when to settle. Regions are used again: see RegionTable.
 */
import { CHUNK_ID_BYTES, REGION_BYTES, WORD_BYTES } from '../../engine/layout.ts';
import { type ExtentChange, patchExtents } from '../../engine/tree/content.ts';
import type { Extent } from '../../engine/tree/types.ts';
import { Link } from './links.ts';
import { NO_PIECES, PIECE, type Piece, type PieceList } from './pieces.ts';
import type { Pool } from './pool.ts';
import type { ParkedRead } from './reader.ts';
import type { InodeRegions } from './region-table.ts';
import type { SettleJob } from './settle-job.ts';
import type { SourceList } from './source-list.ts';
import type { Waiting } from './waiter.ts';

/** A range of a region, in bytes from its start. */
export interface Stretch {
  start: number;
  end: number;
}

/** What a frame's owner does with counts. */
export interface Frames {
  free(frame: number): void;
  hold(frame: number): void;
}

/** Extents beyond which a region's are joined. */
export const EXTENTS_KEPT = 64;
/** Extents of a region that is one hole. */
const NO_EXTENTS: readonly Extent[] = [];

/** The state of one region. */
export class Region {
  /** The inode that it is a part of; undefined while nobody uses this object. */
  inode: InodeRegions | undefined;
  slot = 0;
  index = 0;
  /** A list of its own while there are any, else NO_PIECES. */
  pieces: PieceList = NO_PIECES;
  coveredBytes = 0;
  dirtyBytes = 0;
  /** What is stored; undefined while it is not known. */
  extents: readonly Extent[] | undefined;
  /** Bytes of the inline cell that are the region's content, or -1 when it is not inline. */
  inlineBytes = -1;
  /** The tree worker reads the inline cell: it must not change. */
  inlineBusy = false;
  job: SettleJob | undefined;
  loading = false;
  settleWhenLoaded = false;
  /** Extents that have arrived since the tree was asked. */
  arrived: Extent[] = [];
  /** Changes that happened while it is loading. */
  late: ExtentChange[] = [];
  /** Settles that have ended, well or not. */
  settles = 0;
  failures = 0;
  /** Extents beyond which they are joined: EXTENTS_KEPT, or more where some could not be read. */
  joinsAt: number = EXTENTS_KEPT;
  /** When a failed settle is tried again, in milliseconds of performance.now(); 0: no failure. */
  retryAt = 0;
  waiters: Waiting[] = [];
  /** READs that cannot be answered yet, oldest first. */
  parked: ParkedRead | undefined;
  /** Its places in the lists of RegionTable. */
  readonly dirtyLink: Link<Region> = new Link<Region>(this);
  readonly cleanLink: Link<Region> = new Link<Region>(this);
  readonly activeLink: Link<Region> = new Link<Region>(this);
  readonly #lists: Pool<PieceList>;
  /** The extent of a region that was stored as one chunk, in a list; overwritten by the next such chunk. */
  #whole: [Extent] | undefined;

  constructor(lists: Pool<PieceList>) {
    this.#lists = lists;
  }

  /** Makes it the region `index` of an inode, of which nothing is known. */
  begin(inode: InodeRegions, index: number): void {
    this.inode = inode;
    this.slot = inode.slot;
    this.index = index;
    this.extents = undefined;
    this.inlineBytes = -1;
    this.inlineBusy = false;
    this.loading = false;
    this.settleWhenLoaded = false;
    this.settles = 0;
    this.failures = 0;
    this.joinsAt = EXTENTS_KEPT;
    this.retryAt = 0;
  }

  /** First byte in the file. */
  get offset(): number {
    return this.index * REGION_BYTES;
  }

  get isFull(): boolean {
    return this.coveredBytes === REGION_BYTES;
  }

  /** Whether nothing has to be stored. */
  get isSettled(): boolean {
    return this.dirtyBytes === 0 && this.job === undefined;
  }

  /** Whether it can be forgotten: the tree can tell all of it again. */
  get isIdle(): boolean {
    if (!this.isSettled || this.loading || this.inlineBusy) return false;
    return this.pieces.count === 0 && this.parked === undefined;
  }

  /** Puts a piece on top. Takes over one count of the frame. */
  put(start: number, end: number, frame: number, at: number, frames: Frames): void {
    const last = this.pieces.last;
    if (last !== undefined && last.end > start) {
      this.cut(start, end, frames);
      this.#insert(this.pieces.firstFrom(end), start, end, frame, at);
    } else if (last !== undefined && continues(last, start, frame, at)) {
      last.end = end;
      frames.free(frame);
      this.coveredBytes += end - start;
      this.dirtyBytes += end - start;
    } else {
      this.#insert(this.pieces.count, start, end, frame, at);
    }
  }

  /** Puts a dirty piece where no other lies. */
  #insert(index: number, start: number, end: number, frame: number, at: number): void {
    if (this.pieces === NO_PIECES) this.pieces = this.#lists.take();
    this.pieces.insert(index, start, end, frame, at);
    this.coveredBytes += end - start;
    this.dirtyBytes += end - start;
  }

  /** Puts a range of a piece back where nothing newer lies: a settle in place has failed. Leaves its count alone. */
  putBelow(piece: Piece, start: number, end: number, frames: Frames): void {
    let from = start;
    for (let i = this.pieces.firstBehind(start); from < end; i++) {
      const newer = i < this.pieces.count ? this.pieces.at(i) : undefined;
      const to = Math.min(newer?.start ?? end, end);
      if (to > from) {
        frames.hold(piece.frame);
        this.#insert(i, from, to, piece.frame, piece.at + from - piece.start);
        i += 1;
      }
      from = newer?.end ?? end;
    }
  }

  /** Removes the plaintext of a range. */
  cut(start: number, end: number, frames: Frames): void {
    const { pieces } = this;
    let i = pieces.firstBehind(start);
    if (i < pieces.count && pieces.at(i).start < start) {
      if (pieces.at(i).end > end) return this.#cutMiddle(i, start, end, frames);
      const first = pieces.at(i);
      this.#uncount(first, first.end - start);
      first.end = start;
      i += 1;
    }
    let behind = i;
    for (; behind < pieces.count && pieces.at(behind).end <= end; behind++) {
      this.#release(pieces.at(behind), frames);
    }
    if (behind < pieces.count && pieces.at(behind).start < end) {
      const next = pieces.at(behind);
      this.#uncount(next, end - next.start);
      next.at += end - next.start;
      next.start = end;
    }
    pieces.remove(i, behind - i);
    this.#returnList();
  }

  /** Removes the middle of one piece: the tail becomes a piece of its own. */
  #cutMiddle(index: number, start: number, end: number, frames: Frames): void {
    const head = this.pieces.at(index);
    frames.hold(head.frame);
    this.#uncount(head, end - start);
    const at = head.at + end - head.start;
    const tail = this.pieces.insert(index + 1, end, head.end, head.frame, at);
    tail.state = head.state;
    head.end = start;
  }

  #uncount(piece: Piece, bytes: number): void {
    this.coveredBytes -= bytes;
    if (piece.state === PIECE.DIRTY) this.dirtyBytes -= bytes;
  }

  /** Gives the count of a piece that will be removed back, or leaves that to the job that still reads it. */
  #release(piece: Piece, frames: Frames): void {
    this.#uncount(piece, piece.end - piece.start);
    if (piece.state === PIECE.SETTLING && this.job !== undefined) {
      this.job.deferred.push(piece.frame);
    } else {
      frames.free(piece.frame);
    }
  }

  /** An empty list goes back to those that share it. */
  #returnList(): void {
    if (this.pieces.count > 0 || this.pieces === NO_PIECES) return;
    this.#lists.give(this.pieces);
    this.pieces = NO_PIECES;
  }

  /** Removes the pieces that are stored already, to free their frames. */
  dropClean(frames: Frames): void {
    const { pieces } = this;
    // From behind, so that what follows a removed piece has been thinned out before it moves.
    for (let i = pieces.count - 1; i >= 0; i--) {
      if (pieces.at(i).state !== PIECE.CLEAN) continue;
      this.#release(pieces.at(i), frames);
      pieces.remove(i, 1);
    }
    this.#returnList();
  }

  /** Forgets what lies below the pieces that are not stored: the tree has changed it. */
  unlearn(frames: Frames): void {
    this.dropClean(frames);
    if (this.loading) return; // Asked for already, and answered after the change.
    this.extents = undefined;
    this.inlineBytes = -1;
  }

  /** Removes all pieces, whatever their state, and frees their frames. No job may read them. */
  dropAll(frames: Frames): void {
    for (let i = 0; i < this.pieces.count; i++) frames.free(this.pieces.at(i).frame);
    this.pieces.clear();
    this.#returnList();
    this.coveredBytes = 0;
    this.dirtyBytes = 0;
  }

  /** Hands all pieces over with their counts. The list must come back by `returnPieces`. */
  takePieces(): PieceList {
    const taken = this.pieces;
    this.pieces = NO_PIECES;
    this.coveredBytes = 0;
    this.dirtyBytes = 0;
    return taken;
  }

  /** Takes a list back whose counts have been seen to. */
  returnPieces(list: PieceList): void {
    list.clear();
    this.#lists.give(list);
  }

  /** Records that a range is now in a chunk, or a hole. */
  change(change: ExtentChange): void {
    if (this.loading) this.late.push(change);
    else if (this.extents !== undefined) this.extents = patchExtents(this.extents, change);
  }

  /** Records that the region is one hole. It must not be loading. */
  becomesHole(): void {
    this.extents = NO_EXTENTS;
  }

  /**
   * Records that all of the region is the chunk whose id lies at `words[at]`, and yields its extent, which is valid
   * until the next such chunk. The region must not be loading.
   */
  becomesChunk(words: Uint32Array, at: number): Extent {
    // Overwriting is safe: whatever shares the extent or its id is in the list that this one replaces.
    this.#whole ??= [wholeExtent()];
    const [extent] = this.#whole;
    extent.offset = this.index * REGION_BYTES;
    for (let i = 0; i < extent.id.length; i++) extent.id[i] = words[at + i];
    this.extents = this.#whole;
    this.inlineBytes = -1;
    return extent;
  }

  /** Begins to ask the tree what is stored. */
  load(): void {
    this.loading = true;
    this.arrived = [];
    this.late = [];
  }

  /**
   * Takes what has arrived from the tree, with what has changed since it was asked. Yields the discards that leave a
   * hole inside of inline bytes: the caller zeroes these.
   */
  loaded(inlineBytes: number): Stretch[] {
    this.loading = false;
    this.extents = this.arrived;
    this.inlineBytes = inlineBytes;
    const holes: Stretch[] = [];
    for (const change of this.late) {
      this.extents = patchExtents(this.extents, change);
      if (change.kind === 'extent') {
        this.inlineBytes = -1; // Who stores extents takes the inline bytes along.
      } else if (this.inlineBytes > change.offset - this.offset) {
        const start = Math.max(0, change.offset - this.offset);
        const end = change.offset + change.length - this.offset;
        if (end >= this.inlineBytes) this.inlineBytes = start === 0 ? -1 : start;
        else holes.push({ start, end });
      }
    }
    if (this.late.length > 0) this.late = [];
    return holes;
  }

  /** Whether the bytes can be told without asking the tree. */
  knows(start: number, end: number): boolean {
    if (this.extents !== undefined) return true;
    let at = start;
    for (let i = this.pieces.firstBehind(start); i < this.pieces.count && at < end; i++) {
      if (this.pieces.at(i).start > at) break;
      at = this.pieces.at(i).end;
    }
    return at >= end;
  }

  /**
   * Collects where the bytes of a range come from, as far as the list has room, and yields where that ends.
   * `knows` must hold. The end is `end`, or the end of a piece or an extent.
   */
  sources(start: number, end: number, list: SourceList): number {
    const { pieces } = this;
    let at = start;
    for (let i = pieces.firstBehind(start); i < pieces.count; i++) {
      const piece = pieces.at(i);
      if (piece.start >= end) break;
      if (piece.start > at) {
        at = this.#storedSources(at, piece.start, list);
        if (list.isFull) return at;
      }
      const to = Math.min(piece.end, end);
      list.frame(piece.frame, piece.at + at - piece.start, to - at);
      at = to;
      if (list.isFull) return at;
    }
    return at < end ? this.#storedSources(at, end, list) : end;
  }

  /** The same below the pieces. */
  #storedSources(start: number, end: number, list: SourceList): number {
    let at = start;
    if (this.inlineBytes > at) {
      const to = Math.min(this.inlineBytes, end);
      list.inline(this.slot, at, to - at);
      at = to;
    }
    const extents = this.extents ?? NO_EXTENTS;
    for (let i = 0; i < extents.length; i++) {
      const extent = extents[i];
      // Not by `offset`: a call that yields a large number may allocate it.
      const first = extent.offset - this.index * REGION_BYTES;
      const behind = first + extent.length;
      if (behind <= at) continue;
      if (first >= end) break;
      if (first > at) list.zero(first - at);
      at = Math.max(at, first);
      const to = Math.min(behind, end);
      list.chunk(extent.id, extent.chunkOffset + at - first, to - at);
      at = to;
      if (list.isFull) return at;
    }
    if (at < end) list.zero(end - at);
    return end;
  }

  /** The end of what is known to be in the region, in bytes from its start. */
  get contentEnd(): number {
    const extent = this.extents?.at(-1);
    const stored = extent === undefined ? 0 : extent.offset + extent.length - this.offset;
    return Math.max(this.pieces.last?.end ?? 0, stored, this.inlineBytes);
  }

  /** The maximal stretches that are dirty. */
  dirtyStretches(): Stretch[] {
    const dirty: Stretch[] = [];
    for (let i = 0; i < this.pieces.count; i++) {
      const { start, end, state } = this.pieces.at(i);
      if (state !== PIECE.DIRTY) continue;
      const last = dirty.at(-1);
      if (last !== undefined && last.end === start) last.end = end;
      else dirty.push({ start, end });
    }
    return dirty;
  }

  /** The maximal stretches of the region that are no hole, pieces and stored content together. */
  stretches(): Stretch[] {
    const parts: Stretch[] = [];
    for (let i = 0; i < this.pieces.count; i++) {
      const { start, end } = this.pieces.at(i);
      parts.push({ start, end });
    }
    if (this.inlineBytes > 0) parts.push({ start: 0, end: this.inlineBytes });
    for (const extent of this.extents ?? NO_EXTENTS) {
      const start = extent.offset - this.offset;
      parts.push({ start, end: start + extent.length });
    }
    parts.sort((a, b) => a.start - b.start);
    const joined: Stretch[] = [];
    for (const part of parts) {
      const last = joined.at(-1);
      if (last !== undefined && part.start <= last.end) last.end = Math.max(last.end, part.end);
      else joined.push(part);
    }
    return joined;
  }
}

/** Whether a payload goes on behind a dirty piece, in the file and in its frame. */
function continues(last: Piece, start: number, frame: number, at: number): boolean {
  return (
    last.state === PIECE.DIRTY &&
    last.end === start &&
    last.frame === frame &&
    last.at + last.end - last.start === at
  );
}

function wholeExtent(): Extent {
  const id = new Uint32Array(CHUNK_ID_BYTES / WORD_BYTES);
  return { offset: 0, length: REGION_BYTES, chunkOffset: 0, chunkLength: REGION_BYTES, id };
}
