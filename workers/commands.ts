/** What a worker asks of native code in its next turn, as words in a buffer that both see. */
import { COMMAND_WORDS, command, descriptor, NONE, OUT_BYTES } from '../engine/layout.ts';
import { native, POLL } from '../engine/native.ts';

/** Words that the longest single command may need: a READ or SETTLE with its sources is checked by its writer. */
const HEADROOM_WORDS = 32768;

/** A commands buffer of one worker, and its turns. Threads: the worker's own. */
export class Commands {
  readonly engine: number;
  readonly worker: number;
  /** Answers of metadata requests are written here before `reply` names them. */
  readonly out: Uint8Array;
  readonly #words: Uint32Array;
  readonly #poll: ReturnType<typeof native>['poll'];
  #length = 0;

  constructor(engine: number, worker: number) {
    this.engine = engine;
    this.worker = worker;
    const buffer = new SharedArrayBuffer(COMMAND_WORDS * 4);
    this.#words = new Uint32Array(buffer);
    this.out = new Uint8Array(new SharedArrayBuffer(OUT_BYTES));
    native().attach(engine, worker, new Uint8Array(buffer), this.out);
    this.#poll = native().poll;
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

  /** Appends one word. */
  word(word: number): void {
    this.#words[this.#length++] = word;
  }

  #begin(operation: number): void {
    if (this.#length > COMMAND_WORDS - HEADROOM_WORDS) this.turn(0, 0);
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

  /** Seals and stores a chunk; `source…` calls follow, as many as `sources` says. */
  settle(job: number, inPlace: boolean, bytes: number, sources: number): void {
    this.#begin(command.SETTLE);
    this.word(job);
    this.word(inPlace ? 1 : 0);
    this.word(bytes);
    this.word(sources);
  }

  /** Answers a READ (or a part of it, into a frame); `source…` calls follow. */
  read(part: ReadPart, bytes: number, urgent: boolean, sources: number): void {
    this.#begin(command.READ);
    this.word(part.request);
    this.word(part.frame);
    this.word(part.frameOffset);
    this.word(bytes);
    this.word(urgent ? 1 : 0);
    this.word(sources);
  }

  /** Fills an inline cell; `source…` calls follow. */
  inline(slot: number, offset: number, sources: number): void {
    this.#begin(command.INLINE);
    this.word(slot);
    this.word(offset);
    this.word(sources);
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
}

/** Where the bytes of a READ go: to the kernel (frame NONE), or into the frame where an answer is assembled. */
export interface ReadPart {
  request: number;
  frame: number;
  frameOffset: number;
}

/** A READ that is answered by one worker alone. */
export function wholeRead(request: number): ReadPart {
  return { request, frame: NONE, frameOffset: 0 };
}

const scratch = new Float64Array(1);
const scratchWords = new Uint32Array(scratch.buffer);

/** Words 1 … 15 of a descriptor, to be filled and pushed; one per worker, reused. */
export class Message {
  readonly words: Uint32Array = new Uint32Array(descriptor.WORDS - 1);

  /** Begins a descriptor: kind, inode slot, byte offset, length; A, B and the payload are 0. */
  begin(kind: number, slot: number, offset: number, length: number): this {
    this.words.fill(0);
    this.words[descriptor.KIND - 1] = kind;
    this.words[descriptor.INODE - 1] = slot;
    scratch[0] = offset;
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
