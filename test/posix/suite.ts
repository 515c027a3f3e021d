/** The suites of others that `bin/setup.sh --tests` installs, and how they are run. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** How a program ended; `output` is what it wrote to both streams, in order, without colours. */
export interface SuiteRun {
  status: number;
  output: string;
}

/** What a suite's program is started with. */
export interface SuiteOptions {
  /** Milliseconds until it is killed, which counts as a failure. */
  limitMs: number;
  environment?: Readonly<Record<string, string>>;
}

/** Escape sequences of colours. */
const COLOURS = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, 'g');

/** Path of a suite's program; throws when it is not installed, since then nothing is proven. */
export function suitePath(name: string): string {
  const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  const path = join(cache, 'millrace', 'suites', 'bin', name);
  if (existsSync(path)) return path;
  throw new Error(`${path} is not there: run bin/setup.sh --tests`);
}

/** Runs a program to its end; killed at its limit, which is told as status -1. */
export function runSuite(
  program: string,
  words: readonly string[],
  { limitMs, environment = {} }: SuiteOptions,
): Promise<SuiteRun> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, RUST_BACKTRACE: '0', ...environment };
    const child = spawn(program, words, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const take = (data: Buffer): void => {
      output += data.toString();
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    const timer = setTimeout(() => child.kill('SIGKILL'), limitMs);
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ status: code ?? -1, output: output.replace(COLOURS, '') });
    });
  });
}

/** Seconds since a `performance.now()`, for people. */
export function secondsSince(startMs: number): string {
  return `${((performance.now() - startMs) / 1000).toFixed(1)} s`;
}
