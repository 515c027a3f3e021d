/**
 * The experiments: what an operation costs while more and more lies around it. Each has a mount and a store of its
 * own; `load/constant.c` takes the times.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { mountMillrace } from '../mounted.ts';
import { CONSTANT } from '../places.ts';
import { type Spread, spread } from '../statistics.ts';

/** How far to go. */
export interface Scale {
  /** Names in the directory, ascending. */
  files: readonly number[];
  /** Sizes of the sparse file in bytes. */
  sizes: readonly number[];
  /** Files that are held open. */
  held: readonly number[];
  /** Timed calls of most operations in a round. */
  count: number;
  /** Timed calls of reads and writes at random places in a round. */
  accesses: number;
  /** Written pieces of the sparse file. */
  extents: number;
  /** How often each point is measured. */
  rounds: number;
}

const KIB = 1024;
const SIZES = [KIB ** 2, KIB ** 3, KIB ** 4] as const;

/** The two scales by name: `small` shows within a minute that the bench works, `full` is the figure. */
export const SCALES: Readonly<Record<'small' | 'full', Scale>> = {
  small: {
    files: [1_000, 10_000],
    sizes: SIZES,
    held: [1, 100, 1_000],
    count: 1_000,
    accesses: 2_000,
    extents: 1_000,
    rounds: 1,
  },
  full: {
    files: [1_000, 10_000, 100_000, 1_000_000],
    sizes: SIZES,
    held: [1, 100, 1_000, 10_000],
    count: 2_000,
    accesses: 20_000,
    extents: 1_000,
    rounds: 3,
  },
};

/** One operation with so much around it; spreads are of rounds, times in µs. */
export interface Point {
  x: number;
  samples: number;
  medianUs: Spread;
  p99Us: Spread;
  /** All calls, and what made them durable, over their number. */
  wholeUs: Spread;
}

/** One operation. */
export interface Curve {
  operation: string;
  points: Point[];
}

/** One experiment. */
export interface Experiment {
  title: string;
  /** What x counts. */
  unit: 'files' | 'bytes';
  curves: Curve[];
}

interface Timing {
  samples: number;
  medianUs: number;
  p99Us: number;
  wholeUs: number;
}

/** The timings of one run of the program, with the x that it ran at. */
interface Sample {
  x: number;
  timings: Record<string, Timing>;
}

type Numbers = Record<string, number>;
type Told = (text: string) => void;

const PROGRAM_TIMEOUT_MS = 900_000;

async function runConstant(
  directory: string,
  job: string,
  numbers: Numbers,
): Promise<Record<string, Timing>> {
  const words = Object.entries(numbers).map(([name, value]) => `${name}=${value}`);
  const limits = { timeout: PROGRAM_TIMEOUT_MS, killSignal: 'SIGKILL' } as const;
  const { stdout } = await promisify(execFile)(CONSTANT, [directory, job, ...words], limits);
  return JSON.parse(stdout) as Record<string, Timing>;
}

function curvesOf(samples: readonly Sample[]): Curve[] {
  const xs = [...new Set(samples.map(({ x }) => x))];
  return Object.keys(samples[0]?.timings ?? {}).map((operation) => ({
    operation,
    points: xs.map((x) => {
      const timings = samples.flatMap((each) => (each.x === x ? [each.timings[operation]] : []));
      const known = timings.filter((timing) => timing !== undefined);
      return {
        x,
        samples: known.reduce((sum, { samples: count }) => sum + count, 0),
        medianUs: spread(known.map(({ medianUs }) => medianUs)),
        p99Us: spread(known.map(({ p99Us }) => p99Us)),
        wholeUs: spread(known.map(({ wholeUs }) => wholeUs)),
      };
    }),
  }));
}

/** Runs a body on a fresh mount, and takes it away. */
async function onMount<T>(base: string, body: (directory: string) => Promise<T>): Promise<T> {
  const home = mkdtempSync(path.join(base, 'millrace-constant-'));
  try {
    const mountPoint = path.join(home, 'mount');
    mkdirSync(mountPoint);
    const mounted = await mountMillrace({
      mountPoint,
      store: path.join(home, 'store'),
      keyFile: path.join(home, 'key'),
    });
    let status = 1;
    let result: T;
    try {
      result = await body(mountPoint);
    } finally {
      status = await mounted.unmount();
    }
    if (status !== 0) throw new Error(`unmounting ended with status ${status}`);
    return result;
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

/** One directory that grows; its fill is a curve too: the mean of making the names from one size to the next. */
async function directoryExperiment(scale: Scale, base: string, onStep: Told): Promise<Experiment> {
  const samples: Sample[] = [];
  const fills: Sample[] = [];
  await onMount(base, async (mountPoint) => {
    const directory = path.join(mountPoint, 'many');
    mkdirSync(directory);
    let from = 0;
    for (const files of scale.files) {
      onStep(`directory of ${files} files: fill`);
      fills.push({ x: files, timings: await runConstant(directory, 'fill', { from, files }) });
      from = files;
      for (let round = 1; round <= scale.rounds; round++) {
        onStep(`directory of ${files} files: round ${round}`);
        const numbers = { files, count: scale.count, seed: round };
        samples.push({ x: files, timings: await runConstant(directory, 'directory', numbers) });
      }
    }
  });
  const curves = [...curvesOf(fills), ...curvesOf(samples)];
  return { title: 'Files in the directory', unit: 'files', curves };
}

async function sparseExperiment(scale: Scale, base: string, onStep: Told): Promise<Experiment> {
  const samples: Sample[] = [];
  await onMount(base, async (directory) => {
    for (let seed = 1; seed <= scale.rounds; seed++) {
      for (const size of scale.sizes) {
        onStep(`sparse file of ${size} bytes: round ${seed}`);
        const numbers = { size, extents: scale.extents, count: scale.accesses, seed };
        samples.push({ x: size, timings: await runConstant(directory, 'sparse', numbers) });
      }
    }
  });
  return { title: 'Size of the sparse file', unit: 'bytes', curves: curvesOf(samples) };
}

async function heldExperiment(scale: Scale, base: string, onStep: Told): Promise<Experiment> {
  const samples: Sample[] = [];
  await onMount(base, async (directory) => {
    for (let seed = 1; seed <= scale.rounds; seed++) {
      for (const held of scale.held) {
        onStep(`${held} files held open: round ${seed}`);
        const numbers = { held, count: scale.count, seed };
        samples.push({ x: held, timings: await runConstant(directory, 'held', numbers) });
      }
    }
  });
  return { title: 'Files held open', unit: 'files', curves: curvesOf(samples) };
}

/** The name of an experiment. */
export type ExperimentName = 'directory' | 'sparse' | 'held';

/** All names of experiments, in order. */
export const EXPERIMENT_NAMES: readonly ExperimentName[] = ['directory', 'sparse', 'held'];

type Run = (scale: Scale, base: string, onStep: Told) => Promise<Experiment>;

const EXPERIMENTS: Readonly<Record<ExperimentName, Run>> = {
  directory: directoryExperiment,
  sparse: sparseExperiment,
  held: heldExperiment,
};

/** Runs one experiment with its store below `base`; rejects when a call fails or bytes read back wrong. */
export async function experiment(
  name: ExperimentName,
  { scale, base, onStep }: { scale: Scale; base: string; onStep: Told },
): Promise<Experiment> {
  return await EXPERIMENTS[name](scale, base, onStep);
}
