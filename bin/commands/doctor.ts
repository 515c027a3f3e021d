/** `millrace doctor`. */
import path from 'node:path';
import { type Command, Option } from 'commander';
import { frontRows } from '../doctor/fronts.ts';
import { fuseRows } from '../doctor/fuse.ts';
import { hostRows } from '../doctor/host.ts';
import type { DoctorRow } from '../doctor/row.ts';
import { storeRows } from '../doctor/store.ts';
import { EXIT } from '../failure.ts';
import { formatSize, sizeIn } from '../flags.ts';
import { defaultKeyFile, defaultStore } from '../paths.ts';

const SLAB_BYTES_ASSUMED = 256 * 2 ** 20;

interface DoctorArguments {
  json?: boolean;
  store?: string;
  keyFile?: string;
  slab: number;
}

function table(rows: DoctorRow[]): string {
  const width = Math.max(...rows.map((row) => row.name.length));
  const lines = rows.map((row) => {
    const advice = row.advice ? `\n${' '.repeat(width + 10)}→ ${row.advice}` : '';
    return `${row.name.padEnd(width)}  ${row.state.padEnd(8)}${row.detail}${advice}`;
  });
  return `${lines.join('\n')}\n`;
}

async function run(flags: DoctorArguments): Promise<void> {
  const store = flags.store === undefined ? defaultStore() : path.resolve(flags.store);
  const keyFile = flags.keyFile === undefined ? defaultKeyFile() : path.resolve(flags.keyFile);
  const rows = [
    ...hostRows(flags.slab),
    ...fuseRows(),
    ...frontRows(),
    ...(await storeRows({ store, keyFile })),
  ];
  const canMount = rows.every((row) => row.state !== 'fail');
  if (flags.json) {
    process.stdout.write(`${JSON.stringify({ canMount, rows }, undefined, 2)}\n`);
  } else {
    const verdict = canMount
      ? 'A mount can work here.'
      : 'No mount can work here yet: see the rows that fail.';
    process.stdout.write(`${table(rows)}\n${verdict}\n`);
  }
  process.exitCode = canMount ? EXIT.ok : EXIT.failed;
}

/** Adds the command to the program. */
export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .summary('look at this host and say what to change')
    .description(
      'Looks at everything a mount depends on; changes nothing. Exit status 0 when a mount can work.',
    )
    .option('--store <dir>', 'the store to look at')
    .option('--key-file <file>', 'its key')
    .addOption(
      new Option('--slab <size>', 'slab to judge the memory by')
        .argParser(sizeIn({ min: 2 ** 20, max: 2 ** 50 }))
        .default(SLAB_BYTES_ASSUMED, formatSize(SLAB_BYTES_ASSUMED)),
    )
    .option('--json', 'print JSON')
    .action(run);
}
