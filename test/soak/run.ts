/**
 * `npm run soak`: one store in use for an hour, by programs that know what they wrote.
 * Prints a line for each cycle, and fails with the first loss, complaint or growth; the store is kept then.
 */
import { mountProblem, rootProblem } from '../support/mount.ts';
import { testSeed } from '../support/random.ts';
import { positiveNumber, seed, tool } from '../support/tool-flags.ts';
import { Soak, type SoakRow } from './soak.ts';

const flags = tool(
  'soak',
  'Uses one store for long, and holds its content, memory and descriptors.',
)
  .option('--minutes <n>', 'how long', positiveNumber, 60)
  .option('--cycle <seconds>', 'work between two looks at everything', positiveNumber, 15)
  .option('--seed <n>', 'of what is done; taken from the clock unless given', seed)
  .parse()
  .opts<{ minutes: number; cycle: number; seed?: number }>();

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
  const { minutes, cycle, seed: drawn = testSeed() } = flags;
  const problem = mountProblem() ?? rootProblem();
  if (problem !== undefined) {
    say(`the soak cannot run, which proves nothing: ${problem}`);
    return 1;
  }
  say(`soaking for ${minutes} min, seed ${drawn}`);
  const deadline = Date.now() + minutes * 60_000;
  const soak = new Soak(drawn);
  let failure: unknown;
  try {
    await soak.begin();
    say(HEAD.join('  '));
    while (Date.now() < deadline) say(lineOf(await soak.cycle(cycle)));
  } catch (error) {
    failure = error;
  }
  const place = await soak.end(failure !== undefined);
  if (failure === undefined) {
    say('nothing was lost, and nothing grew');
    return 0;
  }
  say(failure instanceof Error ? (failure.stack ?? failure.message) : String(failure));
  say(`seed ${drawn}; the store is kept in ${place}`);
  return 1;
}

process.exit(await main());
