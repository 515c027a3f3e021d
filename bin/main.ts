/** The command line: builds the program, runs one command, tells failures in one place. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { addBenchCommand } from './commands/bench.ts';
import { addDoctorCommand } from './commands/doctor.ts';
import { addFsckCommand } from './commands/fsck.ts';
import { addGcCommand } from './commands/gc.ts';
import { addKeyCommand } from './commands/key.ts';
import { addMountCommand } from './commands/mount.ts';
import { addNamespacesCommand } from './commands/namespaces.ts';
import { addRecoverCommand } from './commands/recover.ts';
import { addUmountCommand } from './commands/umount.ts';
import { failureParts, failureText } from './failure.ts';

const EXAMPLES = `
Examples:
  millrace mount ~/ckpt                       mount the default store, make one on first use
  millrace mount ~/ckpt --store /scratch/s --slab 1G -o meta_ttl_ms=1000
  millrace umount ~/ckpt                      returns when everything is durable
  millrace doctor                             what this host can do, and what to change
  millrace key rotate --new-key-file ~/key2   seal what is stored from now on under a new key
  millrace recover                            what a full store refused, and where it is kept
  millrace fsck --deep                        whether every byte of a store is as it was stored

Exit status: 0 done, 1 failed, 2 wrong usage; of mount and umount also 3, what the store refused is
sealed in a recovery journal; of fsck also 4, damage was found and repaired.`;

function version(): string {
  // Seen from dist/bin, where this file runs.
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

function buildProgram(): Command {
  const program = new Command('millrace');
  program
    .description(
      'A file system for streaming checkpoints: what programs write is chunked, hashed and sealed with your ' +
        'key inside this host, and stored without a plaintext byte or a file name.',
    )
    .version(version(), '-V, --version', 'print the version')
    .exitOverride()
    .configureOutput({ outputError: () => undefined })
    .showSuggestionAfterError()
    .addHelpText('after', EXAMPLES);
  addMountCommand(program);
  addUmountCommand(program);
  addNamespacesCommand(program);
  addFsckCommand(program);
  addGcCommand(program);
  addKeyCommand(program);
  addRecoverCommand(program);
  addBenchCommand(program);
  addDoctorCommand(program);
  for (const command of program.commands) {
    command.version(version(), '-V, --version', 'print the version');
  }
  return program;
}

try {
  await buildProgram().parseAsync();
} catch (error) {
  const parts = failureParts(error);
  process.exitCode = parts.exitStatus;
  const helpShown =
    error instanceof CommanderError && (parts.exitStatus === 0 || error.code === 'commander.help');
  if (!helpShown) process.stderr.write(failureText(parts));
}
