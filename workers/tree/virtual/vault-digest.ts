/** What hashes of trees are made of, over the addon's vault: keys never enter JavaScript. */
import { native } from '../../../engine/native.ts';
import type { TreeDigest } from '../../../engine/tree/hasher.ts';
import { HASH_BYTES } from '../../../engine/tree/set-sum.ts';
import type { Extent } from '../../../engine/tree/types.ts';
import { INPUT_AT, OUTPUT_AT, scratchOfThread } from '../sealer.ts';

/** Words of a piece: offset, bytes, eight of the chunk's id. */
const PIECE_WORDS = 10;

/** Threads: each has its own scratch memory; results are valid until the next call of any sealer or digest. */
export class VaultDigest implements TreeDigest {
  readonly #engine: number;
  readonly #scratch: Uint8Array = scratchOfThread();
  readonly #hash: Uint8Array = this.#scratch.subarray(OUTPUT_AT, OUTPUT_AT + HASH_BYTES);

  constructor(engine: number) {
    this.#engine = engine;
  }

  hash(part: Uint8Array): Uint8Array {
    this.#put(part);
    native().treeHash(this.#engine, part.length);
    return this.#hash;
  }

  contentId(bytes: Uint8Array, zeros: number): Uint8Array {
    this.#put(bytes);
    native().chunkId(this.#engine, bytes.length, zeros);
    return this.#hash;
  }

  readContentId(extents: readonly Extent[], start: number, length: number): Promise<Uint8Array> {
    const pieces: number[] = [];
    const end = start + length;
    let at = start;
    const zerosTo = (offset: number): void => {
      if (offset > at) pieces.push(0, offset - at, 0, 0, 0, 0, 0, 0, 0, 0);
      at = Math.max(at, offset);
    };
    for (const extent of extents) {
      if (extent.offset >= end) break;
      zerosTo(extent.offset);
      const bytes = Math.min(extent.length, end - extent.offset);
      pieces.push(extent.chunkOffset, bytes, ...extent.id);
      at = extent.offset + bytes;
    }
    zerosTo(end);
    if (pieces.length % PIECE_WORDS !== 0) throw new Error('a chunk id has eight words');
    return native().contentId(this.#engine, Uint32Array.from(pieces));
  }

  #put(bytes: Uint8Array): void {
    if (bytes.length > OUTPUT_AT - INPUT_AT) throw new RangeError('too long to be hashed at once');
    this.#scratch.set(bytes, INPUT_AT);
  }
}
