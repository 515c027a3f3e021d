/** Draws for tests that a seed repeats exactly. */
export class Draws {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A whole number from 0 up to, not including, the bound (at most 2^32). */
  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * bound);
  }

  /** One of the values, each as likely as any other. */
  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T;
  }
}

/** The seed of this run: MILLRACE_TEST_SEED, or a new one each time. */
export function testSeed(): number {
  const given = process.env['MILLRACE_TEST_SEED'];
  return given === undefined ? Date.now() % 1_000_000_007 : Number(given);
}
