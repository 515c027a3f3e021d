import { type ChunkCollection, native, type SweepReport } from '../engine/native.ts';

const ID_WORDS = 8;
/** Ids that go to the addon at once. */
const BATCH = 1024;

/** A collection over the store of an engine, which begins now. Throws while another one runs. */
export function beginCollection(engine: number): Collection {
  return new Collection(new (native().ChunkCollection)(engine));
}

/**
 * A collection of garbage, which is told what is needed chunk by chunk. Memory: see
 * native/store/src/kept.rs. Threads: one.
 */
export class Collection {
  readonly #chunks: ChunkCollection;
  readonly #words = new Uint32Array(BATCH * ID_WORDS);
  #used = 0;

  constructor(chunks: ChunkCollection) {
    this.#chunks = chunks;
  }

  /** Has the sweep leave a chunk alone. */
  keep(id: Uint32Array): void {
    this.#words.set(id, this.#used);
    this.#used += ID_WORDS;
    if (this.#used === this.#words.length) this.#flush();
  }

  /** Deletes what is not kept and older than a grace period, on another thread. */
  sweep(graceSeconds: number, dryRun: boolean): Promise<SweepReport> {
    this.#flush();
    return this.#chunks.sweep(graceSeconds, dryRun);
  }

  /** Has the sweep fail soon. */
  cancel(): void {
    this.#chunks.cancel();
  }

  /** No sweep runs any more. */
  end(): void {
    this.#chunks.end();
  }

  #flush(): void {
    this.#chunks.keep(this.#words.subarray(0, this.#used));
    this.#used = 0;
  }
}
