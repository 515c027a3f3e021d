/** `millrace namespaces`. */
import path from 'node:path';
import type { Command } from 'commander';
import { storeNamespaces } from '../../engine/store-namespaces.ts';
import { defaultKeyFile, defaultStore } from '../paths.ts';

interface NamespacesArguments {
  store?: string;
  keyFile?: string;
  json?: boolean;
}

async function run(flags: NamespacesArguments): Promise<void> {
  const store = flags.store === undefined ? defaultStore() : path.resolve(flags.store);
  const keyFile = flags.keyFile === undefined ? defaultKeyFile() : path.resolve(flags.keyFile);
  const namespaces = await storeNamespaces({ store, keyFile });
  const lines = namespaces.map((name) => `${name}\n`).join('');
  process.stdout.write(flags.json ? `${JSON.stringify({ store, namespaces })}\n` : lines);
}

/** Adds the command to the program. */
export function addNamespacesCommand(program: Command): void {
  program
    .command('namespaces')
    .summary('list what a store holds')
    .description('Lists the namespaces of a store that is not mounted, the default one first.')
    .option('--store <dir>', 'the store (env MILLRACE_STORE, else ~/.local/share/millrace/store)')
    .option('--key-file <file>', 'its key (env MILLRACE_KEY_FILE, else ~/.config/millrace/key)')
    .option('--json', 'print JSON')
    .action(run);
}
