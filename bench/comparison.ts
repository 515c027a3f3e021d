/** Turns the lines of many runs into one table: medians, spread, ratio to the reference, CPU time. */
import { figure, spread, spreadText } from './statistics.ts';
import { type YardstickLine, yardstickRates } from './yardstick.ts';

/** A line with the job that it belongs to. */
export interface ComparisonLine extends YardstickLine {
  /** The job as it was asked for, without its size. */
  asked: string;
}

function cell(values: readonly number[], reference: readonly number[]): string {
  if (values.length === 0) return '–';
  const mine = spread(values);
  const ratio =
    reference.length > 0 ? ` ×${(mine.median / spread(reference).median).toFixed(2)}` : '';
  return `${spreadText(mine)}${ratio}`;
}

function cpuCell(lines: readonly ComparisonLine[]): string {
  const values = lines
    .map((line) => line['fs_cpu_s_per_gb'])
    .filter((value): value is number => typeof value === 'number');
  return values.length === 0 ? '–' : figure(spread(values).median);
}

/** The Markdown table of all jobs; the first system is the reference of the ratios. */
function comparisonTable(lines: readonly ComparisonLine[], systems: readonly string[]): string {
  const [reference = ''] = systems;
  const rows = [
    `| job | rate | ${systems.join(' | ')} | CPU s/GB: ${systems.join(', ')} |`,
    `|---|---|${'---|'.repeat(systems.length + 1)}`,
  ];
  for (const asked of new Set(lines.map((line) => line.asked))) {
    const ofJob = lines.filter((line) => line.asked === asked);
    const by = (system: string): ComparisonLine[] => ofJob.filter((line) => line.system === system);
    for (const [rate] of yardstickRates(ofJob[0] as ComparisonLine)) {
      const values = (system: string): number[] =>
        by(system)
          .flatMap((line) => yardstickRates(line).filter(([name]) => name === rate))
          .map(([, v]) => v);
      const cells = systems.map((system) => cell(values(system), values(reference)));
      const cpu = systems.map((system) => cpuCell(by(system))).join(', ');
      rows.push(`| ${asked} | ${rate} | ${cells.join(' | ')} | ${cpu} |`);
    }
  }
  return `${rows.join('\n')}\n`;
}

/** A whole comparison: everything that a reader needs to judge it. */
export interface ComparisonReport {
  /** The machine card in one line. */
  machine: string;
  /** The first one is the reference of the ratios. */
  systems: ReadonlyArray<{ name: string; version: string }>;
  repetitions: number;
  /** The most bytes that one process of a job writes. */
  sizeBytes: number;
  /** What was typed. */
  command: string;
  lines: readonly ComparisonLine[];
}

/** The machine, how often, and the table, for a terminal. */
export function comparisonText(report: ComparisonReport): string {
  const names = report.systems.map((system) => system.name);
  return (
    `${report.machine}\n${report.repetitions} repetitions, median (min–max), ` +
    `× is the ratio to ${names[0]}\n\n${comparisonTable(report.lines, names)}`
  );
}

/** The page that is kept with the sources. */
export function comparisonPage(report: ComparisonReport): string {
  const names = report.systems.map((system) => system.name);
  const versions = report.systems.map(({ name, version }) => `${name} (${version})`);
  return `# Results

Written by \`${report.command}\` on ${new Date().toISOString().slice(0, 10)}; the lines behind it are in RESULTS.json.
Do not edit: measure again.

- Machine: ${report.machine}
- Systems: ${versions.join(', ')}; all with their storage on /dev/shm
- ${report.repetitions} repetitions, each of each job on fresh mounts and empty stores, the systems in turn; up to ${report.sizeBytes / 2 ** 20} MiB a process
- Cells: median (min–max), × is the ratio to ${names[0]}; a dash: the system cannot do the job. Larger is better, but for CPU
- Rates: gbps is 10⁹ bytes a second; iops and ops are a second. CPU: seconds of the file system's own processes for each 10⁹ bytes

Figures count beside the others of this table only. Method, and what is not measured: [README.md](README.md).

${comparisonTable(report.lines, names)}`;
}
