/** The tree's sealer over the addon's vault: key material never enters JavaScript. */
import { native } from '../../engine/native.ts';
import type { Sealer } from '../../engine/tree/types.ts';

/** Longest value: an xattr of 64 KiB, or a region of many extents. */
const VALUE_BYTES_MAX = 1 << 20;
const NAME_HASH_BYTES = 16;

/** Seals and opens values of the tree in buffers of its own. Threads: the tree worker's. */
export class VaultSealer implements Sealer {
  readonly #engine: number;
  readonly #native = native();
  readonly #sealed = new Uint8Array(VALUE_BYTES_MAX);
  readonly #opened = new Uint8Array(VALUE_BYTES_MAX);
  readonly #hash = new Uint8Array(NAME_HASH_BYTES);

  constructor(engine: number) {
    this.#engine = engine;
  }

  nameHash(ino: number, name: Uint8Array): Uint8Array {
    this.#native.nameHash(this.#engine, ino, name, this.#hash);
    return this.#hash;
  }

  seal(key: Uint8Array, plain: Uint8Array): Uint8Array {
    const bytes = this.#native.seal(this.#engine, key, plain, this.#sealed);
    return this.#sealed.subarray(0, bytes);
  }

  open(key: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
    const bytes = this.#native.unseal(this.#engine, key, sealed, this.#opened);
    return bytes < 0 ? undefined : this.#opened.subarray(0, bytes);
  }
}
