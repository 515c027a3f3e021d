/** `millrace key shred`. */
import { statSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { describeKeys } from '../../../engine/store-keys.ts';
import { type ShredReport, shredStore } from '../../../engine/store-shred.ts';
import { EXIT, Failure } from '../../failure.ts';
import { formatBytes } from '../../flags.ts';
import { destroyKeyFile, isKeyDestroyed, requireKeyFile } from '../../key-file.ts';
import { mountOf } from '../../mount-table.ts';
import { defaultKeyFile, defaultStore } from '../../paths.ts';
import { ProgressLine } from '../../progress.ts';

interface ShredArguments {
  store?: string;
  keyFile?: string;
  oldKeyFile: string[];
  oldKeysGone?: boolean;
  deep?: boolean;
  yes?: boolean;
  json?: boolean;
}

/** File systems that write what is overwritten to another place, or to another host. */
const ELSEWHERE = new Set(['btrfs', 'zfs', 'bcachefs', 'overlay', 'nfs', 'nfs4', 'cifs', 'f2fs']);

/** What overwriting these key files cannot reach. Asked before they are gone. */
function limitsOf(keyFiles: readonly string[]): string[] {
  const limits: string[] = [];
  for (const file of keyFiles) {
    const type = mountOf(file)?.type ?? 'unknown';
    if (ELSEWHERE.has(type)) {
      limits.push(
        `${file} lay on ${type}, which does not overwrite in place: blocks of before stay`,
      );
    }
    const names = statSync(file, { throwIfNoEntry: false })?.nlink ?? 1;
    if (names > 1) limits.push(`${file} had ${names} names: the others hold zeros now`);
  }
  return limits;
}

const LIMITS = [
  'copies of the key: whoever has one, or a backup of the file, still opens what it sealed',
  'the medium: an SSD keeps what was overwritten until it erases the block; destroy or discard it',
  'older copies of the store: their key ring opens with a copy of the key, and with nothing else',
  'other stores of this key, which are lost as well',
];

async function confirm({ store, uuid }: { store: string; uuid: string }): Promise<void> {
  if (!process.stdin.isTTY) {
    throw new Failure({
      message: `nothing is destroyed: the key of the store ${store} was about to be, for ever`,
      hint: 'give --yes, or run this on a terminal to confirm it there',
      exitStatus: EXIT.usage,
    });
  }
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const question =
      `This destroys the key of ${store}. Nobody can open the store afterwards, you included.\n` +
      `Type its uuid to go on (${uuid}): `;
    if ((await prompt.question(question)).trim() === uuid) return;
  } finally {
    prompt.close();
  }
  throw new Failure({
    message: 'that is not its uuid: nothing is destroyed',
    hint: 'run it again, and type what it shows',
  });
}

async function run(flags: ShredArguments): Promise<void> {
  const store = flags.store === undefined ? defaultStore() : path.resolve(flags.store);
  const keyFile = flags.keyFile === undefined ? defaultKeyFile() : path.resolve(flags.keyFile);
  const oldKeyFiles = flags.oldKeyFile.map((file) => path.resolve(file));
  const { uuid, shredding, shredded } = await describeKeys(store);
  const all = [keyFile, ...oldKeyFiles];
  // What is shredded already needs no key to say so.
  if (shredded === undefined) {
    for (const file of all) {
      if (shredding === undefined || !isKeyDestroyed(file)) requireKeyFile(file);
    }
    if (flags.yes !== true) await confirm({ store, uuid });
  }
  const limits = [...limitsOf(all), ...LIMITS];
  const line = new ProgressLine();
  const report = await shredStore({
    store,
    keyFile,
    oldKeyFiles,
    oldKeysGone: flags.oldKeysGone === true,
    deep: flags.deep === true,
    destroy: destroyKeyFile,
    isDestroyed: isKeyDestroyed,
    onProgress: (progress) => line.show(progress, 'read'),
  }).finally(() => line.end());
  const json = { store, ...report, limits };
  process.stdout.write(flags.json ? `${JSON.stringify(json)}\n` : textOf(store, report, limits));
  if (!report.proven) process.exitCode = EXIT.failed;
}

function textOf(store: string, report: ShredReport, limits: readonly string[]): string {
  const lines = [
    `shredded: the store ${store} (${report.uuid}) cannot be opened any more`,
    ...beforeLines(report),
    ...report.destroyed.map((file) => `destroyed: ${file}, overwritten, flushed and unlinked`),
    ...afterLines(report),
    'not within reach of this command:',
    ...limits.map((limit) => `  ${limit}`),
    report.proven ? 'proven' : 'NOT PROVEN: see above',
  ];
  return `${lines.join('\n')}\n`;
}

function beforeLines({ before, foreign }: ShredReport): string[] {
  const lines: string[] = [];
  if (before !== undefined) {
    const how = before.deep ? 'opened' : 'authenticated';
    for (const { epoch, chunks, bytes } of before.chunks.epochs) {
      const size = formatBytes(bytes);
      lines.push(`before: ${chunks} chunks (${size}) ${how} under the key of epoch ${epoch}`);
    }
    for (const { epoch, values } of before.values) {
      lines.push(`before: ${values} values of the tree opened under the key of epoch ${epoch}`);
    }
    const unopened = before.chunks.unopened + before.unopenedValues;
    if (unopened > 0)
      lines.push(`before: ${unopened} chunks and values opened with no key at hand`);
  }
  for (const name of foreign) lines.push(`not Millrace's, and not sealed by it: ${name}`);
  return lines;
}

function afterLines({ search, opening, keyFilesLeft }: ShredReport): string[] {
  const lines = [
    'after: the superblock holds no check and no key ring',
    `after: opening the store ends with ${opening}`,
    ...keyFilesLeft.map((file) => `after: ${file} is THERE STILL`),
  ];
  if (search === undefined) {
    lines.push(
      'after: the key file was gone or overwritten already, so the store was not searched for it',
      '  next: if the key lies elsewhere, destroy it there',
    );
    return lines;
  }
  const { files, bytes, keys, found, failure } = search;
  if (failure !== undefined) {
    lines.push(`after: the store could not be searched for the key: ${failure}`);
    return lines;
  }
  const where = `${files} files of the store, ${formatBytes(bytes)}`;
  const what = `the key and all that come from it (${keys}), as bytes, hexadecimal and base64`;
  lines.push(`after: searched ${where}, for ${what}: ${found.length} found`);
  for (const each of found) lines.push(`  FOUND ${each}`);
  return lines;
}

const AFTER = `
Examples:
  millrace key shred --store /scratch/s --key-file key --yes
  millrace key shred --store /scratch/s --key-file new --old-key-file old --json --yes

Before, it authenticates every chunk and opens every value of the tree, so that it is known that all
of them are sealed under keys that come from these files. Then it destroys the files and what the
superblock holds of keys, and searches every file of the store for any of the keys. It deletes
nothing else: the store's directory may be deleted afterwards, or kept by whoever has it.

Killed at any time, the store does not open any more once this has begun to destroy; the same
command goes on.

Exit status: 0 shredded and proven, 1 failed or not proven, 2 wrong usage or not confirmed.`;

/** Adds the command to `millrace key`. */
export function addKeyShredCommand(key: Command): void {
  key
    .command('shred')
    .summary('destroy the key: nobody can open the store afterwards')
    .description(
      'Destroys the key of a store that is not mounted, which makes everything in it unreadable for ' +
        'ever, and proves it. Asks for the uuid of the store on a terminal.',
    )
    .option('--store <dir>', 'the store (env MILLRACE_STORE, else ~/.local/share/millrace/store)')
    .option('--key-file <file>', 'its key (env MILLRACE_KEY_FILE, else ~/.config/millrace/key)')
    .option(
      '--old-key-file <file>',
      'a key that it was rotated from, to be destroyed as well; may be repeated',
      (file: string, before: string[]) => [...before, file],
      [],
    )
    .option('--old-keys-gone', 'the keys that it was rotated from are destroyed already')
    .option('--deep', 'before, open all of every chunk, not only its head')
    .option('--yes', 'do not ask')
    .option('--json', 'print JSON')
    .addHelpText('after', AFTER)
    .action(run);
}
