/** `millrace key`: what is done with the key of a store. */
import type { Command } from 'commander';
import { addKeyRotateCommand } from './key/rotate.ts';

/** Adds the command to the program. */
export function addKeyCommand(program: Command): void {
  const key = program
    .command('key')
    .summary('rotate or destroy the key of a store')
    .description('Rotates or destroys the key of a store that is not mounted.');
  addKeyRotateCommand(key);
}
