/** Runs the load generator of bench/load/load.c. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { LOAD } from './places.ts';

/** What one run of the load printed: gbps, iops or *_ops (larger is better), latencies in µs. */
export type LoadResult = Record<string, number | string>;

/** The jobs, in an order in which each finds what it needs. */
export const LOAD_JOBS = ['write', 'read', 'randread', 'randwrite', 'small'] as const;

/** One of {@link LOAD_JOBS}. */
export type LoadJob = (typeof LOAD_JOBS)[number];

/** One run. */
export interface LoadOptions {
  directory: string;
  job: LoadJob;
  threads: number;
  sizeBytes: number;
  seconds: number;
  /** Runs of one salt share their files. */
  salt: number;
}

/** Runs one job to its end; rejects on an I/O error or wrong bytes. */
export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const { directory, job, threads, sizeBytes, seconds, salt } = options;
  const numbers = { threads, size: sizeBytes, seconds, salt };
  const words = Object.entries(numbers).map(([name, value]) => `${name}=${value}`);
  const { stdout } = await promisify(execFile)(LOAD, [directory, job, ...words]);
  return JSON.parse(stdout) as LoadResult;
}

/** The figures of a result where larger is better. */
export function rates(result: LoadResult): Array<[name: string, value: number]> {
  return Object.entries(result).filter(
    (entry): entry is [string, number] =>
      typeof entry[1] === 'number' && /^(gbps|iops|.*_ops)$/.test(entry[0]),
  );
}
