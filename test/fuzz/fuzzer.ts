/**
 * Feeds one target: fast-check draws inputs near the corpus, V8 tells which of them have run code that no other had, and
 * those join the corpus.
 */
import { Buffer } from 'node:buffer';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { repositoryRoot } from '../support/repository.ts';
import { Coverage } from './coverage.ts';
import { near } from './mutations.ts';
import type { FuzzTarget } from './target.ts';

/** Inputs between two looks at the coverage, which cost as much as many inputs. */
const BATCH = 64;

/** How far a run has come. */
export interface FuzzProgress {
  executions: number;
  seconds: number;
  /** Inputs that were found, beyond those that were known. */
  found: number;
  /** Blocks of code that have run. */
  blocks: number;
}

/** What broke a promise. */
export interface FuzzFailure {
  input: Buffer;
  error: unknown;
}

/** What a run is told, and whom it tells. */
export interface FuzzOptions {
  milliseconds: number;
  seed: number;
  /** Inputs of earlier runs. */
  known: readonly Buffer[];
  /** Told of each input before it runs. */
  onInput: (input: Buffer) => void;
  /** Told of each input that joins the corpus. */
  onFound: (input: Buffer) => void;
}

/** The inputs that come with the repository: what encoders make, and what is kept in files. */
export function keptInputs(target: FuzzTarget): Buffer[] {
  const directory = join(repositoryRoot(), target.corpus ?? `test/fuzz/corpus/${target.name}`);
  const files = readdirSync(directory).sort();
  return [...target.seeds(), ...files.map((file) => readFileSync(join(directory, file)))];
}

/** Runs a target for a while. Ends early with the first failure, made as small as fast-check can. */
export async function fuzz(
  target: FuzzTarget,
  options: FuzzOptions,
): Promise<{ progress: FuzzProgress; failure?: FuzzFailure }> {
  const start = performance.now();
  const coverage = new Coverage();
  const corpus = [Buffer.alloc(0), ...keptInputs(target), ...options.known];
  const progress: FuzzProgress = { executions: 0, seconds: 0, found: 0, blocks: 0 };
  const run = async (input: Buffer): Promise<void> => {
    options.onInput(input);
    progress.executions++;
    await target.run(input);
  };
  try {
    for (const input of corpus) {
      const failure = await failureOf(run, input);
      if (failure !== undefined) return { progress, failure };
    }
    coverage.keep(coverage.take());
    for (let seed = options.seed; performance.now() - start < options.milliseconds; seed++) {
      const batch: Buffer[] = [];
      const property = fc.asyncProperty(near(corpus, target.words), async (input) => {
        batch.push(input);
        await run(input);
      });
      const outcome = await fc.check(property, { numRuns: BATCH, seed });
      if (outcome.failed) {
        const [input] = outcome.counterexample ?? [Buffer.alloc(0)];
        return { progress, failure: { input, error: outcome.errorInstance } };
      }
      const fresh = coverage.take();
      if (fresh.length === 0) continue;
      for (const input of await withNewCoverage(run, coverage, batch)) {
        corpus.push(input);
        progress.found++;
        options.onFound(input);
      }
      // What only several inputs together have run is nobody's.
      coverage.keep(fresh);
    }
    return { progress };
  } finally {
    progress.seconds = (performance.now() - start) / 1000;
    progress.blocks = coverage.size;
    coverage.end();
  }
}

/** Those of a batch that run code which nothing before them has run. */
async function withNewCoverage(
  run: (input: Buffer) => Promise<void>,
  coverage: Coverage,
  batch: readonly Buffer[],
): Promise<Buffer[]> {
  const found: Buffer[] = [];
  for (const input of batch) {
    await run(input);
    const fresh = coverage.take();
    if (fresh.length > 0) found.push(input);
    coverage.keep(fresh);
  }
  return found;
}

/** Why an input breaks a promise; undefined when it does not. */
async function failureOf(
  run: (input: Buffer) => Promise<void>,
  input: Buffer,
): Promise<FuzzFailure | undefined> {
  try {
    await run(input);
    return undefined;
  } catch (error) {
    return { input, error };
  }
}
