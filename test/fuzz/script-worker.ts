/** The thread that one target in TypeScript runs on: whoever watches it can see which input it does not come back from. */
import { Buffer } from 'node:buffer';
import { parentPort, workerData } from 'node:worker_threads';
import { fuzz } from './fuzzer.ts';
import { INPUT_BYTES_MAX } from './mutations.ts';
import { crashDirectory, foundDirectory, inputsOf, keep } from './report.ts';
import { targetOf } from './targets.ts';

/** What a worker is started with. */
export interface ScriptJob {
  readonly target: string;
  readonly milliseconds: number;
  readonly seed: number;
  /** Words: how many inputs were begun, bytes of the one at hand; then its bytes. */
  readonly watched: SharedArrayBuffer;
}

/** Bytes before the input in what is watched. */
export const WATCHED_HEAD_BYTES: number = 8;
/** Bytes of what is watched. */
export const WATCHED_BYTES: number = WATCHED_HEAD_BYTES + INPUT_BYTES_MAX;

async function work({ target: name, milliseconds, seed, watched }: ScriptJob): Promise<void> {
  const target = targetOf(name);
  if (target === undefined) throw new Error(`no target ${name}`);
  const head = new Int32Array(watched, 0, 2);
  const bytes = new Uint8Array(watched, WATCHED_HEAD_BYTES);
  const directory = foundDirectory(name);
  const { progress, failure } = await fuzz(target, {
    milliseconds,
    seed,
    known: inputsOf(directory),
    onInput: (input) => {
      bytes.set(input.subarray(0, INPUT_BYTES_MAX));
      head[1] = Math.min(input.length, INPUT_BYTES_MAX);
      Atomics.add(head, 0, 1);
    },
    onFound: (input) => keep(directory, input),
  });
  if (failure === undefined) {
    parentPort?.postMessage({ progress });
    return;
  }
  const { error } = failure;
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const path = keep(crashDirectory(), Buffer.from(failure.input), `${name}-`);
  parentPort?.postMessage({ progress, failure: { path, text } });
}

if (workerData !== null && parentPort !== null) await work(workerData as ScriptJob);
