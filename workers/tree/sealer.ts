/** The tree's sealer over the addon's vault: key material never enters JavaScript. */
import { native } from '../../engine/native.ts';
import type { Sealer } from '../../engine/tree/types.ts';

/** Longest value, sealed: an xattr of 64 KiB, or a region of many extents. */
const VALUE_BYTES_MAX = 1 << 20;
const NAME_HASH_BYTES = 16;
/** Where in the scratch memory lies what goes in, and what comes out. */
export const INPUT_AT: number = VALUE_BYTES_MAX;
export const OUTPUT_AT: number = 2 * VALUE_BYTES_MAX;
/** Up to here a loop is faster than a call of TypedArray.set. */
const LOOP_BYTES_MAX = 32;

let scratch: Uint8Array | undefined;

/** This thread's scratch memory: calls of the addon then carry numbers only. */
export function scratchOfThread(): Uint8Array {
  if (scratch === undefined) {
    scratch = new Uint8Array(3 * VALUE_BYTES_MAX);
    native().setScratch(scratch);
  }
  return scratch;
}

/**
 * Seals and opens values of the tree. Threads: each has its own scratch memory, which its sealers
 * share: results are valid until the next call of any of them.
 */
export class VaultSealer implements Sealer {
  readonly #engine: number;
  readonly #native = native();
  readonly #scratch: Uint8Array = scratchOfThread();
  readonly #hash: Uint8Array = this.#scratch.subarray(OUTPUT_AT, OUTPUT_AT + NAME_HASH_BYTES);

  constructor(engine: number) {
    this.#engine = engine;
  }

  nameHash(ino: number, name: Uint8Array): Uint8Array {
    this.#put(name, INPUT_AT);
    this.#native.nameHash(this.#engine, ino, name.length);
    return this.#hash;
  }

  seal(key: Uint8Array, plain: Uint8Array): Uint8Array {
    this.#put(key, 0);
    this.#put(plain, INPUT_AT);
    const bytes = this.#native.seal(this.#engine, key.length, plain.length);
    return this.#scratch.subarray(OUTPUT_AT, OUTPUT_AT + bytes);
  }

  open(key: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
    if (sealed.length > VALUE_BYTES_MAX) return undefined;
    this.#put(key, 0);
    this.#put(sealed, INPUT_AT);
    const bytes = this.#native.unseal(this.#engine, key.length, sealed.length);
    return bytes < 0 ? undefined : this.#scratch.subarray(OUTPUT_AT, OUTPUT_AT + bytes);
  }

  #put(bytes: Uint8Array, at: number): void {
    const { length } = bytes;
    if (length > VALUE_BYTES_MAX) throw new RangeError('the value is too long to be sealed');
    if (length > LOOP_BYTES_MAX) this.#scratch.set(bytes, at);
    else for (let i = 0; i < length; i++) this.#scratch[at + i] = bytes[i];
  }
}
