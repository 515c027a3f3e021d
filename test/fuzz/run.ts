/**
 * `npm run fuzz`: feeds what reads bytes that others made with bytes that nobody made.
 */
import { readFileSync } from 'node:fs';
import { testSeed } from '../support/random.ts';
import { positiveNumber, seed, tool } from '../support/tool-flags.ts';
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

const command = tool('fuzz', 'Feeds what reads bytes that others made with bytes that nobody made.')
  .argument('[targets...]', 'all of them unless given')
  .option(
    '--seconds <n>',
    'of the whole run; native targets and the others share a lane each',
    positiveNumber,
    600,
  )
  .option('--seed <n>', 'taken from the clock unless given', seed)
  .option('--replay <file>', 'runs one input of one target, and says what it breaks')
  .option('--list', 'names the targets')
  .parse();
const flags = command.opts<{ seconds: number; seed?: number; replay?: string; list?: true }>();
const positionals = command.args;

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
  if (flags.list === true) {
    for (const { name, says } of TARGETS) say(`${name.padEnd(16)} ${says}`);
    for (const name of nativeTargets()) say(`${name.padEnd(16)} native/fuzz/src/${name}.rs`);
    return 0;
  }
  const unknown = positionals.filter((name) => !names.includes(name));
  if (unknown.length > 0) {
    say(`no target ${unknown.join(', ')}; known are ${names.join(', ')}`);
    return 2;
  }
  if (flags.replay !== undefined) {
    if (positionals.length === 1) return replay(flags.replay, positionals[0]);
    say('--replay wants one target');
    return 2;
  }
  const { seconds, seed: drawn = testSeed() } = flags;
  say(`fuzzing for ${seconds} s, seed ${drawn}`);
  // Built first, so that the time is spent on inputs.
  if (nativeTargets().some(isWanted)) buildNative(() => {});
  const lanes = await Promise.all([nativeLane(seconds, drawn), scriptLane(seconds, drawn)]);
  const rows = lanes.flat();
  say(table(rows));
  return rows.some(({ failure }) => failure !== undefined) ? 1 : 0;
}

process.exitCode = await main();
