/** Objects that are used again instead of becoming garbage, at most `limit` of them. Threads: its worker's own. */
export class Pool<T> {
  readonly #make: () => T;
  /** The first `#count` are free; what lies behind them is old. Never shrinks: an array that does allocates anew. */
  readonly #free: T[] = [];
  readonly #limit: number;
  #count = 0;

  constructor(limit: number, make: () => T) {
    this.#limit = limit;
    this.#make = make;
  }

  /** An object that nobody else uses, in the state in which it was given back. */
  take(): T {
    if (this.#count === 0) return this.#make();
    this.#count -= 1;
    return this.#free[this.#count];
  }

  /** Takes an object back that nobody refers to any more; garbage when the pool is full. */
  give(object: T): void {
    if (this.#count === this.#limit) return;
    if (this.#count === this.#free.length) this.#free.push(object);
    else this.#free[this.#count] = object;
    this.#count += 1;
  }
}
