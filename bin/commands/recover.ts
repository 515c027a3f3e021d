/** `millrace recover`. */
import path from 'node:path';
import type { Command } from 'commander';
import type { ExportedFile } from '../../engine/journal/export.ts';
import type { ReplayNotice } from '../../engine/journal/replay.ts';
import type { ShownFile, ShownJournal } from '../../engine/journal/show.ts';
import { recoverStore } from '../../engine/store-recovery.ts';
import { EXIT, Failure } from '../failure.ts';
import { formatBytes } from '../flags.ts';
import { noticeText } from '../notice.ts';
import { defaultJournals, defaultKeyFile, defaultStore } from '../paths.ts';

interface RecoverArguments {
  store?: string;
  keyFile?: string;
  journalDir?: string;
  json?: boolean;
}

const ACTIONS = ['show', 'replay', 'export'] as const;
type Action = (typeof ACTIONS)[number];

/** Ranges of one file that are shown. */
const RANGES_SHOWN = 8;

const STATES = {
  waiting: 'waits for the next mount',
  aside: 'did not fit any more: its content was put aside, it is kept',
  unfinished: 'was never finished: the next mount removes it',
} as const;

/** What the words ask for: `[STORE] [show|replay|export DIR]`. */
function parseWords(words: readonly string[]): { store?: string; action: Action; target: string } {
  const rest = [...words];
  const isAction = (word: string | undefined): word is Action =>
    ACTIONS.some((action) => action === word);
  const store = rest.length > 0 && !isAction(rest[0]) ? rest.shift() : undefined;
  const action = rest.shift() ?? 'show';
  const target = rest.shift();
  const hint = 'millrace recover [STORE] [show | replay | export DIR]';
  if (!isAction(action) || rest.length > 0) {
    throw new Failure({
      message: `"${words.join(' ')}" makes no sense`,
      hint,
      exitStatus: EXIT.usage,
    });
  }
  if ((action === 'export') !== (target !== undefined)) {
    const message = 'export, and it alone, wants a directory';
    throw new Failure({ message, hint, exitStatus: EXIT.usage });
  }
  return { ...(store !== undefined && { store }), action, target: path.resolve(target ?? '.') };
}

async function run(words: readonly string[], flags: RecoverArguments): Promise<void> {
  const { store: named = flags.store, action, target } = parseWords(words);
  const store = named === undefined ? defaultStore() : path.resolve(named);
  const keyFile = flags.keyFile === undefined ? defaultKeyFile() : path.resolve(flags.keyFile);
  const journals =
    flags.journalDir === undefined ? defaultJournals() : path.resolve(flags.journalDir);
  const outcome = await recoverStore({ store, keyFile, journals, action, target });
  if (flags.json) process.stdout.write(`${JSON.stringify({ store, action, ...outcome })}\n`);
  else if ('journals' in outcome) process.stdout.write(shownText(outcome.journals));
  else if ('notices' in outcome) process.stdout.write(replayedText(outcome.notices));
  else process.stdout.write(exportedText(outcome.exported, target));
  process.exitCode = statusOf(outcome);
}

function statusOf(outcome: Awaited<ReturnType<typeof recoverStore>>): number {
  const isBad =
    ('notices' in outcome && outcome.notices.some(({ outcome }) => outcome !== 'replayed')) ||
    ('journals' in outcome && outcome.journals.some(({ flaw }) => flaw !== undefined)) ||
    ('exported' in outcome &&
      outcome.exported.some(({ error, unreadable }) => error !== undefined || unreadable > 0));
  return isBad ? EXIT.failed : EXIT.ok;
}

function shownText(journals: readonly ShownJournal[]): string {
  if (journals.length === 0) return 'no recovery journal\n';
  return journals.map((journal) => `${linesOf(journal).join('\n')}\n`).join('');
}

function linesOf(journal: ShownJournal): string[] {
  const { file, state, flaw, created, cause, chunks, chunkBytes, changes, files, names, lost } =
    journal;
  const lines = [file, `  ${STATES[state]}`];
  if (flaw !== undefined) lines.push(`  damaged: ${flaw}`);
  if (created !== '') lines.push(`  sealed ${created}, ${cause}`);
  lines.push(`  ${chunks} chunks, ${formatBytes(chunkBytes)}; ${changes} changes of the tree`);
  for (const { change, path: name } of names) lines.push(`  name ${change}: ${name}`);
  for (const shown of files) lines.push(`  ${fileText(shown)}`);
  if (lost.length > 0) lines.push(`  lost: data of inodes ${lost.join(', ')}`);
  return lines;
}

function fileText({ path: name, size, modified, ranges }: ShownFile): string {
  const first = ranges
    .slice(0, RANGES_SHOWN)
    .map(({ offset, length }) => `${offset}-${offset + length - 1}`);
  const more = ranges.length > RANGES_SHOWN ? ` and ${ranges.length - RANGES_SHOWN} more` : '';
  const bytes = first.length === 0 ? 'attributes alone' : `bytes ${first.join(', ')}${more}`;
  return `${name}: ${bytes}, of ${size}; modified ${modified}`;
}

function replayedText(notices: readonly ReplayNotice[]): string {
  if (notices.length === 0) return 'no recovery journal\n';
  return notices.map((notice) => `${noticeText(notice)}\n`).join('');
}

function exportedText(files: readonly ExportedFile[], target: string): string {
  const lines = files.map(({ path: name, bytes, unreadable, error }) => {
    if (error !== undefined) return `${name}: not written: ${error}`;
    const holes = unreadable > 0 ? `, ${unreadable} of them unreadable (holes)` : '';
    return `${name}: ${bytes} bytes${holes}`;
  });
  const written = files.filter(({ error }) => error === undefined).length;
  lines.push(`${written} files in ${target}, in the clear and for their owner only`);
  return `${lines.join('\n')}\n`;
}

const AFTER = `
What a store refuses when its mount must end is sealed into a journal; the next mount replays it by
itself. Nothing here needs a mount:
  millrace recover                            what waits, and why
  millrace recover /scratch/store replay      bring it into the store
  millrace recover export ~/rescued           write its files as they would be, in the clear

A journal is removed once what it held is durable in the store, and never otherwise; one that its
process was killed in the middle of, which nothing was promised for, is removed by the next mount.
Exit status: 0 done, 1 something is damaged or did not fit (or it could not be done), 2 wrong usage.`;

/** Adds the command to the program. */
export function addRecoverCommand(program: Command): void {
  program
    .command('recover')
    .summary('show, replay or export what a store refused')
    .description(
      'Shows the recovery journals of a store that is not mounted, replays or exports them.',
    )
    .usage('[options] [STORE] [show | replay | export DIR]')
    .argument('[words...]', 'the store, and what to do: show unless said otherwise')
    .option('--store <dir>', 'the store (env MILLRACE_STORE, else ~/.local/share/millrace/store)')
    .option('--key-file <file>', 'its key (env MILLRACE_KEY_FILE, else ~/.config/millrace/key)')
    .option(
      '--journal-dir <dir>',
      'where journals are (env MILLRACE_JOURNAL_DIR, else ~/.local/state/millrace)',
    )
    .option('--json', 'print JSON')
    .addHelpText('after', AFTER)
    .action(run);
}
