/**
 * One region of an open inode, as its data worker knows it: plaintext pieces in frames on top of what is stored.
 *
 *     pieces    [####]      [##][#####]        newest plaintext, in frames; no two overlap
 *     extents   [========][-----hole----][===] or inline bytes: what lies below, once it is known
 *
 * This file keeps the lists right and decides nothing about when to settle.
 */
import { REGION_BYTES } from '../../engine/layout.ts';
import { type ExtentChange, patchExtents } from '../../engine/tree/content.ts';
import type { Extent } from '../../engine/tree/types.ts';
import type { ReadPart } from '../commands.ts';
import type { SourceList } from './source-list.ts';

/** What a piece's bytes are to the store. */
export const PIECE = {
  /** Not stored, and no settle job has it. */
  DIRTY: 0,
  /** A settle job copies it: its frame must stay until the job is done. */
  SETTLING: 1,
  /** Stored; kept so that an append can make a whole chunk of it. */
  CLEAN: 2,
} as const;

/** Plaintext in a frame; offsets count from the region's start. Owns one count of its frame. */
export interface Piece {
  start: number;
  end: number;
  frame: number;
  /** Where the first byte lies in the frame. */
  at: number;
  state: number;
}

/** What a settle job will have stored, in region offsets; discards trim it while the job runs. */
export interface Range {
  start: number;
  end: number;
  chunkOffset: number;
}

/** A chunk on its way to the store. */
export interface SettleJob {
  readonly number: number;
  readonly region: Region;
  /** Plaintext bytes of the chunk. */
  readonly bytes: number;
  ranges: Range[];
  /** Pieces whose frames are sealed in place; they are unreadable until the job is done. */
  readonly inPlace: Piece[] | undefined;
  /** Frames of pieces that were dropped while the job may still read them. */
  readonly deferred: number[];
}

/** Someone who waits until settles have been tried. */
export interface Waiter {
  /** Counts regions that are not done. */
  remaining: number;
  errno: number;
  /** Keep waiting when a settle fails. */
  readonly patient: boolean;
  done(errno: number): void;
}

/** A READ that cannot be answered yet. */
export interface ParkedRead {
  part: ReadPart;
  start: number;
  end: number;
}

/** What a frame's owner does with counts. */
export interface Frames {
  free(frame: number): void;
  hold(frame: number): void;
}

/** The state of one region. */
export class Region {
  readonly slot: number;
  readonly index: number;
  /** First byte in the file. */
  readonly offset: number;
  /** In order of offset. */
  pieces: Piece[] = [];
  coveredBytes = 0;
  dirtyBytes = 0;
  /** What is stored; undefined while it is not known. */
  extents: Extent[] | undefined;
  /** Bytes of the inline cell that are the region's content, or -1 when it is not inline. */
  inlineBytes = -1;
  /** The tree worker reads the inline cell: it must not change. */
  inlineBusy = false;
  job: SettleJob | undefined;
  loading = false;
  settleWhenLoaded = false;
  /** Changes that happened while the extents were asked for. */
  late: ExtentChange[] = [];
  /** Settles that have ended, well or not. */
  settles = 0;
  failures = 0;
  /** When a failed settle is tried again, in milliseconds of performance.now(); 0: no failure. */
  retryAt = 0;
  waiters: { waiter: Waiter; target: number }[] = [];
  parked: ParkedRead[] = [];

  constructor(slot: number, index: number) {
    this.slot = slot;
    this.index = index;
    this.offset = index * REGION_BYTES;
  }

  get isFull(): boolean {
    return this.coveredBytes === REGION_BYTES;
  }

  /** Whether nothing has to be stored. */
  get isSettled(): boolean {
    return this.dirtyBytes === 0 && this.job === undefined;
  }

  /** Puts a piece on top. Takes over one count of the frame. */
  put(start: number, end: number, frame: number, at: number, frames: Frames): void {
    const last = this.pieces.at(-1);
    if (last === undefined || last.end <= start) {
      if (last !== undefined && continues(last, start, frame, at)) {
        last.end = end;
        frames.free(frame);
      } else {
        this.pieces.push({ start, end, frame, at, state: PIECE.DIRTY });
      }
    } else {
      this.cut(start, end, frames);
      this.pieces.splice(this.#firstFrom(end), 0, { start, end, frame, at, state: PIECE.DIRTY });
    }
    this.coveredBytes += end - start;
    this.dirtyBytes += end - start;
  }

  /** Puts a piece back where nothing newer lies: a settle in place has failed. Takes over its count. */
  putBelow(piece: Piece, frames: Frames): void {
    const above = this.pieces.filter((p) => p.end > piece.start && p.start < piece.end);
    let from = piece.start;
    const fill = (to: number): void => {
      if (to <= from) return;
      frames.hold(piece.frame);
      const at = piece.at + from - piece.start;
      const part = { start: from, end: to, frame: piece.frame, at, state: PIECE.DIRTY };
      this.pieces.splice(this.#firstFrom(from), 0, part);
      this.coveredBytes += to - from;
      this.dirtyBytes += to - from;
    };
    for (const newer of above) {
      fill(newer.start);
      from = Math.max(from, newer.end);
    }
    fill(piece.end);
    frames.free(piece.frame);
  }

  /** Index of the first piece that starts at `offset` or behind it. */
  #firstFrom(offset: number): number {
    let low = 0;
    let high = this.pieces.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.pieces[middle].start < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Removes the plaintext of a range. */
  cut(start: number, end: number, frames: Frames): void {
    let i = this.#firstFrom(start);
    if (i > 0 && this.pieces[i - 1].end > start) i -= 1;
    let remove = 0;
    const first = this.pieces[i];
    if (first !== undefined && first.start < start && first.end > end) {
      // The range is the middle of one piece: the tail becomes a piece of its own.
      const tail = { ...first, start: end, at: first.at + end - first.start };
      frames.hold(first.frame);
      this.#uncount(first, end - start);
      first.end = start;
      this.pieces.splice(i + 1, 0, tail);
      return;
    }
    if (first !== undefined && first.start < start) {
      this.#uncount(first, first.end - start);
      first.end = start;
      i += 1;
    }
    while (i + remove < this.pieces.length && this.pieces[i + remove].end <= end) {
      const piece = this.pieces[i + remove];
      this.#uncount(piece, piece.end - piece.start);
      this.#release(piece, frames);
      remove += 1;
    }
    const next = this.pieces[i + remove];
    if (next !== undefined && next.start < end) {
      this.#uncount(next, end - next.start);
      next.at += end - next.start;
      next.start = end;
    }
    if (remove > 0) this.pieces.splice(i, remove);
  }

  #uncount(piece: Piece, bytes: number): void {
    this.coveredBytes -= bytes;
    if (piece.state === PIECE.DIRTY) this.dirtyBytes -= bytes;
  }

  /** Gives a dropped piece's count back, or leaves that to the job that still reads it. */
  #release(piece: Piece, frames: Frames): void {
    if (piece.state === PIECE.SETTLING && this.job !== undefined) {
      this.job.deferred.push(piece.frame);
    } else {
      frames.free(piece.frame);
    }
  }

  /** Removes the pieces that are stored already, to free their frames. */
  dropClean(frames: Frames): void {
    const kept = this.pieces.filter((piece) => {
      if (piece.state !== PIECE.CLEAN) return true;
      this.coveredBytes -= piece.end - piece.start;
      frames.free(piece.frame);
      return false;
    });
    if (kept.length < this.pieces.length) this.pieces = kept;
  }

  /** Records that a range is now in a chunk, or a hole. */
  change(change: ExtentChange): void {
    if (this.loading) this.late.push(change);
    else if (this.extents !== undefined) this.extents = patchExtents(this.extents, change);
  }

  /**
   * Takes what the tree knows, with what has changed since it was asked. Yields the discards that leave a hole inside
   * of inline bytes: the caller zeroes these.
   */
  loaded(extents: Extent[], inlineBytes: number): { start: number; end: number }[] {
    this.loading = false;
    this.extents = extents;
    this.inlineBytes = inlineBytes;
    const holes: { start: number; end: number }[] = [];
    for (const change of this.late.splice(0)) {
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
    return holes;
  }

  /** Whether the bytes can be told without asking the tree. */
  knows(start: number, end: number): boolean {
    if (this.extents !== undefined) return true;
    if (this.coveredBytes === 0) return false;
    let at = start;
    for (const piece of this.pieces) {
      if (piece.start > at) break;
      if (piece.end > at) at = piece.end;
    }
    return at >= end;
  }

  /**
   * Collects where the bytes of a range come from, as far as the list has room, and yields where that ends.
   * `knows` must hold. The end is `end`, or the end of a piece.
   */
  sources(start: number, end: number, list: SourceList): number {
    let at = start;
    let i = this.#firstFrom(start);
    if (i > 0 && this.pieces[i - 1].end > start) i -= 1;
    for (; i < this.pieces.length && this.pieces[i].start < end; i++) {
      const piece = this.pieces[i];
      if (piece.start > at) this.#storedSources(at, piece.start, list);
      at = Math.max(at, piece.start);
      const to = Math.min(piece.end, end);
      list.frame(piece.frame, piece.at + at - piece.start, to - at);
      at = to;
      if (list.isFull) return at;
    }
    if (at < end) this.#storedSources(at, end, list);
    return end;
  }

  #storedSources(start: number, end: number, list: SourceList): void {
    let at = start;
    if (this.inlineBytes > at) {
      const to = Math.min(this.inlineBytes, end);
      list.inline(this.slot, at, to - at);
      at = to;
    }
    for (const extent of this.extents ?? []) {
      const first = extent.offset - this.offset;
      const behind = first + extent.length;
      if (behind <= at) continue;
      if (first >= end) break;
      if (first > at) list.zero(first - at);
      at = Math.max(at, first);
      const to = Math.min(behind, end);
      list.chunk(extent.id, extent.chunkOffset + at - first, to - at);
      at = to;
    }
    if (at < end) list.zero(end - at);
  }

  /** The end of what is known to be in the region, in bytes from its start. */
  get contentEnd(): number {
    const piece = this.pieces.at(-1);
    const extent = this.extents?.at(-1);
    const stored = extent === undefined ? 0 : extent.offset + extent.length - this.offset;
    return Math.max(piece?.end ?? 0, stored, this.inlineBytes);
  }

  /** The maximal stretches of the region that are no hole, pieces and stored content together. */
  stretches(): { start: number; end: number }[] {
    const parts = this.pieces.map(({ start, end }) => ({ start, end }));
    if (this.inlineBytes > 0) parts.push({ start: 0, end: this.inlineBytes });
    for (const extent of this.extents ?? []) {
      const start = extent.offset - this.offset;
      parts.push({ start, end: start + extent.length });
    }
    parts.sort((a, b) => a.start - b.start);
    const joined: { start: number; end: number }[] = [];
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
