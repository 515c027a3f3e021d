/** `millrace bench`. */
import { tmpdir, totalmem } from 'node:os';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { LOAD_JOBS, type LoadJob } from '../../bench/load.ts';
import { ownBenchmark, ownResultText } from '../../bench/own.ts';
import { LOAD } from '../../bench/places.ts';
import { DATA_WORKERS_MAX } from '../../engine/layout.ts';
import { countIn, formatSize, sizeIn } from '../flags.ts';
import { Failure } from '../failure.ts';

const MIB = 2 ** 20;

interface BenchArguments {
  size: number;
  seconds: number;
  reps: number;
  jobs: readonly LoadJob[];
  threads: readonly number[];
  store?: string;
  json?: boolean;
  dataWorkers?: number;
  fuseThreads?: number;
  slab?: number;
}

function readJobs(text: string): LoadJob[] {
  return text.split(',').map((word) => {
    const job = LOAD_JOBS.find((name) => name === word);
    if (job === undefined) throw new InvalidArgumentError(`Jobs are ${LOAD_JOBS.join(', ')}.`);
    return job;
  });
}

function readThreads(text: string): number[] {
  return text.split(',').map(countIn({ min: 1, max: 64 }));
}

function mountWords(flags: BenchArguments): string[] {
  const words: string[] = [];
  if (flags.dataWorkers !== undefined) words.push('--data-workers', `${flags.dataWorkers}`);
  if (flags.fuseThreads !== undefined) words.push('--fuse-threads', `${flags.fuseThreads}`);
  if (flags.slab !== undefined) words.push('--slab', formatSize(flags.slab));
  return words;
}

async function run(flags: BenchArguments): Promise<void> {
  const base = flags.store ?? (existsSync('/dev/shm') ? '/dev/shm' : tmpdir());
  if (!existsSync(base))
    throw new Failure({ message: `${base} does not exist`, hint: `mkdir -p ${base}` });
  if (!existsSync(LOAD)) {
    throw new Failure({ message: 'the load generator is not built', hint: 'npm run setup' });
  }
  const result = await ownBenchmark({
    sizeBytes: flags.size,
    seconds: flags.seconds,
    repetitions: flags.reps,
    jobs: flags.jobs,
    threads: flags.threads,
    base: path.resolve(base),
    mountWords: mountWords(flags),
    onStep: (text) => void process.stderr.write(`bench: ${text}\n`),
  });
  process.stdout.write(
    flags.json ? `${JSON.stringify(result, undefined, 2)}\n` : ownResultText(result),
  );
}

/** Adds the command to the program. */
export function addBenchCommand(program: Command): void {
  const count = (max: number): ((text: string) => number) => countIn({ min: 1, max });
  program
    .command('bench')
    .summary('measure a mount beside a plain directory')
    .description(
      'Mounts a temporary store, loads it and a plain directory beside it in turn, verifies what it reads ' +
        'back, and prints medians with their spread. Removes everything it made.',
    )
    .addOption(
      new Option('--size <size>', 'bytes per thread')
        .argParser(sizeIn({ min: MIB, max: totalmem(), step: MIB }))
        .default(2 ** 30, '1G'),
    )
    .option('--seconds <n>', 'length of the random jobs', count(3600), 5)
    .option('--reps <n>', 'repetitions, each with a fresh store', count(100), 3)
    .addOption(
      new Option('--jobs <list>', `some of ${LOAD_JOBS.join(',')}`)
        .argParser(readJobs)
        .default(LOAD_JOBS, 'all'),
    )
    .addOption(
      new Option('--threads <list>', 'how many threads load at once')
        .argParser(readThreads)
        .default([1, 4], '1,4'),
    )
    .option(
      '--store <dir>',
      'where to make the temporary store and the plain directory (default: /dev/shm)',
    )
    .option('--data-workers <n>', 'as for mount', count(DATA_WORKERS_MAX))
    .option('--fuse-threads <n>', 'as for mount', count(64))
    .option('--slab <size>', 'as for mount', sizeIn({ min: 64 * MIB, max: totalmem(), step: MIB }))
    .option('--json', 'print JSON')
    .action(run);
}
