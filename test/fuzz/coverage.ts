/** Which blocks of our own code have run, as V8 counts them. */
import { type Profiler, Session } from 'node:inspector';
import { fileURLToPath } from 'node:url';

/** Below the root of the compiled repository: what is measured, and what is the measure itself. */
const MEASURED = /\/dist\/(engine|workers|bin)\//;

/** Blocks that have run at least once. Threads: the one that makes it. */
export class Coverage {
  readonly #session = new Session();
  readonly #seen = new Set<string>();

  constructor() {
    this.#session.connect();
    this.#post('Profiler.enable');
    this.#post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** Blocks that have run so far. */
  get size(): number {
    return this.#seen.size;
  }

  /** Blocks that have run since the last call, and never before. */
  take(): string[] {
    const taken = this.#post(
      'Profiler.takePreciseCoverage',
    ) as Profiler.TakePreciseCoverageReturnType;
    const fresh: string[] = [];
    for (const { url, scriptId, functions } of taken.result) {
      if (!url.startsWith('file:') || !MEASURED.test(fileURLToPath(url))) continue;
      for (const { ranges } of functions) {
        for (const { count, startOffset, endOffset } of ranges) {
          const block = `${scriptId}:${startOffset}:${endOffset}`;
          if (count > 0 && !this.#seen.has(block)) fresh.push(block);
        }
      }
    }
    return fresh;
  }

  /** From now on these are not new. */
  keep(blocks: readonly string[]): void {
    for (const block of blocks) this.#seen.add(block);
  }

  end(): void {
    this.#session.disconnect();
  }

  /** The inspector of one's own thread answers before the call returns. */
  #post(method: string, params: object = {}): unknown {
    let answer: unknown;
    this.#session.post(method, params, (error, result) => {
      if (error !== null) throw new Error(`${method}: ${JSON.stringify(error)}`);
      answer = result;
    });
    return answer;
  }
}
