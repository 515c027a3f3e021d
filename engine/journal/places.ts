/** Where journals lie, and what they are called. */
import { readdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { flushDirectorySync } from '../durable-directory.ts';

/** Ends of names: being written, to be replayed, replayed as far as it fits and kept. */
const SUFFIX = { unfinished: '.part', waiting: '.journal', aside: '.aside' } as const;

/** What becomes of a journal. */
export type JournalState = keyof typeof SUFFIX;

/** A file that is or was to be a journal. */
export interface JournalFile {
  readonly file: string;
  readonly state: JournalState;
}

/** The directory of one store's journals below the one of all stores. */
export function journalsOf(directory: string, uuid: string): string {
  return path.join(directory, uuid);
}

/** The journals in a directory, oldest first; none where there is no such directory. */
export function listJournals(directory: string): JournalFile[] {
  let names: string[];
  try {
    names = readdirSync(directory).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return names.flatMap((name) => {
    const state = stateOf(name);
    return state === undefined ? [] : [{ file: path.join(directory, name), state }];
  });
}

function stateOf(name: string): JournalState | undefined {
  if (name.endsWith(SUFFIX.waiting)) return 'waiting';
  if (name.endsWith(SUFFIX.aside)) return 'aside';
  return name.endsWith(SUFFIX.unfinished) ? 'unfinished' : undefined;
}

/** Names for a new journal, in the order of their times: while it is written, and afterwards. */
export function newJournalNames(
  directory: string,
  created: Date,
  id: Uint8Array,
): { unfinished: string; waiting: string } {
  const time = created.toISOString().replace(/[-:]|\.\d+/g, '');
  const base = path.join(directory, `${time}-${shortId(id)}`);
  return { unfinished: `${base}${SUFFIX.unfinished}`, waiting: `${base}${SUFFIX.waiting}` };
}

/** A few digits that tell journals apart, for people. */
export function shortId(id: Uint8Array): string {
  return Buffer.from(id.subarray(0, 4)).toString('hex');
}

/** Keeps a journal, but not for the next replay; its new name. */
export function setAside(file: string): string {
  const kept = `${file.slice(0, -SUFFIX.waiting.length)}${SUFFIX.aside}`;
  renameSync(file, kept);
  flushDirectorySync(path.dirname(file));
  return kept;
}

/** Removes a journal for good. */
export function removeJournal(file: string): void {
  rmSync(file, { force: true });
  flushDirectorySync(path.dirname(file));
}
