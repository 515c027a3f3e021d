/**
 * The targets in Rust: libFuzzer over `native/fuzz`, with AddressSanitizer where a nightly toolchain is at hand.
 *
 * The flags that have code counted are cargo-fuzz's; they work on a stable toolchain too, which has no AddressSanitizer.
 * Targets put what they are given between closed pages all the same.
 */
import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryRoot } from '../support/repository.ts';
import { crashDirectory, crashText, type FuzzRow, foundDirectory } from './report.ts';

const COVERAGE_FLAGS = [
  '--cfg fuzzing',
  '-Cpasses=sancov-module',
  '-Cllvm-args=-sanitizer-coverage-level=4',
  '-Cllvm-args=-sanitizer-coverage-inline-8bit-counters',
  '-Cllvm-args=-sanitizer-coverage-pc-table',
  '-Cllvm-args=-sanitizer-coverage-trace-compares',
];
/** Seconds of one input, and memory of the process, beyond which it counts as broken. */
const INPUT_SECONDS_MAX = 20;
const MEMORY_MIB_MAX = 4096;
const INPUT_BYTES_MAX = 65_536;

const root = repositoryRoot();
const corpora = join(root, 'native/fuzz/corpus');

/** A fuzzer that was built. */
export interface NativeFuzzer {
  readonly binary: string;
  readonly hasSanitizer: boolean;
}

/** Names of the targets: each has a corpus. */
export function nativeTargets(): string[] {
  return readdirSync(corpora).sort();
}

function call(command: string, words: readonly string[]): SpawnSyncReturns<string> {
  return spawnSync(command, words, { cwd: root, encoding: 'utf8' });
}

/** Builds the fuzzer; says why there is none, as a line, where that cannot be. */
export function buildNative(say: (line: string) => void): NativeFuzzer | string {
  if (call('c++', ['--version']).status !== 0) return 'there is no C++ compiler for libFuzzer';
  const version = call('rustc', ['-vV']);
  const host = /^host: (.+)$/m.exec(version.stdout ?? '')?.[1];
  if (host === undefined) return 'there is no Rust toolchain';
  const hasNightly = call('rustup', ['run', 'nightly', 'rustc', '--version']).status === 0;
  say(
    hasNightly
      ? 'native targets: nightly toolchain, with AddressSanitizer'
      : 'native targets: no nightly toolchain (rustup toolchain install nightly), so no AddressSanitizer; ' +
          'buffers lie between closed pages all the same',
  );
  const directory = `native/target/${hasNightly ? 'fuzz-asan' : 'fuzz'}`;
  const words = [
    ...(hasNightly ? ['run', 'nightly', 'cargo', 'build'] : ['build']),
    ...['--manifest-path', 'native/Cargo.toml', '--locked', '--quiet', '--profile', 'fuzz'],
    ...['--target', host, '--target-dir', directory],
    ...['-p', 'millrace-fuzz', '--features', 'libfuzzer', '--bin', 'fuzz'],
  ];
  const flags = hasNightly ? [...COVERAGE_FLAGS, '-Zsanitizer=address'] : COVERAGE_FLAGS;
  const environment = { ...process.env, RUSTFLAGS: flags.join(' ') };
  const built = spawnSync(hasNightly ? 'rustup' : 'cargo', words, {
    cwd: root,
    env: environment,
    stdio: 'inherit',
  });
  if (built.status !== 0) throw new Error('the fuzzer of the native targets does not build');
  return { binary: join(root, directory, host, 'fuzz/fuzz'), hasSanitizer: hasNightly };
}

/** Runs the fuzzer on one target with these words of libFuzzer; its exit status and what it printed. */
function launch(
  fuzzer: NativeFuzzer,
  target: string,
  words: readonly string[],
): Promise<{ status: number; text: string }> {
  const environment = {
    ...process.env,
    MILLRACE_FUZZ_TARGET: target,
    // Mappings live as long as the process, on purpose.
    ASAN_OPTIONS: 'detect_leaks=0',
  };
  const child = spawn(fuzzer.binary, words, {
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  const collect = (part: Buffer): void => {
    text += part.toString();
  };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve({ status: status ?? 1, text }));
  });
}

/** Fuzzes one target. */
export async function fuzzNative(
  fuzzer: NativeFuzzer,
  target: string,
  options: { seconds: number; seed: number; say: (line: string) => void },
): Promise<FuzzRow> {
  const { seconds, seed, say } = options;
  const start = performance.now();
  const { status, text } = await launch(fuzzer, target, [
    `-max_total_time=${Math.max(1, Math.round(seconds))}`,
    `-seed=${seed % 2 ** 31 || 1}`,
    `-max_len=${INPUT_BYTES_MAX}`,
    `-timeout=${INPUT_SECONDS_MAX}`,
    `-rss_limit_mb=${MEMORY_MIB_MAX}`,
    '-detect_leaks=0',
    '-print_final_stats=1',
    `-artifact_prefix=${crashDirectory()}/${target}-`,
    foundDirectory(target),
    join(corpora, target),
  ]);
  const number = (pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? 0);
  const row: FuzzRow = {
    target: `native ${target}`,
    executions: number(/number_of_executed_units:\s+(\d+)/),
    seconds: (performance.now() - start) / 1000,
    found: number(/new_units_added:\s+(\d+)/),
    coverage: `${[...text.matchAll(/ cov: (\d+)/g)].at(-1)?.[1] ?? 0} edges`,
  };
  if (status === 0) return row;
  const file = /Test unit written to (\S+)/.exec(text)?.[1];
  const why = /panicked at .*\n.*|ERROR: .*/.exec(text)?.[0] ?? `exit status ${status}`;
  say(text.split('\n').slice(-60).join('\n'));
  if (file !== undefined) say(crashText(target, file, `native/fuzz/corpus/${target}`));
  return { ...row, failure: why.replace('\n', ': ') };
}

/** Runs one input; its exit status. What it prints goes to `say`. */
export async function replayNative(
  fuzzer: NativeFuzzer,
  target: string,
  options: { file: string; say: (line: string) => void },
): Promise<number> {
  const { status, text } = await launch(fuzzer, target, [options.file]);
  options.say(text);
  return status;
}

/** What is left without a fuzzer: every kept input once. True when all promises hold. */
export function replayNativeCorpora(): boolean {
  const words = ['test', '--manifest-path', 'native/Cargo.toml', '--locked', '--quiet'];
  const { status } = spawnSync('cargo', [...words, '-p', 'millrace-fuzz'], {
    cwd: root,
    stdio: 'inherit',
  });
  return status === 0;
}
