/** Where the bytes of a READ, SETTLE or INLINE come from, collected before the command is written. */
import { source } from '../../engine/layout.ts';
import type { Commands } from '../commands.ts';

/** Pieces that a list has room for: as many as blocks of 4 KiB make a region. */
export const PIECES_LISTED = 1024;
/** Words from which on a list is full; Commands keeps more than twice as many free for one command. */
const LIST_WORDS = PIECES_LISTED * 4;
/**
 * Words that may come on top: the extents of one region, each with a hole before it (13 words). A region has fewer
 * than EXTENTS_DENSE (512) before a settle, and one settle adds at most a list's worth of pieces.
 */
const SLACK_WORDS = 1600 * 13;

/** A reusable list of sources. Threads: its worker's own. */
export class SourceList {
  readonly #words = new Uint32Array(LIST_WORDS + SLACK_WORDS);
  #length = 0;
  /** Sources in the list. */
  count = 0;
  /** Bytes that they yield. */
  bytes = 0;
  /** Whether one of them lies in shared memory, which may be reused soon: it must be read here and now. */
  inMemory = false;

  clear(): this {
    this.#length = 0;
    this.count = 0;
    this.bytes = 0;
    this.inMemory = false;
    return this;
  }

  /** Whether the list has room for no further source. */
  get isFull(): boolean {
    return this.#length >= LIST_WORDS;
  }

  #add(bytes: number): void {
    this.count += 1;
    this.bytes += bytes;
  }

  frame(frame: number, offset: number, bytes: number): void {
    const words = this.#words;
    words[this.#length++] = source.FRAME;
    words[this.#length++] = frame;
    words[this.#length++] = offset;
    words[this.#length++] = bytes;
    this.inMemory = true;
    this.#add(bytes);
  }

  chunk(id: Uint32Array, offset: number, bytes: number): void {
    const words = this.#words;
    words[this.#length++] = source.CHUNK;
    words[this.#length++] = offset;
    words[this.#length++] = bytes;
    words.set(id, this.#length);
    this.#length += id.length;
    this.#add(bytes);
  }

  inline(slot: number, offset: number, bytes: number): void {
    const words = this.#words;
    words[this.#length++] = source.INLINE;
    words[this.#length++] = slot;
    words[this.#length++] = offset;
    words[this.#length++] = bytes;
    this.inMemory = true;
    this.#add(bytes);
  }

  zero(bytes: number): void {
    this.#words[this.#length++] = source.ZERO;
    this.#words[this.#length++] = bytes;
    this.#add(bytes);
  }

  /** Appends the sources to the command that was begun with `count`. */
  write(commands: Commands): void {
    for (let i = 0; i < this.#length; i++) commands.word(this.#words[i]);
  }
}
