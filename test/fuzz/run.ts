/**
 * `npm run fuzz`: feeds what reads bytes that others made with bytes that nobody made.
 *
 *   node dist/test/fuzz/run.js [--seconds N] [--seed S] [target…]
 *   node dist/test/fuzz/run.js --replay FILE target
 *   node dist/test/fuzz/run.js --list
 *     --seconds  of the whole run, 600 unless given; native targets and those in TypeScript share a lane each
 *     --seed     taken from the clock unless given
 *     --replay   runs one input and says what it breaks
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { testSeed } from '../support/random.ts';
import {
  buildNative,
  fuzzNative,
  nativeTargets,
  replayNative,
  replayNativeCorpora,
} from './native-lane.ts';
import { type FuzzRow, table } from './report.ts';
import { fuzzScript } from './script-lane.ts';
import { TARGETS, targetOf } from './targets.ts';

const SECONDS = 600;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string' },
    seed: { type: 'string' },
    replay: { type: 'string' },
    list: { type: 'boolean' },
  },
});

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function isWanted(name: string): boolean {
  return positionals.length === 0 || positionals.includes(name);
}

async function replay(file: string, name: string): Promise<number> {
  const target = targetOf(name);
  if (target !== undefined) {
    await target.run(readFileSync(file));
    say(`${name} holds on ${file}`);
    return 0;
  }
  const fuzzer = buildNative(say);
  if (typeof fuzzer !== 'string') return replayNative(fuzzer, name, { file, say });
  say(`${file} cannot be run alone: ${fuzzer}; in native/fuzz/corpus/${name} cargo test runs it`);
  return 1;
}

/** The native targets, one after the other. */
async function nativeLane(seconds: number, seed: number): Promise<FuzzRow[]> {
  const names = nativeTargets().filter(isWanted);
  if (names.length === 0) return [];
  const fuzzer = buildNative(say);
  if (typeof fuzzer === 'string') {
    say(`native targets run on their corpora alone: ${fuzzer}`);
    const holds = replayNativeCorpora();
    const row = { target: 'native', executions: 0, seconds: 0, found: 0, coverage: 'corpora' };
    return [holds ? row : { ...row, failure: 'an input of the corpora' }];
  }
  const rows: FuzzRow[] = [];
  const share = seconds / names.length;
  for (const name of names)
    rows.push(await fuzzNative(fuzzer, name, { seconds: share, seed, say }));
  return rows;
}

/** Those in TypeScript. */
async function scriptLane(seconds: number, seed: number): Promise<FuzzRow[]> {
  const targets = TARGETS.filter(({ name }) => isWanted(name));
  const rows: FuzzRow[] = [];
  const share = seconds / targets.length;
  for (const target of targets) rows.push(await fuzzScript(target, { seconds: share, seed, say }));
  return rows;
}

async function main(): Promise<number> {
  const names = [...nativeTargets(), ...TARGETS.map(({ name }) => name)];
  if (values.list === true) {
    for (const { name, says } of TARGETS) say(`${name.padEnd(16)} ${says}`);
    for (const name of nativeTargets()) say(`${name.padEnd(16)} native/fuzz/src/${name}.rs`);
    return 0;
  }
  const unknown = positionals.filter((name) => !names.includes(name));
  if (unknown.length > 0) {
    say(`no target ${unknown.join(', ')}; known are ${names.join(', ')}`);
    return 2;
  }
  if (values.replay !== undefined) {
    if (positionals.length === 1) return replay(values.replay, positionals[0]);
    say('--replay wants one target');
    return 2;
  }
  const seconds = Number(values.seconds ?? SECONDS);
  const seed = values.seed === undefined ? testSeed() : Number(values.seed);
  if (!(seconds > 0) || !Number.isSafeInteger(seed)) {
    say('--seconds and --seed want numbers');
    return 2;
  }
  say(`fuzzing for ${seconds} s, seed ${seed}`);
  // Built first, so that the time is spent on inputs.
  if (nativeTargets().some(isWanted)) buildNative(() => {});
  const lanes = await Promise.all([nativeLane(seconds, seed), scriptLane(seconds, seed)]);
  const rows = lanes.flat();
  say(table(rows));
  return rows.some(({ failure }) => failure !== undefined) ? 1 : 0;
}

process.exitCode = await main();
