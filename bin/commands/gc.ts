/** `millrace gc`. */
import path from 'node:path';
import type { Command } from 'commander';
import { type StoreSweepReport, sweepStore } from '../../engine/store-upkeep.ts';
import { durationSeconds, formatBytes } from '../flags.ts';
import { ask } from '../order-socket.ts';
import { defaultJournals, defaultKeyFile, defaultStore } from '../paths.ts';
import { ProgressLine } from '../progress.ts';
import { findServing, type ServingRecord } from '../serving-record.ts';

interface GcArguments {
  store?: string;
  keyFile?: string;
  journalDir?: string;
  grace: number;
  dryRun?: boolean;
  json?: boolean;
}

async function run(flags: GcArguments): Promise<void> {
  const store = flags.store === undefined ? defaultStore() : path.resolve(flags.store);
  const [graceSeconds, dryRun] = [flags.grace, flags.dryRun === true];
  const serving = findServing(store);
  const report =
    serving === undefined
      ? await collectUnmounted(store, flags)
      : await collectMounted(serving, flags);
  const mounted = serving?.mountPoint ?? null;
  const json = { store, mounted, dryRun, graceSeconds, ...report };
  process.stdout.write(flags.json ? `${JSON.stringify(json)}\n` : textOf(report, dryRun));
}

/** The mount deletes files without a name, and what writes have left, by itself. */
async function collectMounted(
  serving: ServingRecord,
  { grace, dryRun }: GcArguments,
): Promise<StoreSweepReport> {
  const order = { order: 'gc', graceSeconds: grace, dryRun: dryRun === true } as const;
  const swept = await ask(serving, order);
  return { ...swept, orphans: 0, leftovers: { files: 0, bytes: 0 } };
}

async function collectUnmounted(store: string, flags: GcArguments): Promise<StoreSweepReport> {
  const keyFile = flags.keyFile === undefined ? defaultKeyFile() : path.resolve(flags.keyFile);
  const journals =
    flags.journalDir === undefined ? defaultJournals() : path.resolve(flags.journalDir);
  const line = new ProgressLine();
  const onProgress = line.show.bind(line);
  const [graceSeconds, dryRun] = [flags.grace, flags.dryRun === true];
  const options = { store, keyFile, journals, graceSeconds, dryRun, onProgress };
  return await sweepStore(options).finally(() => line.end());
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
A store that is mounted is cleaned by the process that serves it, while programs go on; it does so on
its own as well, see --gc-interval of millrace mount. A grace period of 0 is safe in both cases: what is
in use, or on its way into a file, is never deleted. A longer one keeps what was written since.
Nothing is deleted where the tree is damaged: see millrace fsck.

Examples:
  millrace gc --dry-run        what would be deleted
  millrace gc --grace 1d       keep what was written in the last 24 hours`;

/** Adds the command to the program. */
export function addGcCommand(program: Command): void {
  program
    .command('gc')
    .summary('delete chunks that no file needs')
    .description('Deletes the chunks of a store, mounted or not, that no file needs.')
    .option('--store <dir>', 'the store (env MILLRACE_STORE, else ~/.local/share/millrace/store)')
    .option('--key-file <file>', 'its key (env MILLRACE_KEY_FILE, else ~/.config/millrace/key)')
    .option(
      '--journal-dir <dir>',
      'recovery journals (env MILLRACE_JOURNAL_DIR, else ~/.local/state/millrace)',
    )
    .option('--grace <duration>', 'keep what is younger: 90s, 10m, 12h, 7d', durationSeconds, 0)
    .option('--dry-run', 'delete no chunk, only count')
    .option('--json', 'print JSON')
    .addHelpText('after', AFTER)
    .action(run);
}
