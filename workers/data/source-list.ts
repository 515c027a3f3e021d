/** Where the bytes of a READ, SETTLE or INLINE come from. */
import { CHUNK_ID_BYTES, source, WORD_BYTES } from '../../engine/layout.ts';
import { type Commands, LIST_WORDS_MAX } from '../commands.ts';

/** Pieces that a list has room for: as many as blocks of 4 KiB make a region. */
export const PIECES_LISTED = 1024;
const ID_WORDS = CHUNK_ID_BYTES / WORD_BYTES;
/** Words of an extent with a hole before it: what is added before anybody asks whether the list is full. */
const STEP_WORDS = 2 + 3 + ID_WORDS;
/**
 * Words from which on a list is full, whatever it names. With every piece that it has room for, that is some 28,000
 * extents with as many holes: more than a region can have, whichever version has written it (REGION_EXTENTS_MAX).
 */
const LIST_WORDS = LIST_WORDS_MAX - STEP_WORDS;

/**
 * Writes the sources of a command behind it: between `begin` and `end` nobody else may write commands.
 * Threads: its worker's own.
 */
export class SourceList {
  readonly #commands: Commands;
  #first = 0;
  /** Pieces in the list. */
  #pieces = 0;
  /** Sources in the list. */
  count = 0;
  /** Bytes that they yield. */
  bytes = 0;
  /** Whether one of them lies in shared memory, which may be reused soon: it must be read here and now. */
  inMemory = false;

  constructor(commands: Commands) {
    this.#commands = commands;
  }

  /** Begins the list of the command that was written last. */
  begin(): this {
    this.#first = this.#commands.position;
    this.#pieces = 0;
    this.count = 0;
    this.bytes = 0;
    this.inMemory = false;
    return this;
  }

  /** Tells the command how many sources it has: its last word. */
  end(): void {
    this.#commands.patch(this.#first - 1, this.count);
  }

  /** Whether the list has room for no further source: it names as many pieces as it may, or is too long. */
  get isFull(): boolean {
    return this.#pieces >= PIECES_LISTED || this.#commands.position - this.#first >= LIST_WORDS;
  }

  #add(bytes: number): void {
    this.count += 1;
    this.bytes += bytes;
  }

  frame(frame: number, offset: number, bytes: number): void {
    this.#pieces += 1;
    this.#commands.word(source.FRAME);
    this.#commands.word(frame);
    this.#commands.word(offset);
    this.#commands.word(bytes);
    this.inMemory = true;
    this.#add(bytes);
  }

  chunk(id: Uint32Array, offset: number, bytes: number): void {
    this.#commands.word(source.CHUNK);
    this.#commands.word(offset);
    this.#commands.word(bytes);
    for (let i = 0; i < ID_WORDS; i++) this.#commands.word(id[i]);
    this.#add(bytes);
  }

  inline(slot: number, offset: number, bytes: number): void {
    this.#commands.word(source.INLINE);
    this.#commands.word(slot);
    this.#commands.word(offset);
    this.#commands.word(bytes);
    this.inMemory = true;
    this.#add(bytes);
  }

  zero(bytes: number): void {
    this.#commands.word(source.ZERO);
    this.#commands.word(bytes);
    this.#add(bytes);
  }
}
