/**
 * Millrace beside a plain directory on the same disk, by Millrace's own load: what `millrace bench` does.
 * Each repetition gets a fresh store, and the two take turns, so that drift of the machine hits both.
 */
import { randomInt } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { LOAD_JOBS, type LoadJob, rates, runLoad } from './load.ts';
import { type MachineCard, machineCard, machineText } from './machine.ts';
import { mountMillrace } from './mounted.ts';
import { type Spread, spread, spreadText } from './statistics.ts';

/** What to measure. */
export interface OwnBenchmark {
  sizeBytes: number;
  /** Length of the random jobs. */
  seconds: number;
  repetitions: number;
  jobs: readonly LoadJob[];
  /** How many threads load at once; each job runs once for each. */
  threads: readonly number[];
  /** Where the temporary store, mount point and plain directory are made. */
  base: string;
  /** More words for `millrace mount`. */
  mountWords: readonly string[];
  /** Told what is going on. */
  onStep: (text: string) => void;
}

/** One figure of one job on both. */
export interface OwnRow {
  job: string;
  threads: number;
  rate: string;
  millrace: Spread;
  plain: Spread;
  /** Median over median. */
  ratio: number;
}

/** Everything that was measured. */
export interface OwnResult {
  machine: MachineCard;
  sizeBytes: number;
  repetitions: number;
  rows: OwnRow[];
}

type System = 'plain' | 'millrace';
type Sample = { system: System; job: string; threads: number; rate: string; value: number };

/** The jobs in order, with `write` for those that need its files. */
function neededJobs(jobs: readonly LoadJob[]): LoadJob[] {
  const needsFiles = jobs.some((job) => job !== 'small');
  return LOAD_JOBS.filter((job) => jobs.includes(job) || (job === 'write' && needsFiles));
}

async function sampleDirectory(
  options: OwnBenchmark,
  where: { system: System; directory: string },
): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (const threads of options.threads) {
    const salt = randomInt(1, 2 ** 40);
    for (const job of neededJobs(options.jobs)) {
      options.onStep(`${where.system}: ${job}, ${threads} thread${threads > 1 ? 's' : ''}`);
      const result = await runLoad({ ...options, directory: where.directory, job, threads, salt });
      for (const [rate, value] of rates(result)) {
        if (options.jobs.includes(job))
          samples.push({ system: where.system, job, threads, rate, value });
      }
    }
  }
  return samples;
}

async function sampleMillrace(options: OwnBenchmark, base: string): Promise<Sample[]> {
  const mountPoint = path.join(base, 'mount');
  mkdirSync(mountPoint);
  const mounted = await mountMillrace({
    mountPoint,
    store: path.join(base, 'store'),
    keyFile: path.join(base, 'key'),
    words: options.mountWords,
  });
  let unmounted: number;
  let samples: Sample[];
  try {
    samples = await sampleDirectory(options, { system: 'millrace', directory: mountPoint });
  } finally {
    unmounted = await mounted.unmount();
  }
  if (unmounted !== 0) throw new Error(`unmounting ended with status ${unmounted}`);
  return samples;
}

async function samplePlain(options: OwnBenchmark, base: string): Promise<Sample[]> {
  const directory = path.join(base, 'plain');
  mkdirSync(directory);
  return await sampleDirectory(options, { system: 'plain', directory });
}

/** Odd turns begin with the plain directory, even ones with Millrace: who comes first finds colder memory. */
async function repetition(options: OwnBenchmark, turn: number): Promise<Sample[]> {
  const samples: Sample[] = [];
  const order = turn % 2 === 1 ? [samplePlain, sampleMillrace] : [sampleMillrace, samplePlain];
  for (const sample of order) {
    const base = mkdtempSync(path.join(options.base, 'millrace-bench-'));
    try {
      samples.push(...(await sample(options, base)));
    } finally {
      rmSync(base, { recursive: true, force: true });
    }
  }
  return samples;
}

function rowsOf(samples: readonly Sample[]): OwnRow[] {
  const rows = new Map<string, Sample>();
  for (const sample of samples) rows.set(`${sample.job} ${sample.threads} ${sample.rate}`, sample);
  return [...rows.values()].map(({ job, threads, rate }) => {
    const of = (system: System): Spread => {
      const mine = samples.filter(
        (s) => s.system === system && s.job === job && s.threads === threads && s.rate === rate,
      );
      return spread(mine.map((s) => s.value));
    };
    const [millrace, plain] = [of('millrace'), of('plain')];
    return { job, threads, rate, millrace, plain, ratio: millrace.median / plain.median };
  });
}

/** Measures; rejects when anything fails or reads back wrong. */
export async function ownBenchmark(options: OwnBenchmark): Promise<OwnResult> {
  const samples: Sample[] = [];
  for (let turn = 1; turn <= options.repetitions; turn++) {
    options.onStep(`repetition ${turn} of ${options.repetitions}`);
    samples.push(...(await repetition(options, turn)));
  }
  const { sizeBytes, repetitions } = options;
  return { machine: machineCard(), sizeBytes, repetitions, rows: rowsOf(samples) };
}

/** The result as Markdown. */
export function ownResultText(result: OwnResult): string {
  const lines = [
    `${machineText(result.machine)}; ${result.repetitions} repetitions, median (min–max)`,
    '',
    '| job | threads | rate | Millrace | plain directory | ratio |',
    '|---|---|---|---|---|---|',
  ];
  for (const { job, threads, rate, millrace, plain, ratio } of result.rows) {
    const unit =
      rate === 'gbps' ? 'GB/s' : rate === 'iops' ? 'op/s' : `${rate.replace('_ops', '')}/s`;
    lines.push(
      `| ${job} | ${threads} | ${unit} | ${spreadText(millrace)} | ${spreadText(plain)} | ${ratio.toFixed(2)} |`,
    );
  }
  return `${lines.join('\n')}\n`;
}
