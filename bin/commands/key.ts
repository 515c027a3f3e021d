/** `millrace key`: what is done with the key of a store. */
import type { Command } from 'commander';
import { addKeyRotateCommand } from './key/rotate.ts';
import { addKeyShowCommand } from './key/show.ts';
import { addKeyShredCommand } from './key/shred.ts';

/** Adds the command to the program. */
export function addKeyCommand(program: Command): void {
  const key = program
    .command('key')
    .summary('show, rotate or destroy the key of a store')
    .description('Shows, rotates or destroys the key of a store that is not mounted.');
  addKeyShowCommand(key);
  addKeyRotateCommand(key);
  addKeyShredCommand(key);
}
