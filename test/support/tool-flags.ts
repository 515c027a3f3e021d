/** Flags of the programs that test for long: `--help`, and an error for what they do not know. */
import { Command, InvalidArgumentError } from 'commander';

/** A program of `dist/test`, as its help names it. Wrong flags end it with status 2. */
export function tool(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .showHelpAfterError('--help tells what there is.')
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2));
}

/** A number above 0. */
export function positiveNumber(text: string): number {
  const number = Number(text);
  if (number > 0 && Number.isFinite(number)) return number;
  throw new InvalidArgumentError('It must be a number above 0.');
}

/** What draws begin with: a whole number. */
export function seed(text: string): number {
  const number = Number(text);
  if (text !== '' && Number.isSafeInteger(number)) return number;
  throw new InvalidArgumentError('It must be a whole number.');
}
