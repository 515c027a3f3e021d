/** `millrace gc`. */
import path from 'node:path';
import type { Command } from 'commander';
import { type StoreSweepReport, sweepStore } from '../../engine/store-upkeep.ts';
import { durationSeconds, formatBytes } from '../flags.ts';
import { defaultKeyFile, defaultStore } from '../paths.ts';
import { ProgressLine } from '../progress.ts';

interface GcArguments {
  store?: string;
  keyFile?: string;
  grace: number;
  dryRun?: boolean;
  json?: boolean;
}

async function run(flags: GcArguments): Promise<void> {
  const store = flags.store === undefined ? defaultStore() : path.resolve(flags.store);
  const keyFile = flags.keyFile === undefined ? defaultKeyFile() : path.resolve(flags.keyFile);
  const [graceSeconds, dryRun] = [flags.grace, flags.dryRun === true];
  const line = new ProgressLine();
  const onProgress = line.show.bind(line);
  const report = await sweepStore({ store, keyFile, graceSeconds, dryRun, onProgress }).finally(
    () => line.end(),
  );
  const json = { store, dryRun, graceSeconds, ...report };
  process.stdout.write(flags.json ? `${JSON.stringify(json)}\n` : textOf(report, dryRun));
}

function textOf(report: StoreSweepReport, dryRun: boolean): string {
  const { used, usedBytes, young, youngBytes, deleted, deletedBytes } = report;
  const { orphans, leftovers } = report;
  const lines = [
    `${dryRun ? 'would delete' : 'deleted'} ${deleted} chunks, ${formatBytes(deletedBytes)}`,
    `kept ${used} chunks that files need, ${formatBytes(usedBytes)}`,
  ];
  if (young > 0) lines.push(`kept ${young} younger ones, ${formatBytes(youngBytes)}`);
  if (orphans > 0)
    lines.push(`${dryRun ? 'would delete' : 'deleted'} ${orphans} files without a name`);
  if (leftovers.files > 0) {
    const bytes = formatBytes(leftovers.bytes);
    lines.push(`removed ${leftovers.files} files of writes that never ended, ${bytes}`);
  }
  return `${lines.join('\n')}\n`;
}

const AFTER = `
Nothing is deleted where the tree is damaged: see millrace fsck. While a store is not mounted nobody
writes to it, so a grace period of 0 is safe; a longer one keeps what was written since.`;

/** Adds the command to the program. */
export function addGcCommand(program: Command): void {
  program
    .command('gc')
    .summary('delete chunks that no file needs')
    .description('Deletes the chunks of a store that is not mounted that no file needs.')
    .option('--store <dir>', 'the store (env MILLRACE_STORE, else ~/.local/share/millrace/store)')
    .option('--key-file <file>', 'its key (env MILLRACE_KEY_FILE, else ~/.config/millrace/key)')
    .option('--grace <duration>', 'keep what is younger: 90s, 10m, 12h, 7d', durationSeconds, 0)
    .option('--dry-run', 'delete no chunk, only count')
    .option('--json', 'print JSON')
    .addHelpText('after', AFTER)
    .action(run);
}
