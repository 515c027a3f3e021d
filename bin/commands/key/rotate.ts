/** `millrace key rotate`. */
import path from 'node:path';
import type { Command } from 'commander';
import { type RotationReport, rotateKey } from '../../../engine/store-keys.ts';
import { EXIT, Failure } from '../../failure.ts';
import { formatBytes } from '../../flags.ts';
import { makeKeyFile, requireKeyFile } from '../../key-file.ts';
import { defaultJournals, defaultKeyFile, defaultStore } from '../../paths.ts';
import { isWithin } from '../../preflight.ts';
import { ProgressLine } from '../../progress.ts';

interface RotateArguments {
  store?: string;
  keyFile?: string;
  newKeyFile?: string;
  journalDir?: string;
  rewrite?: boolean;
  json?: boolean;
}

interface Places {
  store: string;
  keyFile: string;
  newKeyFile: string | undefined;
}

function checkPlaces({ store, keyFile, newKeyFile }: Places, rewrite: boolean): void {
  if (newKeyFile === undefined) {
    if (rewrite) return;
    throw new Failure({
      message: 'there is nothing to do',
      hint: 'name a file for the new key with --new-key-file, or give --rewrite, or both',
      exitStatus: EXIT.usage,
    });
  }
  if (newKeyFile === keyFile) {
    throw new Failure({
      message: `the new key's file is that of the old one, ${keyFile}`,
      hint: 'name another one with --new-key-file; the old one stays as it is',
      exitStatus: EXIT.usage,
    });
  }
  if (isWithin(newKeyFile, store)) {
    throw new Failure({
      message: `the new key's file ${newKeyFile} lies within the store`,
      hint: 'keep the key where the storage side cannot read it',
      exitStatus: EXIT.usage,
    });
  }
}

async function run(flags: RotateArguments): Promise<void> {
  const { newKeyFile } = flags;
  const places: Places = {
    store: flags.store === undefined ? defaultStore() : path.resolve(flags.store),
    keyFile: flags.keyFile === undefined ? defaultKeyFile() : path.resolve(flags.keyFile),
    newKeyFile: newKeyFile === undefined ? undefined : path.resolve(newKeyFile),
  };
  const rewrite = flags.rewrite === true;
  checkPlaces(places, rewrite);
  requireKeyFile(places.keyFile);
  let created = false;
  const line = new ProgressLine();
  const report = await rotateKey({
    ...places,
    journals: flags.journalDir === undefined ? defaultJournals() : path.resolve(flags.journalDir),
    rewrite,
    makeNewKey: () => {
      if (places.newKeyFile !== undefined) created = makeKeyFile(places.newKeyFile).created;
    },
    onProgress: (progress) => line.show(progress, 'sealed anew'),
  }).finally(() => line.end());
  const json = { ...places, newKeyFile: places.newKeyFile ?? null, created, ...report };
  process.stdout.write(flags.json ? `${JSON.stringify(json)}\n` : textOf(places, report, created));
  if ((report.rewritten?.unopened ?? 0) > 0) process.exitCode = EXIT.failed;
}

function textOf({ keyFile, newKeyFile }: Places, report: RotationReport, made: boolean): string {
  const { epoch, epochs, rotated, rewritten } = report;
  const lines: string[] = [];
  if (newKeyFile !== undefined) {
    const how = rotated ? 'rotated' : 'was rotated already';
    lines.push(
      `${how}: what is stored from now on is sealed in epoch ${epoch}, under ${newKeyFile}`,
    );
    if (made) lines.push(`made ${newKeyFile}`);
    lines.push(
      `next: keep a copy of ${newKeyFile} in a safe place; whoever loses it loses the data`,
      `next: mount with --key-file ${newKeyFile}; ${keyFile} is refused now`,
    );
  }
  if (rewritten !== undefined) lines.push(...rewrittenLines(rewritten));
  const older = epochs.filter((each) => each !== epoch);
  if (older.length === 0) {
    if (newKeyFile !== undefined) {
      lines.push(
        `next: once the copy is safe, destroy ${keyFile} and its copies: it opens nothing here`,
      );
    }
  } else {
    const command = `millrace key rotate --rewrite --key-file ${newKeyFile ?? keyFile}`;
    lines.push(
      `what was sealed in epoch ${older.join(', ')} opens with the key of that time still, ` +
        `until it is sealed anew: ${command}`,
    );
  }
  return `${lines.join('\n')}\n`;
}

function rewrittenLines(rewritten: NonNullable<RotationReport['rewritten']>): string[] {
  const { values, resealed, resealedBytes, current, unopened, named } = rewritten;
  const lines = [
    `sealed anew: ${resealed} chunks, ${formatBytes(resealedBytes)}, and ${values} values of the tree`,
  ];
  if (current > 0) lines.push(`${current} chunks were of this epoch already`);
  if (unopened === 0) return lines;
  for (const { id, flaw, reason } of named) {
    lines.push(`chunk ${id} does not open: ${flaw}${reason === '' ? '' : ` (${reason})`}`);
  }
  lines.push(
    `${unopened} chunks do not open and stay as they are; no earlier key is forgotten`,
    '  next: millrace fsck --deep names the files that need them; run this again without them',
  );
  return lines;
}

const AFTER = `
Examples:
  millrace key rotate --key-file old --new-key-file new            a new key from now on
  millrace key rotate --key-file old --new-key-file new --rewrite  and for what is there as well
  millrace key rotate --key-file new --rewrite                     the latter, later

The new file is made where it does not exist: 64 hexadecimal digits, mode 0600. The old one is never
touched. Nothing is stored twice: content that is there is found again under the new key.

Whoever has an old key reads, until --rewrite has ended, what was sealed under it, if he can read
the store. After that he opens nothing; whether a text that he guesses is stored, he can still tell.
What was replaced may be left in the disk's free space and in copies of the store.

Killed at any time, it goes on when the same command is run again. To save time, run gc before.

Exit status: 0 done, 1 failed or a chunk does not open, 2 wrong usage.`;

/** Adds the command to `millrace key`. */
export function addKeyRotateCommand(key: Command): void {
  key
    .command('rotate')
    .summary('seal under a new key')
    .description(
      'Gives a store that is not mounted a new key. What is stored from then on is sealed under it; ' +
        'what is there opens with it too, and with --rewrite with no other.',
    )
    .option('--store <dir>', 'the store (env MILLRACE_STORE, else ~/.local/share/millrace/store)')
    .option('--key-file <file>', 'its key (env MILLRACE_KEY_FILE, else ~/.config/millrace/key)')
    .option('--new-key-file <file>', 'the key to rotate to; made where it does not exist')
    .option(
      '--journal-dir <dir>',
      'recovery journals (env MILLRACE_JOURNAL_DIR, else ~/.local/state/millrace)',
    )
    .option('--rewrite', 'seal everything anew that earlier keys have sealed, and forget these')
    .option('--json', 'print JSON')
    .addHelpText('after', AFTER)
    .action(run);
}
