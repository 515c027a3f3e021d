import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * The root of the source tree: the nearest folder above this file, or above the working directory,
 * that holds package.json and test/.
 */
export function repositoryRoot(): string {
  const starts = [dirname(fileURLToPath(import.meta.url)), process.cwd()];
  for (const start of starts) {
    for (let folder = start; folder !== dirname(folder); folder = dirname(folder)) {
      const script = join(folder, 'test', 'support', 'syscalls.py');
      if (existsSync(join(folder, 'package.json')) && existsSync(script)) return folder;
    }
  }
  throw new Error(`no source tree above ${starts.join(' or ')}`);
}
