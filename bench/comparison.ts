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
export function comparisonTable(
  lines: readonly ComparisonLine[],
  systems: readonly string[],
): string {
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
