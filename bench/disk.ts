/**
 * `npm run bench:disk`: a stream with an fsync at its end, by dd, onto a plain directory of a disk with O_DIRECT, onto the same with fsync,
 * and into a mount whose store lies on that disk; in turn, the same bytes.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { machineCard } from './machine.ts';
import { mountMillrace } from './mounted.ts';

const MEMORY = '/dev/shm';
const MIB = 1 << 20;
const BYTES_PER_GB = 1e9;

interface Arguments {
  disk: string;
  reps: string;
  size: string;
  json?: string;
}

/** One way to write the stream. */
interface Way {
  readonly name: string;
  /** Writes `source` once into fresh files of `directory`; seconds. */
  write(source: string, directory: string): Promise<number>;
}

/** Seconds that dd takes, its fsync included. */
function dd(from: string, to: string, words: readonly string[]): number {
  const begin = process.hrtime.bigint();
  execFileSync('dd', [`if=${from}`, `of=${to}`, 'bs=1M', 'status=none', ...words]);
  return Number(process.hrtime.bigint() - begin) / 1e9;
}

const DIRECT: Way = {
  name: 'dd oflag=direct',
  write: async (source, directory) =>
    dd(source, join(directory, 'direct'), ['oflag=direct', 'conv=fsync']),
};

const CACHED: Way = {
  name: 'dd conv=fsync',
  write: async (source, directory) => dd(source, join(directory, 'cached'), ['conv=fsync']),
};

const MILLRACE: Way = {
  name: 'millrace, dd conv=fsync',
  write: async (source, directory) => {
    const mountPoint = mkdtempSync(join(tmpdir(), 'millrace-bench-'));
    const keyFile = join(directory, 'key');
    writeFileSync(keyFile, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
    const store = join(directory, 'store');
    const mounted = await mountMillrace({ mountPoint, store, keyFile });
    let seconds: number;
    let status = 1;
    try {
      seconds = dd(source, join(mountPoint, 'stream'), ['conv=fsync']);
    } finally {
      status = await mounted.unmount();
      rmSync(mountPoint, { recursive: true });
    }
    if (status !== 0) throw new Error(`umount ended with status ${status}`);
    return seconds;
  },
};

/** A file in memory of bytes that never repeat. */
function makeSource(path: string, mib: number): void {
  const file = openSync(path, 'w', 0o600);
  for (let written = 0; written < mib; written++) writeSync(file, randomBytes(MIB));
  closeSync(file);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] as number;
}

function figures(rates: readonly number[]): string {
  const [low, high] = [Math.min(...rates), Math.max(...rates)];
  return `${median(rates).toFixed(2)} (${low.toFixed(2)}–${high.toFixed(2)})`;
}

async function run({ disk, reps, size, json }: Arguments): Promise<void> {
  const [rounds, mib] = [Number(reps), Number(size)];
  if (!(rounds >= 1 && mib >= 1)) throw new Error('--reps and --size want numbers from 1 on');
  const base = mkdtempSync(join(disk, 'millrace-bench-'));
  const memory = mkdtempSync(join(MEMORY, 'millrace-bench-'));
  const source = join(memory, 'source');
  const ways = [DIRECT, CACHED, MILLRACE];
  const rates = new Map<string, number[]>(ways.map(({ name }) => [name, []]));
  try {
    for (let round = 1; round <= rounds; round++) {
      makeSource(source, mib);
      for (const way of ways) {
        process.stderr.write(`bench: ${round}/${rounds} ${way.name}\n`);
        const directory = join(base, 'round');
        mkdirSync(directory);
        // What others left to be written would be paid by whoever comes next.
        execFileSync('sync');
        const seconds = await way.write(source, directory);
        rates.get(way.name)?.push((mib * MIB) / BYTES_PER_GB / seconds);
        rmSync(directory, { recursive: true });
      }
    }
  } finally {
    rmSync(base, { recursive: true, force: true });
    rmSync(memory, { recursive: true, force: true });
  }
  const bound = median(rates.get(DIRECT.name) as number[]);
  const rows = ways.map(({ name }) => {
    const measured = rates.get(name) as number[];
    return `| ${name} | ${figures(measured)} | ${(median(measured) / bound).toFixed(2)} |`;
  });
  process.stdout.write(
    [
      `${mib} MiB, ${rounds} repetitions, median (lowest–highest); the disk of ${disk}`,
      '',
      '| written by | GB/s | of dd oflag=direct |',
      '|---|---|---|',
      ...rows,
      '',
    ].join('\n'),
  );
  if (json === undefined) return;
  const all = { machine: machineCard(), disk, mib, rates: Object.fromEntries(rates) };
  writeFileSync(json, `${JSON.stringify(all, undefined, 1)}\n`);
}

await new Command('bench:disk')
  .description('Measures a stream with an fsync at its end on a disk, beside dd with O_DIRECT.')
  .option('--disk <dir>', 'a directory of the disk', tmpdir())
  .option('--reps <n>', 'repetitions', '3')
  .option('--size <mib>', 'MiB of the stream', '1024')
  .option('--json <file>', 'where to write all figures')
  .action(run)
  .parseAsync();
