/** Runs the yardstick's compare.py: a neutral load that knows nothing of the file systems it measures. */
import { execFile, execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from './places.ts';

/** One line of compare.py's results. */
export interface YardstickLine extends Record<string, unknown> {
  system: string;
}

/** Where the yardstick lies, or undefined where there is none: MILLRACE_YARDSTICK, else beside the checkout. */
export function findYardstick(): string | undefined {
  const named = process.env['MILLRACE_YARDSTICK'];
  const directory = named ? path.resolve(named) : path.resolve(ROOT, '../shared/yardstick');
  return existsSync(path.join(directory, 'compare.py')) ? directory : undefined;
}

/** Copies the yardstick to a directory of ours: it compiles its load beside itself, and may be read-only. */
export function copyYardstick(from: string, to: string): string {
  const copy = path.join(to, 'yardstick');
  cpSync(from, copy, { recursive: true });
  execFileSync('chmod', ['-R', 'u+w', copy]);
  return copy;
}

/** Builds the bound, or takes the build of an earlier run; MILLRACE_BOUND names a ready binary. */
export function buildBound(yardstick: string): string {
  const ready = process.env['MILLRACE_BOUND'];
  if (ready) return path.resolve(ready);
  const target = path.join(
    process.env['XDG_CACHE_HOME'] || path.join(homedir(), '.cache'),
    'millrace-bench',
  );
  mkdirSync(target, { recursive: true });
  execFileSync(
    'cargo',
    [
      'build',
      '--release',
      '--locked',
      '--quiet',
      '--manifest-path',
      path.join(yardstick, 'bound/Cargo.toml'),
    ],
    { stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, CARGO_TARGET_DIR: target } },
  );
  return path.join(target, 'release/bound');
}

/** One job on several mounted directories, once. */
export interface YardstickRun {
  yardstick: string;
  /** A job of workload.c with its options after colons. */
  jobSpec: string;
  systems: ReadonlyArray<{ name: string; directory: string; pid: number }>;
  /** A directory for the results. */
  scratch: string;
}

/** Runs the job over the systems in turn; rejects when one of them fails or returns wrong bytes. */
export async function runYardstick(run: YardstickRun): Promise<YardstickLine[]> {
  const results = path.join(run.scratch, 'results.jsonl');
  const words = ['--reps', '1', '--jobs', run.jobSpec, '--json', results];
  for (const { name, directory, pid } of run.systems) {
    words.push('--dir', `${name}=${directory}`, '--pid', `${name}=${pid}`);
  }
  await promisify(execFile)('python3', [path.join(run.yardstick, 'compare.py'), ...words]);
  const lines = readFileSync(results, 'utf8').trim().split('\n');
  rmSync(results);
  return lines.map((line) => JSON.parse(line) as YardstickLine);
}

/** The figures of a line where larger is better, as compare.py chooses them. */
export function yardstickRates(line: YardstickLine): Array<[name: string, value: number]> {
  if (typeof line['iops'] === 'number') return [['iops', line['iops']]];
  return Object.entries(line).filter(
    (entry): entry is [string, number] =>
      typeof entry[1] === 'number' && (entry[0] === 'gbps' || /_(ops|gbps)$/.test(entry[0])),
  );
}
