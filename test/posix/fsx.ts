/**
 * The stage `fsx` of `npm test`: random operations on files of a mount, each read compared with what
 * the suite knows. Files are worked on side by side; between rounds the mount ends and comes again,
 * and every file must read as before.
 */
import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { countIn } from '../../bin/flags.ts';
import { type Mount, mountProblem, temporaryDirectory, withMount } from '../support/mount.ts';
import { seed, tool } from '../support/tool-flags.ts';
import { runSuite, secondsSince, suitePath } from './suite.ts';

const OPERATIONS = 100_000;
const OPERATIONS_LONG = 10_000_000;
const COUNT = countIn({ min: 1, max: Number.MAX_SAFE_INTEGER });
/** Files of one round, one of each shape; they are worked on at the same time. */
const ROUNDS = 4;
const ROUNDS_LONG = 25;
/** Milliseconds that one file may take in one round. */
const LIMIT_MS = 600_000;
/** First kernel that allows shared mappings of files which bypass its cache: 6.6. */
const MAPPING_KERNEL = [6, 6] as const;

/** What kind of file is worked on, and how. */
interface Shape {
  name: string;
  /** Bytes of the longest file, and of the largest operation. */
  fileBytes: number;
  operationBytes: number;
  /** Part of the operations that this shape gets. */
  share: number;
  weights: Readonly<Record<string, number>>;
}

const COMMON = {
  read: 10,
  write: 10,
  truncate: 3,
  close_open: 1,
  fsync: 0.5,
  fdatasync: 0.5,
  posix_fallocate: 1,
  punch_hole: 3,
  sendfile: 2,
  posix_fadvise: 1,
  copy_file_range: 3,
} as const;
const MAPPING = { mapread: 5, mapwrite: 5, invalidate: 1 } as const;
const NO_MAPPING = { mapread: 0, mapwrite: 0 } as const;

/**
 * Files around the 4 KiB that lie inline, ordinary ones with and without mappings, and one that
 * reaches over borders of regions (4 MiB) and requests (1 MiB).
 */
const SHAPES: readonly Shape[] = [
  { name: 'small', fileBytes: 9_000, operationBytes: 3_000, share: 0.35, weights: MAPPING },
  { name: 'plain', fileBytes: 300_000, operationBytes: 20_000, share: 0.35, weights: NO_MAPPING },
  { name: 'mapped', fileBytes: 300_000, operationBytes: 70_000, share: 0.27, weights: MAPPING },
  { name: 'large', fileBytes: 9_000_000, operationBytes: 1_500_000, share: 0.03, weights: MAPPING },
];

interface Plan {
  operations: number;
  rounds: number;
  seed: number;
}

function plan(): Plan {
  const flags = tool(
    'fsx',
    'Random operations on files of a mount, over several mounts of one store.',
  )
    .option('--operations <n>', `of all files together (default: ${OPERATIONS})`, COUNT)
    .option('--seed <n>', 'of the first file; the next ones count on from it (default: 1)', seed)
    .option('--long', `${OPERATIONS_LONG} operations, with seeds taken from the clock`)
    .parse()
    .opts<{ operations?: number; seed?: number; long?: true }>();
  const isLong = flags.long === true;
  return {
    operations: flags.operations ?? (isLong ? OPERATIONS_LONG : OPERATIONS),
    rounds: isLong ? ROUNDS_LONG : ROUNDS,
    seed: flags.seed ?? (isLong ? Date.now() : 1),
  };
}

/** Whether this kernel can map what bypasses its cache; told where it cannot. */
function canMap(): boolean {
  const [major, minor] = release().split('.').map(Number);
  const can =
    major > MAPPING_KERNEL[0] || (major === MAPPING_KERNEL[0] && minor >= MAPPING_KERNEL[1]);
  if (!can) process.stdout.write(`fsx: Linux ${release()} cannot map these files: left out\n`);
  return can;
}

function configuration({ fileBytes, operationBytes, weights }: Shape, maps: boolean): string {
  const all = { ...COMMON, ...weights, ...(maps ? {} : { ...NO_MAPPING, invalidate: 0 }) };
  return [
    `flen = ${fileBytes}`,
    '[opsize]',
    `max = ${operationBytes}`,
    // fallocate(2) refuses ranges without bytes.
    'min = 1',
    '[weights]',
    ...Object.entries(all).map(([name, weight]) => `${name} = ${weight}`),
    '',
  ].join('\n');
}

function digest(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

/** Works on one file of each shape at the same time; the count of operations that went well. */
async function round(
  dir: string,
  scratch: string,
  { operations, seed }: { operations: number; seed: number },
): Promise<number> {
  const program = suitePath('fsx');
  let done = 0;
  const runs = SHAPES.map(async ({ name, share }, index) => {
    const count = Math.ceil(operations * share);
    const words = ['-f', join(scratch, `${name}.toml`), '-N', String(count)];
    words.push('-S', String(seed + index), '-P', scratch, join(dir, name));
    const { status, output } = await runSuite(program, words, { limitMs: LIMIT_MS });
    if (status !== 0) {
      const told =
        output.length < 6000 ? output : `${output.slice(0, 1000)}…${output.slice(-5000)}`;
      throw new Error(`${name}, seed ${seed + index}: fsx ended with ${status}:\n${told}`);
    }
    done += count;
  });
  const failed = (await Promise.allSettled(runs)).find((run) => run.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  return done;
}

async function allRounds(mount: Mount, scratch: string, { operations, rounds, seed }: Plan) {
  let done = 0;
  const start = performance.now();
  for (let number = 0; number < rounds; number++) {
    const first = seed + number * SHAPES.length;
    done += await round(mount.dir, scratch, { operations: operations / rounds, seed: first });
    const before = SHAPES.map(({ name }) => digest(join(mount.dir, name)));
    const status = await mount.umount();
    if (status !== 0) throw new Error(`the mount ended with ${status}`);
    await mount.remount();
    for (const [index, { name }] of SHAPES.entries()) {
      if (digest(join(mount.dir, name)) === before[index]) continue;
      throw new Error(`${name}, seed ${first + index}: other bytes after the mount came again`);
    }
    if (rounds > ROUNDS) {
      const where = `round ${number + 1} of ${rounds}, ${done} operations`;
      process.stdout.write(`fsx: ${where}, ${secondsSince(start)}\n`);
    }
  }
  if ((await mount.umount()) !== 0) throw new Error('the last mount did not end well');
  const files = rounds * SHAPES.length;
  process.stdout.write(`fsx: ${done} operations, ${files} seeds from ${seed} on, `);
  process.stdout.write(`${rounds} times mounted again, all as it should be\n`);
}

async function main(): Promise<void> {
  const start = performance.now();
  const wanted = plan();
  const problem = mountProblem();
  if (problem !== undefined) throw new Error(problem);
  const scratch = temporaryDirectory('fsx');
  const maps = canMap();
  for (const shape of SHAPES) {
    writeFileSync(join(scratch, `${shape.name}.toml`), configuration(shape, maps));
  }
  try {
    await withMount({ flags: ['-o', 'shared_mmap=allow'] }, (mount) =>
      allRounds(mount, scratch, wanted),
    );
  } catch (error) {
    process.stderr.write(`fsx: what the file should hold is in ${scratch}\n`);
    throw error;
  }
  rmSync(scratch, { recursive: true, force: true });
  process.stdout.write(`fsx: ${secondsSince(start)}\n`);
}

await main().catch((error: unknown) => {
  process.stderr.write(`fsx: ${(error as Error).message}\n`);
  process.exitCode = 1;
});
