import { type ChunkReferences, native, type ScrubReport } from '../../engine/native.ts';
import type { Extent } from '../../engine/tree/types.ts';

const ID_WORDS = 8;
const REFERENCE_WORDS = ID_WORDS + 1;
/** References that go to the addon at once. */
const BATCH = 1024;

/** The chunks that the extents of a tree refer to. Memory: see native/store/src/references.rs. */
export class ExtentReferences {
  readonly #references: ChunkReferences;
  readonly #words = new Uint32Array(BATCH * REFERENCE_WORDS);
  #used = 0;
  #total = 0;

  constructor(engine: number) {
    this.#references = new (native().ChunkReferences)(engine);
  }

  /** How many different ones there are, once they are sealed. */
  get total(): number {
    return this.#total;
  }

  add(extent: Extent): void {
    this.#words.set(extent.id, this.#used);
    this.#words[this.#used + ID_WORDS] = extent.chunkLength;
    this.#used += REFERENCE_WORDS;
    if (this.#used === this.#words.length) this.#flush();
  }

  /** No more will be added. */
  seal(): ChunkReferences {
    this.#flush();
    this.#total = this.#references.seal();
    return this.#references;
  }

  progress(): number[] {
    return this.#references.progress();
  }

  #flush(): void {
    this.#references.add(this.#words.subarray(0, this.#used));
    this.#used = 0;
  }
}

/** What is told of the chunks of a clean store too. */
export function chunkCounts(report: ScrubReport): Omit<ScrubReport, 'named' | 'damaged'> {
  const { used, usedBytes, unused, unusedBytes } = report;
  return { used, usedBytes, unused, unusedBytes };
}
