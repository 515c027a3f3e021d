/** `millrace key show`. */
import path from 'node:path';
import type { Command } from 'commander';
import { countKeys, describeKeys, type KeyDescription } from '../../../engine/store-keys.ts';
import type { KeyCensus } from '../../../engine/store-keys.ts';
import { formatBytes } from '../../flags.ts';
import { requireKeyFile } from '../../key-file.ts';
import { defaultKeyFile, defaultStore } from '../../paths.ts';
import { ProgressLine } from '../../progress.ts';

interface ShowArguments {
  store?: string;
  keyFile?: string;
  count?: boolean;
  json?: boolean;
}

async function run(flags: ShowArguments): Promise<void> {
  const store = flags.store === undefined ? defaultStore() : path.resolve(flags.store);
  const keyFile = flags.keyFile === undefined ? defaultKeyFile() : path.resolve(flags.keyFile);
  const description = await describeKeys(store);
  let census: KeyCensus | undefined;
  if (flags.count && description.shredded === undefined) {
    requireKeyFile(keyFile);
    const line = new ProgressLine();
    const onProgress = line.show.bind(line);
    census = await countKeys({ store, keyFile, onProgress }).finally(() => line.end());
  }
  const json = { store, ...description, ...census };
  process.stdout.write(flags.json ? `${JSON.stringify(json)}\n` : textOf(description, census));
}

function textOf(description: KeyDescription, census: KeyCensus | undefined): string {
  const { uuid, epoch, keyCheck, rotations, shredding, shredded } = description;
  const lines = [`store ${uuid}`];
  if (shredded !== undefined) lines.push(`shredded on ${shredded}: nothing can open it`);
  if (shredding !== undefined) lines.push(`being shredded since ${shredding}: run key shred again`);
  if (epoch !== undefined) lines.push(`epoch ${epoch}, check ${keyCheck}`);
  for (const old of rotations) {
    lines.push(`epoch ${old.epoch} until ${old.ended}, check ${old.keyCheck}`);
  }
  if (census !== undefined) {
    for (const { epoch, chunks, bytes } of census.chunks.epochs) {
      lines.push(`${chunks} chunks (${formatBytes(bytes)}) are sealed in epoch ${epoch}`);
    }
    for (const { epoch, values } of census.values) {
      lines.push(`${values} values of the tree are sealed in epoch ${epoch}`);
    }
    const unopened = census.chunks.unopened + census.unopenedValues;
    if (unopened > 0) lines.push(`${unopened} chunks and values do not open: see millrace fsck`);
    lines.push(`the key opens what is sealed in epoch ${census.epochs.join(', ')}`);
  }
  return `${lines.join('\n')}\n`;
}

const AFTER = `
A check recognises a key and tells nothing about it. With --count the key is needed, and the store
must not be mounted.`;

/** Adds the command to `millrace key`. */
export function addKeyShowCommand(key: Command): void {
  key
    .command('show')
    .summary('show which keys a store has had')
    .description('Shows the epochs of the key of a store, and with --count what is sealed in each.')
    .option('--store <dir>', 'the store (env MILLRACE_STORE, else ~/.local/share/millrace/store)')
    .option('--key-file <file>', 'its key (env MILLRACE_KEY_FILE, else ~/.config/millrace/key)')
    .option('--count', 'count chunks and values by epoch')
    .option('--json', 'print JSON')
    .addHelpText('after', AFTER)
    .action(run);
}
