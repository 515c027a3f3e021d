import { Buffer } from 'node:buffer';
import { REGION_BYTES } from '../layout.ts';
import { HASH_BYTES } from './set-sum.ts';
import type { Extent, RegionContent } from './types.ts';

/** Contents whose ids had to be read for, and lengths of zeros, that are remembered. */
const READ_MAX = 16_384;
const ZEROS_MAX = 1024;
/** Words that tell an extent apart within its region: place, length, place in the chunk, id. */
const EXTENT_WORDS = 11;

/** What hashes of trees are made of. Implemented over the addon's vault; by node:crypto in unit tests. */
export interface TreeDigest {
  /** 32 bytes: a keyed hash. Valid until the next call of any method. */
  hash(part: Uint8Array): Uint8Array;
  /** 32 bytes: the id of a chunk of these bytes and so many zeros behind them. Valid as above. */
  contentId(bytes: Uint8Array, zeros: number): Uint8Array;
  /**
   * 32 bytes: the id of a chunk of the bytes from `start` on, `length` of them, where the extents
   * lie and zeros between. Reads them, on another thread; rejects when they cannot be read.
   */
  readContentId(extents: readonly Extent[], start: number, length: number): Promise<Uint8Array>;
}

/**
 * Identities of regions: the id that one chunk of all of a region's bytes has, however the region is
 * stored. Most regions are such a chunk; small contents and zeros are hashed here and now; only what
 * lies in several chunks is read, once for each list of extents, because chunks never change.
 */
export class ContentDigest {
  readonly #digest: TreeDigest;
  readonly #read = new Map<string, Uint8Array>();
  readonly #zeros = new Map<number, Uint8Array>();

  constructor(digest: TreeDigest) {
    this.#digest = digest;
  }

  /** The id of so many zeros. */
  zeros(length: number): Uint8Array {
    const known = this.#zeros.get(length);
    if (known !== undefined) return known;
    const id = this.#digest.contentId(new Uint8Array(0), length).slice();
    if (this.#zeros.size >= ZEROS_MAX) forgetOldest(this.#zeros);
    this.#zeros.set(length, id);
    return id;
  }

  /** The id of the first `length` bytes of a region, 1 or more; a promise where they must be read. */
  id(content: RegionContent, index: number, length: number): Uint8Array | Promise<Uint8Array> {
    if ('inline' in content) {
      const bytes = content.inline.subarray(0, length);
      return this.#digest.contentId(bytes, length - bytes.length).slice();
    }
    const { extents } = content;
    if (extents.length === 0) return this.zeros(length);
    const start = index * REGION_BYTES;
    if (extents.length === 1 && isWhole(extents[0], start, length)) return idOf(extents[0]);
    const name = this.#nameOf(extents, start, length);
    return this.#read.get(name) ?? this.#readOnce(name, extents, { start, length });
  }

  /** The same for lists of extents that are the same relative to the start of their region. */
  #nameOf(extents: readonly Extent[], start: number, length: number): string {
    const words = new Uint32Array(1 + extents.length * EXTENT_WORDS);
    words[0] = length;
    extents.forEach((extent, at) => {
      const word = 1 + at * EXTENT_WORDS;
      words[word] = extent.offset - start;
      words[word + 1] = extent.length;
      words[word + 2] = extent.chunkOffset;
      words.set(extent.id, word + 3);
    });
    return Buffer.from(this.#digest.hash(new Uint8Array(words.buffer))).toString('latin1');
  }

  async #readOnce(
    name: string,
    extents: readonly Extent[],
    { start, length }: { start: number; length: number },
  ): Promise<Uint8Array> {
    const id = await this.#digest.readContentId(extents, start, length);
    if (this.#read.size >= READ_MAX) forgetOldest(this.#read);
    this.#read.set(name, id);
    return id;
  }
}

/** Whether the extent is all of a chunk, and the chunk is all of the content. */
function isWhole(extent: Extent, start: number, length: number): boolean {
  const { offset, chunkOffset, chunkLength } = extent;
  return (
    offset === start && chunkOffset === 0 && chunkLength === length && extent.length === length
  );
}

function idOf({ id }: Extent): Uint8Array {
  const bytes = new Uint8Array(HASH_BYTES);
  const view = new DataView(bytes.buffer);
  id.forEach((word, at) => {
    view.setUint32(at * 4, word, true);
  });
  return bytes;
}

function forgetOldest<K>(map: Map<K, unknown>): void {
  for (const key of map.keys()) {
    map.delete(key);
    return;
  }
}
