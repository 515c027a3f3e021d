/** The counters of a mount as plain numbers, read from the control block without asking any thread. */
import { header } from './layout.ts';
import type { SharedMemory } from './shared-memory.ts';

/** What a mount has done so far; bytes and counts since it began. */
export interface Snapshot {
  /** Bytes that programs wrote. */
  bytesIn: number;
  /** Plaintext bytes that were hashed and sealed. */
  bytesSealed: number;
  /** Bytes of the objects that were stored. */
  bytesStored: number;
  /** Plaintext bytes that were in the store already. */
  bytesDeduplicated: number;
  /** Bytes that programs read. */
  bytesOut: number;
  /** Requests that the fronts took from the kernel. */
  requests: number;
  framesTotal: number;
  framesFree: number;
  /** errno of the store while puts fail, else 0. */
  storeErrno: number;
}

/** Reads the counters; each is right by itself, together they are a moment apart. */
export function takeSnapshot(memory: SharedMemory): Snapshot {
  const counter = (cell: number): number =>
    memory.words[cell >>> 2] + memory.words[(cell >>> 2) + 1] * 2 ** 32;
  const word = (cell: number): number => Atomics.load(memory.words, cell >>> 2);
  return {
    bytesIn: counter(header.BYTES_IN),
    bytesSealed: counter(header.BYTES_SEALED),
    bytesStored: counter(header.BYTES_STORED),
    bytesDeduplicated: counter(header.BYTES_DEDUPLICATED),
    bytesOut: counter(header.BYTES_OUT),
    requests: counter(header.REQUESTS),
    framesTotal: memory.buffers.frames,
    framesFree: word(header.FREE_FRAMES),
    storeErrno: word(header.STORE_ERRNO),
  };
}
