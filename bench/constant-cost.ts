/**
 * `npm run bench:constant`: what an operation costs while the directory, the file or the number of open files around
 * it grows, on a mount with its store on /dev/shm.
 */
import { writeFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { chart } from './constant/chart.ts';
import { EXPERIMENT_NAMES, type ExperimentName, experiment, SCALES } from './constant/measure.ts';
import { type ConstantCost, constantCostPage, experimentTable } from './constant/report.ts';
import { machineCard } from './machine.ts';
import { ROOT } from './places.ts';

const DISK = '/dev/shm';
const PAGE = 'CONSTANT-COST.md';
const CHART = 'constant-cost.svg';
const LINES = 'CONSTANT-COST.json';

interface Arguments {
  scale: keyof typeof SCALES;
  only?: ExperimentName;
  json?: string;
  write?: boolean;
}

function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

function jsonText(result: ConstantCost): string {
  return `${JSON.stringify(result, undefined, 1)}\n`;
}

/** Writes what is to be kept with the sources. */
function keep(result: ConstantCost): void {
  const directory = `${ROOT}bench`;
  writeFileSync(`${directory}/${PAGE}`, constantCostPage(result, CHART, LINES));
  writeFileSync(`${directory}/${CHART}`, chart(result.experiments));
  writeFileSync(`${directory}/${LINES}`, jsonText(result));
  note(`written: bench/${PAGE}, bench/${CHART}, bench/${LINES}`);
}

async function run(flags: Arguments): Promise<void> {
  const scale = SCALES[flags.scale];
  const only = flags.only === undefined ? '' : ` --only ${flags.only}`;
  const result: ConstantCost = {
    at: new Date().toISOString(),
    command: `npm run bench:constant -- --scale ${flags.scale}${only}${flags.write ? ' --write' : ''}`,
    machine: machineCard(),
    scaleName: flags.scale,
    scale,
    experiments: [],
  };
  for (const name of flags.only === undefined ? EXPERIMENT_NAMES : [flags.only]) {
    const measured = await experiment(name, { scale, base: DISK, onStep: note });
    result.experiments.push(measured);
    process.stdout.write(`${experimentTable(measured)}\n\n`);
  }
  if (flags.json !== undefined) writeFileSync(flags.json, jsonText(result));
  if (flags.write) keep(result);
}

await new Command('bench:constant')
  .description(
    'Measures what operations cost while directories, files and open files grow. Needs root.',
  )
  .addOption(
    new Option('--scale <name>', 'how far to go').choices(Object.keys(SCALES)).default('small'),
  )
  .addOption(new Option('--only <experiment>', 'one experiment').choices(EXPERIMENT_NAMES))
  .option('--json <file>', 'where to write all figures')
  .option('--write', `keep the result as bench/${PAGE}, ${CHART} and ${LINES}`)
  .action(run)
  .parseAsync();
