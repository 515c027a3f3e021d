/** What a worker asks of native code in its next turn, as words in a buffer that both see. */
import { COMMAND_WORDS, command, descriptor, OUT_BYTES, REGION_BYTES } from '../engine/layout.ts';
import { type Native, native, POLL } from '../engine/native.ts';
import type { Extent } from '../engine/tree/types.ts';

/** Words that a list of sources may have. Memory that no list has reached yet is not there yet. */
export const LIST_WORDS_MAX = 393_216;
/** Where a command begins at the latest: one that would begin behind it has those before it executed first. */
const BEGIN_WORDS = COMMAND_WORDS / 2;
/** Words of the buffer, more than native code asks for: room for a command that begins as late as it may, with the longest list. */
const BUFFER_WORDS = COMMAND_WORDS + LIST_WORDS_MAX;
/** Where a SETTLE says how many bytes it has, and a READ whether it is urgent: words from the command's first. */
const SETTLE_BYTES_AT = 3;
const READ_URGENT_AT = 5;

/** A commands buffer of one worker, and its turns. Threads: the worker's own. */
export class Commands {
  readonly engine: number;
  readonly worker: number;
  /** Answers of metadata requests are written here before `reply` names them. */
  readonly out: Uint8Array;
  readonly #words: Uint32Array;
  readonly #poll: Native['poll'];
  #length = 0;
  /** Where the last command begins. */
  #begun = 0;

  /** `addon` stands for native code in tests. */
  constructor(engine: number, worker: number, addon: Pick<Native, 'attach' | 'poll'> = native()) {
    this.engine = engine;
    this.worker = worker;
    const buffer = new SharedArrayBuffer(BUFFER_WORDS * 4);
    this.#words = new Uint32Array(buffer);
    this.out = new Uint8Array(new SharedArrayBuffer(OUT_BYTES));
    addon.attach(engine, worker, new Uint8Array(buffer), this.out);
    this.#poll = addon.poll;
  }

  /**
   * Has the commands executed, gives `consumed` descriptors back, and waits for more: how many are ready, 0 after the
   * timeout, or POLL.STOPPED. Throws when native code does not understand the commands.
   */
  turn(consumed: number, timeoutMicros: number): number {
    const words = this.#length;
    this.#length = 0;
    const ready = this.#poll(this.engine, this.worker, consumed, words, timeoutMicros);
    if (ready === POLL.MALFORMED) throw new Error('a worker wrote commands that make no sense');
    return ready;
  }

  /** Forgets what was written since the last turn. */
  discard(): void {
    this.#length = 0;
  }

  /** Index of the next word: where a command begins. */
  get position(): number {
    return this.#length;
  }

  /** Whether a turn may take on more; beyond that, what is written may be executed before the turn ends. */
  get hasRoom(): boolean {
    return this.#length < COMMAND_WORDS / 4;
  }

  /** Replaces a word that was written in this turn. */
  patch(position: number, word: number): void {
    this.#words[position] = word;
  }

  /** Appends one word. Throws where there is no room: what follows would be lost without a sign. */
  word(word: number): void {
    if (this.#length >= BUFFER_WORDS) throw new RangeError('a command is longer than its buffer');
    this.#words[this.#length++] = word;
  }

  /** Takes back the command that was written last, with what followed it. */
  takeBack(): void {
    this.#length = this.#begun;
  }

  #begin(operation: number): void {
    if (this.#length > BEGIN_WORDS) this.turn(0, 0);
    this.#begun = this.#length;
    this.#words[this.#length++] = operation;
  }

  /** Answers a request with `bytes` bytes of the out buffer, or with an errno. */
  reply(request: number, errno: number, offset = 0, bytes = 0): void {
    this.#begin(command.REPLY);
    this.word(request);
    this.word(errno);
    this.word(offset);
    this.word(bytes);
  }

  /** Gives one count of a frame back. */
  free(frame: number): void {
    this.#begin(command.FREE);
    this.word(frame);
  }

  /** Counts one owner of a frame more. */
  hold(frame: number): void {
    this.#begin(command.HOLD);
    this.word(frame);
  }

  /** Starts a descriptor to another worker: 15 words follow (see `message`). */
  push(worker: number, message: Uint32Array): void {
    this.#begin(command.PUSH);
    this.word(worker);
    this.#words.set(message, this.#length);
    this.#length += descriptor.WORDS - 1;
  }

  /** Seals and stores a chunk of so many bytes, unless `setBytes` says otherwise. A SourceList follows. */
  settle(job: number, inPlace: boolean, bytes: number): void {
    this.#begin(command.SETTLE);
    this.word(job);
    this.word(inPlace ? 1 : 0);
    this.word(bytes);
    this.word(0);
  }

  /** Corrects the bytes of the SETTLE that was written last. */
  setBytes(bytes: number): void {
    this.#words[this.#begun + SETTLE_BYTES_AT] = bytes;
  }

  /** Answers a READ; or a part of it, into a frame, unless that is NONE or -1. A SourceList follows. */
  read(request: number, frame: number, frameOffset: number, bytes: number): void {
    this.#begin(command.READ);
    this.word(request);
    this.word(frame);
    this.word(frameOffset);
    this.word(bytes);
    this.word(0);
    this.word(0);
  }

  /** Has the READ that was written last answered in this turn, by this thread. */
  makeUrgent(): void {
    this.#words[this.#begun + READ_URGENT_AT] = 1;
  }

  /** Fills an inline cell. A SourceList follows. */
  inline(slot: number, offset: number): void {
    this.#begin(command.INLINE);
    this.word(slot);
    this.word(offset);
    this.word(0);
  }

  /** Fails one part of a READ that is assembled in a frame. */
  failPart(request: number, errno: number): void {
    this.#begin(command.FAIL_PART);
    this.word(request);
    this.word(errno);
  }

  /** Reports that this worker's part of a SYNC is done. */
  syncDone(request: number, errno: number, slot: number): void {
    this.#begin(command.SYNC_DONE);
    this.word(request);
    this.word(errno);
    this.word(slot);
  }

  /** Asks for a barrier of the store; SYNCED answers with the token. */
  syncStore(token: number): void {
    this.#begin(command.SYNC_STORE);
    this.word(token);
  }

  /** Asks to be told, by SYNCED with the token, when movers have done every job of before. */
  quiesce(token: number): void {
    this.#begin(command.QUIESCE);
    this.word(token);
  }
}

const scratch = new Float64Array(1);
const scratchWords = new Uint32Array(scratch.buffer);

/** Words 1 … 15 of a descriptor, to be filled and pushed; one per worker, reused. */
export class Message {
  readonly words: Uint32Array = new Uint32Array(descriptor.WORDS - 1);

  /** Begins a descriptor: kind, inode slot, byte offset, length; A, B and the payload are 0. */
  begin(kind: number, slot: number, offset: number, length: number): this {
    scratch[0] = offset;
    return this.#begin(kind, slot, length);
  }

  /** The same for the byte `start` of a region. */
  beginInRegion(kind: number, slot: number, region: number, start: number, length: number): this {
    scratch[0] = region * REGION_BYTES + start;
    return this.#begin(kind, slot, length);
  }

  #begin(kind: number, slot: number, length: number): this {
    this.words.fill(0);
    this.words[descriptor.KIND - 1] = kind;
    this.words[descriptor.INODE - 1] = slot;
    this.words[descriptor.OFFSET - 1] = scratchWords[0];
    this.words[descriptor.OFFSET] = scratchWords[1];
    this.words[descriptor.LENGTH - 1] = length;
    return this;
  }

  a(value: number): this {
    this.words[descriptor.A - 1] = value;
    return this;
  }

  b(value: number): this {
    this.words[descriptor.B - 1] = value;
    return this;
  }

  /** Payload: a chunk id. */
  id(id: Uint32Array): this {
    this.words.set(id, descriptor.PAYLOAD - 1);
    return this;
  }

  /** Payload: a double. */
  double(value: number): this {
    scratch[0] = value;
    this.words[descriptor.PAYLOAD - 1] = scratchWords[0];
    this.words[descriptor.PAYLOAD] = scratchWords[1];
    return this;
  }
}

/** The double in two words of a descriptor. */
export function doubleAt(words: Uint32Array, index: number): number {
  scratchWords[0] = words[index];
  scratchWords[1] = words[index + 1];
  return scratch[0];
}

/** Index of the region in which the byte lies whose offset is the double in two words of a descriptor. */
export function regionAt(words: Uint32Array, index: number): number {
  scratchWords[0] = words[index];
  scratchWords[1] = words[index + 1];
  // A small integer comes back, where the offset itself would be an object of its own. So with the next.
  return (scratch[0] / REGION_BYTES) | 0;
}

/** That byte's offset in its region. */
export function startAt(words: Uint32Array, index: number): number {
  scratchWords[0] = words[index];
  scratchWords[1] = words[index + 1];
  return (scratch[0] % REGION_BYTES) | 0;
}

/** The extent that the descriptor at `word` tells: EXTENT and KNOWN. */
export function extentAt(words: Uint32Array, word: number): Extent {
  return {
    offset: doubleAt(words, word + descriptor.OFFSET),
    length: words[word + descriptor.LENGTH],
    chunkLength: words[word + descriptor.A],
    chunkOffset: words[word + descriptor.B],
    id: words.slice(word + descriptor.PAYLOAD, word + descriptor.WORDS),
  };
}
