/**
 * `npm run soak`: one store in use for an hour, by programs that know what they wrote.
 *
 *   node dist/test/soak/run.js [--minutes N] [--cycle N] [--seed S]
 *     --minutes  60 unless given
 *     --cycle    seconds of work between two looks at everything, 15 unless given
 *     --seed     taken from the clock unless given
 *
 * Prints a line for each cycle, and fails with the first loss, complaint or growth; the store is kept then.
 */
import { parseArgs } from 'node:util';
import { mountProblem, rootProblem } from '../support/mount.ts';
import { testSeed } from '../support/random.ts';
import { Soak, type SoakRow } from './soak.ts';

const MINUTES = 60;
const CYCLE_SECONDS = 15;

const { values } = parseArgs({
  options: {
    minutes: { type: 'string' },
    cycle: { type: 'string' },
    seed: { type: 'string' },
  },
});

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

const HEAD = [
  'cycle',
  'age',
  'memory MiB',
  'descriptors',
  'chunks open',
  'threads',
  'streamed MiB',
  'then',
];

function lineOf(row: SoakRow): string {
  const { cycle, age, footprint, writtenMib, ending, notes } = row;
  const { memoryMib, descriptors, chunks, threads } = footprint;
  const numbers = [cycle, age, memoryMib, descriptors, chunks, threads, writtenMib];
  const aligned = numbers.map((number, column) => String(number).padStart(HEAD[column].length));
  return [...aligned, `${notes}; ${ending}`].join('  ');
}

async function main(): Promise<number> {
  const minutes = Number(values.minutes ?? MINUTES);
  const seconds = Number(values.cycle ?? CYCLE_SECONDS);
  const seed = values.seed === undefined ? testSeed() : Number(values.seed);
  if (!(minutes > 0) || !(seconds > 0) || !Number.isSafeInteger(seed)) {
    say('--minutes, --cycle and --seed want numbers');
    return 2;
  }
  const problem = mountProblem() ?? rootProblem();
  if (problem !== undefined) {
    say(`the soak cannot run, which proves nothing: ${problem}`);
    return 1;
  }
  say(`soaking for ${minutes} min, seed ${seed}`);
  const deadline = Date.now() + minutes * 60_000;
  const soak = new Soak(seed);
  let failure: unknown;
  try {
    await soak.begin();
    say(HEAD.join('  '));
    while (Date.now() < deadline) say(lineOf(await soak.cycle(seconds)));
  } catch (error) {
    failure = error;
  }
  const place = await soak.end(failure !== undefined);
  if (failure === undefined) {
    say('nothing was lost, and nothing grew');
    return 0;
  }
  say(failure instanceof Error ? (failure.stack ?? failure.message) : String(failure));
  say(`seed ${seed}; the store is kept in ${place}`);
  return 1;
}

process.exit(await main());
