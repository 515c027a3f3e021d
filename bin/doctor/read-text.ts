import { readFileSync } from 'node:fs';

/** A small file of /proc, /sys or /etc without its last newline; undefined when it cannot be read. */
export function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return undefined;
  }
}
