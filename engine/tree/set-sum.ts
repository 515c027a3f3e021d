/** Bytes of a hash. */
export const HASH_BYTES: 32 = 32;

const LIMBS = HASH_BYTES / 4;
const TWO_32 = 2 ** 32;

/**
 * What stands for a set of hashes: their sum modulo 2^256, little-endian. It needs no order, so a
 * directory of any size is summed as it is listed. The hashes are keyed: who does not have the key
 * cannot look for sets with equal sums.
 */
export class SetSum {
  readonly #limbs: Float64Array = new Float64Array(LIMBS);

  add(hash: Uint8Array): void {
    let carry = 0;
    for (let i = 0; i < LIMBS; i++) {
      const at = i * 4;
      const limb =
        (hash[at] | (hash[at + 1] << 8) | (hash[at + 2] << 16) | (hash[at + 3] << 24)) >>> 0;
      const sum = this.#limbs[i] + limb + carry;
      carry = sum >= TWO_32 ? 1 : 0;
      this.#limbs[i] = sum - carry * TWO_32;
    }
  }

  /** Writes the sum's 32 bytes. */
  write(out: Uint8Array, offset: number): void {
    for (let i = 0; i < LIMBS; i++) {
      const limb = this.#limbs[i];
      for (let byte = 0; byte < 4; byte++) out[offset + i * 4 + byte] = limb >>> (8 * byte);
    }
  }
}
