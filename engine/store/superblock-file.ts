/** The superblock's file: read, made and replaced so that it is there as a whole, or not at all. */
import { randomUUID } from 'node:crypto';
import { type FileHandle, link, open, readdir, readFile, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { flushDirectory } from '../durable-directory.ts';
import { MillraceError } from '../errors.ts';
import { pass } from '../kill-points.ts';

/** Name of the superblock in the store's directory. */
export const SUPERBLOCK_FILE: 'millrace.json' = 'millrace.json';

/** How often a text is read again that was overwritten because it was replaced meanwhile. */
const READS_MAX = 3;
const OVERWRITTEN = '\0';

/** The file's text. Throws STORE_MISSING or STORE_IO. */
export async function readText(directory: string): Promise<string> {
  try {
    for (let read = 1; ; read++) {
      const text = await readFile(join(directory, SUPERBLOCK_FILE), 'utf8');
      if (!text.startsWith(OVERWRITTEN) || read === READS_MAX) return text;
    }
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') throw io('read', directory, cause);
    throw new MillraceError('STORE_MISSING', `there is no store in ${directory}`, {
      hint: 'Check the path, or create a store there first.',
      cause,
    });
  }
}

/**
 * Writes under a temporary name, flushes, and gives it the final name only if nothing has it. A
 * link does what a rename does for atomicity, but never replaces a store that another process just
 * made. Throws STORE_EXISTS or STORE_IO.
 */
export async function writeNew(directory: string, text: string): Promise<void> {
  const path = join(directory, SUPERBLOCK_FILE);
  const temporary = `${path}.${randomUUID()}`;
  try {
    await writeDurably(temporary, text);
    pass('superblock-written');
    await link(temporary, path);
    pass('superblock-named');
    await flushDirectory(directory);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw io('write', directory, cause);
    throw new MillraceError('STORE_EXISTS', `there is a store in ${directory} already`, {
      hint: 'Choose an empty directory, or use the store that is there.',
      cause,
    });
  } finally {
    await unlink(temporary).catch(() => {});
  }
}

/**
 * Puts another text in the file's place, durably. The text before, and those that never got the
 * name because a process was killed here, are overwritten before their space is free again.
 */
export async function replaceText(directory: string, text: string): Promise<void> {
  const path = join(directory, SUPERBLOCK_FILE);
  const temporary = `${path}.${randomUUID()}`;
  try {
    await wipeLeftovers(directory);
    await writeDurably(temporary, text);
    pass('superblock-rewritten');
    const before = await open(path, 'r+');
    try {
      await rename(temporary, path);
      pass('superblock-replaced');
      await flushDirectory(directory);
      await overwrite(before);
      pass('superblock-saved');
    } finally {
      await before.close();
    }
  } catch (cause) {
    await unlink(temporary).catch(() => {});
    throw io('write', directory, cause);
  }
}

async function wipeLeftovers(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!name.startsWith(`${SUPERBLOCK_FILE}.`)) continue;
    const file = await open(join(directory, name), 'r+');
    try {
      // Where the store was just made, this may be a second name of the superblock itself.
      const { nlink } = await file.stat();
      await unlink(join(directory, name));
      if (nlink === 1) await overwrite(file);
    } finally {
      await file.close();
    }
  }
}

async function overwrite(file: FileHandle): Promise<void> {
  const { size } = await file.stat();
  await file.write(Buffer.alloc(size), 0, size, 0);
  await file.sync();
}

async function writeDurably(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

function io(what: string, directory: string, cause: unknown): MillraceError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new MillraceError('STORE_IO', `cannot ${what} the superblock in ${directory}: ${reason}`, {
    hint: 'Check the permissions of the directory and the free space of its disk.',
    cause,
  });
}
