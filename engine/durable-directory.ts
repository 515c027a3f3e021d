import { closeSync, fsyncSync, mkdirSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

/**
 * Makes a directory, and those above it that are missing, private to the owner, with names that survive a power loss.
 *
 * The name of a directory that was there is flushed too: whoever made it may have been killed before. A directory above
 * that we may not read is left alone: it was there before us, or nobody may flush it.
 */
export function makeDurableDirectory(directory: string): void {
  const last = resolve(directory);
  const first = mkdirSync(last, { recursive: true, mode: 0o700 }) ?? last;
  const top = dirname(first);
  for (let above = dirname(last); ; above = dirname(above)) {
    flushNames(above);
    if (above === top || above === dirname(above)) return;
  }
}

function flushNames(directory: string): void {
  try {
    flushDirectorySync(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error;
  }
}

/** Returns when the names that are in a directory now survive a power loss. */
export function flushDirectorySync(path: string): void {
  const directory = openSync(path, 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

/** The same without holding the thread up. */
export async function flushDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
