/**
 * Native code in miniature around one data worker: descriptors in, commands out, and a store of what would be written.
 * Bytes are numbers of writes: a frame or chunk holds one number for each block.
 */
import {
  command,
  descriptor,
  FRAME_BYTES,
  header,
  inode,
  kind,
  NONE,
  REGION_BYTES,
  source,
} from '../../engine/layout.ts';
import { allocateBuffers, SharedMemory } from '../../engine/shared-memory.ts';
import { Commands } from '../../workers/commands.ts';
import { DataWorker } from '../../workers/data/data-worker.ts';

const WORKER = 1;
/** Frames of the slab. */
export const FRAMES = 64;

/** What a test does with commands. `at` is the index of the command's first argument in `words`. */
export interface Sink {
  settle(words: Uint32Array, at: number): void;
  read(words: Uint32Array, at: number): void;
  /** A descriptor for the tree worker: its words begin with KIND. */
  push(words: Uint32Array, at: number): void;
  hold(frame: number): void;
  free(frame: number): void;
  inline(words: Uint32Array, at: number): void;
  syncDone(request: number, errno: number): void;
  failed(request: number, errno: number): void;
}

/** A data worker without threads. Nothing in here allocates while it runs. */
export class FakeEngine {
  readonly memory: SharedMemory;
  readonly worker: DataWorker;
  readonly #commands: Commands;
  #commandWords: Uint32Array = new Uint32Array(0);
  #sink: Sink | undefined;
  #ticket = 0;
  readonly #double = new Float64Array(1);
  readonly #doubleWords = new Uint32Array(this.#double.buffer);

  constructor() {
    this.memory = new SharedMemory(
      allocateBuffers({ frames: FRAMES, dataWorkers: 1, skip: () => 0 }),
    );
    this.#commands = new Commands(0, WORKER, {
      attach: (_engine, _worker, view) => {
        this.#commandWords = new Uint32Array(view.buffer);
      },
      poll: (_engine, _worker, _consumed, words) => {
        this.#execute(words);
        return 0;
      },
    });
    this.worker = new DataWorker(this.memory, this.#commands);
  }

  /** Who is told of commands from now on. */
  listen(sink: Sink): void {
    this.#sink = sink;
  }

  /** Makes it look as if frames were short. */
  set pressure(isShort: boolean) {
    this.memory.words[header.PRESSURE >>> 2] = isShort ? 1 : 0;
  }

  /** Bytes that the inode of a slot had when it was opened. */
  open(slot: number, storedBytes: number): void {
    this.memory.doubles[this.memory.inodeWord(slot, inode.STORED) >>> 1] = storedBytes;
  }

  /**
   * Begins a descriptor: the index of its first word, for further words. `handle` sends it. The offset comes in two
   * parts, a region's index and bytes in it: a large number would be an object wherever it is handed on.
   */
  begin(what: number, slot: number, region: number, start: number, length: number): number {
    const { words } = this.memory;
    const word = this.memory.descriptorWord(WORKER, this.#ticket);
    words.fill(0, word, word + descriptor.WORDS);
    words[word + descriptor.KIND] = what;
    words[word + descriptor.INODE] = slot;
    words[word + descriptor.LENGTH] = length;
    this.#double[0] = region * REGION_BYTES + start;
    words[word + descriptor.OFFSET] = this.#doubleWords[0];
    words[word + descriptor.OFFSET + 1] = this.#doubleWords[1];
    return word;
  }

  /** Writes a double into two words of the shared memory. */
  setDouble(word: number, value: number): void {
    this.#double[0] = value;
    this.memory.words[word] = this.#doubleWords[0];
    this.memory.words[word + 1] = this.#doubleWords[1];
  }

  /** Has the worker handle the descriptor that was begun last. */
  handle(): void {
    const word = this.memory.descriptorWord(WORKER, this.#ticket);
    this.#ticket += 1;
    this.worker.handle(word);
  }

  /** Ends the worker's turn: its commands are executed. */
  turn(): void {
    this.worker.relieve();
    this.#commands.turn(0, 0);
  }

  /** A payload that lies in its frame where it lies in its MiB of the region. */
  piece(slot: number, region: number, start: number, length: number, frame: number): void {
    const word = this.begin(kind.PIECE, slot, region, start, length);
    this.memory.words[word + descriptor.A] = frame;
    this.memory.words[word + descriptor.B] = start % FRAME_BYTES;
    this.handle();
  }

  read(slot: number, region: number, start: number, length: number, request: number): void {
    const word = this.begin(kind.READ, slot, region, start, length);
    this.memory.words[word + descriptor.A] = request;
    this.memory.words[word + descriptor.PAYLOAD] = NONE;
    this.handle();
  }

  /** Reports a settle job; all words of the chunk's id are `id`. */
  settled(job: number, errno: number, id: number): void {
    const word = this.begin(kind.SETTLED, 0, 0, 0, 0);
    this.memory.words[word + descriptor.A] = job;
    this.memory.words[word + descriptor.B] = errno;
    const payload = word + descriptor.PAYLOAD;
    this.memory.words.fill(id, payload, word + descriptor.WORDS);
    this.handle();
  }

  #execute(length: number): void {
    const words = this.#commandWords;
    for (let i = 0; i < length; ) i = this.#executeOne(words, i);
  }

  #executeOne(words: Uint32Array, i: number): number {
    const sink = this.#sink;
    const at = i + 1;
    switch (words[i]) {
      case command.HOLD:
        sink?.hold(words[at]);
        return at + 1;
      case command.FREE:
        sink?.free(words[at]);
        return at + 1;
      case command.PUSH:
        sink?.push(words, at + 1);
        return at + descriptor.WORDS;
      case command.SETTLE:
        sink?.settle(words, at);
        return endOfSources(words, at + 3);
      case command.READ:
        sink?.read(words, at);
        return endOfSources(words, at + 5);
      case command.INLINE:
        sink?.inline(words, at);
        return endOfSources(words, at + 2);
      case command.SYNC_DONE:
        sink?.syncDone(words[at], words[at + 1]);
        return at + 3;
      case command.REPLY:
        sink?.failed(words[at], words[at + 1]);
        return at + 4;
      default:
        throw new Error(`command ${words[i]} at word ${i} makes no sense`);
    }
  }
}

/** Index behind the source that begins at `at`. */
export function behindSource(words: Uint32Array, at: number): number {
  switch (words[at]) {
    case source.FRAME:
    case source.INLINE:
      return at + 4;
    case source.CHUNK:
      return at + 11;
    case source.ZERO:
      return at + 2;
    default:
      throw new Error(`source ${words[at]} makes no sense`);
  }
}

/** Index behind the sources whose count lies at `at`. */
function endOfSources(words: Uint32Array, at: number): number {
  let next = at + 1;
  for (let i = 0; i < words[at]; i++) next = behindSource(words, next);
  return next;
}
