/** `millrace fsck`. */
import path from 'node:path';
import type { Command } from 'commander';
import { checkStore, type StoreCheckReport } from '../../engine/store-upkeep.ts';
import { EXIT } from '../failure.ts';
import { defaultJournals, defaultKeyFile, defaultStore } from '../paths.ts';
import { ProgressLine } from '../progress.ts';
import { formatBytes } from '../flags.ts';

interface FsckArguments {
  store?: string;
  keyFile?: string;
  journalDir?: string;
  repair?: boolean;
  deep?: boolean;
  json?: boolean;
}

async function run(flags: FsckArguments): Promise<void> {
  const store = flags.store === undefined ? defaultStore() : path.resolve(flags.store);
  const keyFile = flags.keyFile === undefined ? defaultKeyFile() : path.resolve(flags.keyFile);
  const [deep, repair] = [flags.deep === true, flags.repair === true];
  const journals =
    flags.journalDir === undefined ? defaultJournals() : path.resolve(flags.journalDir);
  const line = new ProgressLine();
  const onProgress = line.show.bind(line);
  const report = await checkStore({ store, keyFile, journals, deep, repair, onProgress }).finally(
    () => line.end(),
  );
  const json = { store, deep, clean: report.left === 0, ...report };
  process.stdout.write(flags.json ? `${JSON.stringify(json)}\n` : textOf(report, deep));
  process.exitCode = statusOf(report);
}

function statusOf({ left, findings }: StoreCheckReport): number {
  if (left > 0) return EXIT.failed;
  return findings.length > 0 ? EXIT.repaired : EXIT.ok;
}

function textOf(report: StoreCheckReport, deep: boolean): string {
  const lines: string[] = [];
  for (const { code, paths, what, advice, repaired } of report.findings) {
    const where = paths.length === 0 ? '' : `${paths.join(', ')}: `;
    lines.push(`${repaired ? 'repaired ' : ''}${code}: ${where}${what}`);
    if (!repaired) lines.push(`  next: ${advice}`);
  }
  const all = Object.values(report.counts).reduce((sum, count) => sum + count, 0);
  if (all > report.findings.length) {
    lines.push(`and ${all - report.findings.length} findings more, by code:`);
    for (const [code, count] of Object.entries(report.counts)) lines.push(`  ${code} ${count}`);
  }
  const { inodes, names, chunks, leftovers } = report;
  const read = deep ? 'opened' : 'looked for; --deep opens them';
  lines.push(
    `${inodes} inodes, ${names} names`,
    `${chunks.used} chunks, ${formatBytes(chunks.usedBytes)} (${read})`,
  );
  if (chunks.unused > 0) {
    const bytes = formatBytes(chunks.unusedBytes);
    lines.push(`${chunks.unused} chunks that no file needs, ${bytes} (millrace gc deletes them)`);
  }
  if (leftovers.files > 0) {
    const bytes = formatBytes(leftovers.bytes);
    lines.push(`${leftovers.files} files of writes that never ended, ${bytes}, are removed`);
  }
  lines.push(report.left === 0 ? 'clean' : `damaged: ${report.left} findings`);
  return `${lines.join('\n')}\n`;
}

const AFTER = `
Exit status: 0 clean, 1 damage is left (or the check could not be made), 2 wrong usage,
4 damage was found and all of it is repaired.

--repair deletes no data. It gives inodes without a name one in lost+found of their namespace, and
corrects link counts, parents of directories, counters, and marks of deleted files. What cannot be
read stays as it is, and is reported again. Where pages of the tree's own file are damaged, what can
be read becomes a new file, and the old one is kept beside it.`;

/** Adds the command to the program. */
export function addFsckCommand(program: Command): void {
  program
    .command('fsck')
    .summary('check a store')
    .description(
      'Checks a store that is not mounted: every record of its tree, and that every chunk is there. ' +
        'Names the files that are damaged, and what to do.',
    )
    .option('--store <dir>', 'the store (env MILLRACE_STORE, else ~/.local/share/millrace/store)')
    .option('--key-file <file>', 'its key (env MILLRACE_KEY_FILE, else ~/.config/millrace/key)')
    .option(
      '--journal-dir <dir>',
      'recovery journals (env MILLRACE_JOURNAL_DIR, else ~/.local/state/millrace)',
    )
    .option('--deep', 'also read, open and hash every chunk')
    .option('--repair', 'put right what can be; never deletes data')
    .option('--json', 'print JSON')
    .addHelpText('after', AFTER)
    .action(run);
}
