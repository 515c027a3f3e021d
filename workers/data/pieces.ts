/** Plaintext in frames, on top of what a region has stored. */
import { Pool } from './pool.ts';

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

/** Lists that a worker keeps for reuse: more regions than this are seldom gathered at once. */
const LISTS_KEPT = 64;

/**
 * Pieces in order of offset; no two overlap. Counts of frames are its user's business. Objects of removed pieces stay
 * for those to come, so that a list allocates only when it becomes longer than it ever was.
 */
export class PieceList {
  /** The first `#count` are the list. */
  readonly #pieces: Piece[] = [];
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** The piece at an index below `count`; valid until it is removed. */
  at(index: number): Piece {
    return this.#pieces[index];
  }

  get last(): Piece | undefined {
    return this.#count === 0 ? undefined : this.#pieces[this.#count - 1];
  }

  /** Index of the first piece that starts at `offset` or behind it; `count` when there is none. */
  firstFrom(offset: number): number {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#pieces[middle].start < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Index of the first piece that ends behind `offset`; `count` when there is none. */
  firstBehind(offset: number): number {
    const index = this.firstFrom(offset);
    return index > 0 && this.#pieces[index - 1].end > offset ? index - 1 : index;
  }

  /** Puts a dirty piece before the one at `index`, which must be where its offset belongs. */
  insert(index: number, start: number, end: number, frame: number, at: number): Piece {
    const pieces = this.#pieces;
    const piece = this.#unused();
    piece.start = start;
    piece.end = end;
    piece.frame = frame;
    piece.at = at;
    piece.state = PIECE.DIRTY;
    for (let i = this.#count; i > index; i--) pieces[i] = pieces[i - 1];
    pieces[index] = piece;
    this.#count += 1;
    return piece;
  }

  #unused(): Piece {
    if (this.#count === this.#pieces.length) {
      this.#pieces.push({ start: 0, end: 0, frame: 0, at: 0, state: PIECE.DIRTY });
    }
    return this.#pieces[this.#count];
  }

  /** Removes `count` pieces from `index` on. */
  remove(index: number, count: number): void {
    if (count === 0) return;
    const pieces = this.#pieces;
    for (let i = index + count; i < this.#count; i++) {
      const removed = pieces[i - count];
      pieces[i - count] = pieces[i];
      pieces[i] = removed;
    }
    this.#count -= count;
  }

  clear(): void {
    this.#count = 0;
  }
}

/** What every region without plaintext has. Nothing is ever put into it. */
export const NO_PIECES: PieceList = new PieceList();

/** The lists of one worker: a region borrows one while it has plaintext. */
export function pieceLists(): Pool<PieceList> {
  return new Pool(LISTS_KEPT, () => new PieceList());
}
