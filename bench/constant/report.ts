/** The page about constant cost: one table for each experiment. */
import { type MachineCard, machineText } from '../machine.ts';
import { figure } from '../statistics.ts';
import type { Curve, Experiment, Point, Scale } from './measure.ts';

/** All that was measured, as it is kept. */
export interface ConstantCost {
  at: string;
  command: string;
  machine: MachineCard;
  scaleName: string;
  scale: Scale;
  experiments: Experiment[];
}

const BINARY_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** "1 GiB" or "10,000": an x as people write it. */
export function xText(x: number, unit: Experiment['unit']): string {
  if (unit === 'files') return x.toLocaleString('en-US');
  const power = Math.min(Math.floor(Math.log2(x) / 10), BINARY_UNITS.length - 1);
  return `${figure(x / 1024 ** power).replace(/\.0+$/, '')} ${BINARY_UNITS[power]}`;
}

/** The last point over the first: of the medians, and of all calls with what was put off. */
function growth({ points }: Curve): string {
  const [first, last] = [points[0], points.at(-1)];
  if (first === undefined || last === undefined) return '–';
  const ratios = [
    last.medianUs.median / first.medianUs.median,
    last.wholeUs.median / first.wholeUs.median,
  ];
  return ratios.map((ratio) => `×${ratio.toFixed(2)}`).join(' / ');
}

function cell({ medianUs, p99Us, wholeUs }: Point): string {
  return [medianUs, p99Us, wholeUs].map((each) => figure(each.median)).join(' / ');
}

/** One experiment as a table of Markdown. */
export function experimentTable({ title, unit, curves }: Experiment): string {
  const xs = curves[0]?.points.map(({ x }) => xText(x, unit)) ?? [];
  const rows = curves.map(
    (curve) => `| ${curve.operation} | ${curve.points.map(cell).join(' | ')} | ${growth(curve)} |`,
  );
  return [
    `| ${title}: | ${xs.join(' | ')} | growth |`,
    `|---|${xs.map(() => '---|').join('')}---|`,
    ...rows,
  ].join('\n');
}

/** The page; `chart` is the name of the picture beside it. */
export function constantCostPage(result: ConstantCost, chart: string, lines: string): string {
  const { machine, scale } = result;
  return `# Cost per operation while things grow

Written by \`${result.command}\` on ${result.at.slice(0, 10)}; the lines behind it are in ${lines}. Do not edit: measure again.

- Machine: ${machineText(machine)}; the store on /dev/shm; scale \`${result.scaleName}\`
- Cells: median / 99th percentile / whole, in µs for one call; medians of ${scale.rounds} round${scale.rounds > 1 ? 's' : ''}. *Whole* is the time of all
  calls over their number, with the fsync that makes them durable where one can: it shows what was put off
- Growth: the right end over the left one, of the median and of whole

![Median µs per operation](${chart})

${result.experiments.map(experimentTable).join('\n\n')}

## How

- One thread, in C (\`load/constant.c\`), calls one operation after the other and times each. Bytes read are compared.
- *Directory:* one directory, filled further by mknod from column to column; so the store grows with it. ${scale.count} calls of each
  in batches of 100 that are removed again. Before each batch of stat and before each listing, \`echo 2 > /proc/sys/vm/drop_caches\` takes the
  dentries and inodes from the kernel: every stat is a LOOKUP. A listing is read by getdents of 4 KiB; its first piece is a READDIRPLUS.
- *Sparse file:* ${scale.extents} pieces of 512 bytes, evenly spread and synced, lie in it; then ${scale.accesses} blocks of 4 KiB at random places are
  written, synced and read, past the page cache (O_DIRECT). ftruncate takes the last block off and puts it back; fstat asks the file system (AT_STATX_FORCE_SYNC).
  A file of 1 MiB is one region of 4 MiB, one of 1 GiB is 256; in 1 TiB nearly every access finds a region that no other has touched. So columns also
  differ in how many regions are remembered, dirty and stored, up to as many as there are accesses.
- *Held open:* so many files were made, written and are open; others are made beside them, and random ones of them are written.
`;
}
