/** The targets in TypeScript, each on a thread that is watched. */
import { Buffer } from 'node:buffer';
import { Worker } from 'node:worker_threads';
import type { FuzzProgress } from './fuzzer.ts';
import { crashDirectory, crashText, type FuzzRow, keep } from './report.ts';
import { type ScriptJob, WATCHED_BYTES, WATCHED_HEAD_BYTES } from './script-worker.ts';
import type { FuzzTarget } from './target.ts';

/** An input that takes longer does not end. */
const INPUT_MS_MAX = 20_000;

/** What the thread says at its end. */
interface Outcome {
  progress: FuzzProgress;
  failure?: { path: string; text: string };
}

/** Fuzzes one target. */
export async function fuzzScript(
  target: FuzzTarget,
  options: { seconds: number; seed: number; say: (line: string) => void },
): Promise<FuzzRow> {
  const { seconds, seed, say } = options;
  const watched = new SharedArrayBuffer(WATCHED_BYTES);
  const job: ScriptJob = { target: target.name, milliseconds: seconds * 1000, seed, watched };
  const { progress, failure } = await outcomeOf(job);
  const row: FuzzRow = {
    target: target.name,
    executions: progress.executions,
    seconds: progress.seconds,
    found: progress.found,
    coverage: `${progress.blocks} blocks`,
  };
  if (failure === undefined) return row;
  say(failure.text);
  say(crashText(target.name, failure.path, target.corpus ?? `test/fuzz/corpus/${target.name}`));
  return { ...row, failure: failure.text.split('\n')[0] };
}

function outcomeOf(job: ScriptJob): Promise<Outcome> {
  const worker = new Worker(new URL('./script-worker.js', import.meta.url), { workerData: job });
  const head = new Int32Array(job.watched, 0, 2);
  return new Promise((resolve, reject) => {
    let last = -1;
    const watch = setInterval(() => {
      const begun = Atomics.load(head, 0);
      if (begun !== last) {
        last = begun;
        return;
      }
      clearInterval(watch);
      const input = Buffer.from(new Uint8Array(job.watched, WATCHED_HEAD_BYTES).slice(0, head[1]));
      const path = keep(crashDirectory(), input, `${job.target}-endless-`);
      const text = `an input has not ended after ${INPUT_MS_MAX / 1000} s`;
      const progress = { executions: begun, seconds: 0, found: 0, blocks: 0 };
      worker.terminate().then(() => resolve({ progress, failure: { path, text } }), reject);
    }, INPUT_MS_MAX);
    worker.on('message', (outcome: Outcome) => resolve(outcome));
    worker.on('error', reject);
    worker.on('exit', () => {
      clearInterval(watch);
      reject(new Error(`the thread of ${job.target} has left without a word`));
    });
  });
}
