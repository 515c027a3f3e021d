import { existsSync } from 'node:fs';
import path from 'node:path';

/** A program on the path or where Debian has it; undefined when it is not installed. */
export function findProgram(name: string): string | undefined {
  const directories = [...(process.env['PATH'] ?? '').split(':'), '/usr/bin', '/bin'];
  return directories
    .map((directory) => path.join(directory, name))
    .find((file) => existsSync(file));
}
