/** What journals hold, for people: read, never changed. */
import type { Kv } from '../kv/kv.ts';
import type { Sealer } from '../tree/types.ts';
import { isFlaw } from './format.ts';
import { type JournalOwner, readJournal } from './journal-reader.ts';
import {
  type FileRange,
  type JournaledFile,
  type JournaledName,
  JournalView,
} from './journal-view.ts';
import { type JournalState, listJournals } from './places.ts';

/** A file of which a journal holds something. */
export interface ShownFile {
  readonly path: string;
  readonly ino: number;
  readonly size: number;
  readonly modified: string;
  readonly ranges: readonly FileRange[];
}

/** What one journal holds. */
export interface ShownJournal {
  readonly file: string;
  readonly state: JournalState;
  /** Why it cannot be replayed; the rest is then what can be read. */
  readonly flaw?: string;
  /** When it was sealed, ISO 8601; empty where that cannot be read. */
  readonly created: string;
  readonly cause: string;
  readonly chunks: number;
  readonly chunkBytes: number;
  readonly changes: number;
  readonly files: readonly ShownFile[];
  readonly names: readonly JournaledName[];
  /** Inodes with data that could not be sealed. */
  readonly lost: readonly number[];
}

/** Where journals are looked for, and what they are read with. */
export interface ShowSource extends JournalOwner {
  readonly directory: string;
  /** The store's tree; nothing is written to it. */
  readonly kv: Kv;
  readonly sealer: Sealer;
}

const NOTHING = {
  created: '',
  cause: '',
  chunks: 0,
  chunkBytes: 0,
  changes: 0,
  files: [],
  names: [],
  lost: [],
} as const;

/** All journals of a store, oldest first. */
export function showJournals(source: ShowSource): ShownJournal[] {
  return listJournals(source.directory).map(({ file, state }) => show(source, file, state));
}

function show(source: ShowSource, file: string, state: JournalState): ShownJournal {
  const read = readJournal(file, source, source.sealer);
  const flaw = isFlaw(read) ? read.flaw : undefined;
  const journal = isFlaw(read) ? read.readable : read;
  if (journal === undefined) return { ...NOTHING, file, state, flaw: flaw ?? '' };
  const view = new JournalView(journal, source.kv, source.sealer);
  const { createdMs, cause, lost } = journal.end;
  let chunkBytes = 0;
  for (let at = 1; at < journal.places.length; at += 2) chunkBytes += journal.places[at];
  return {
    file,
    state,
    ...(flaw !== undefined && { flaw }),
    created: createdMs === 0 ? '' : new Date(createdMs).toISOString(),
    cause,
    chunks: journal.places.length / 2,
    chunkBytes,
    changes: journal.changes.length,
    files: view.files().map(shown),
    names: view.names(),
    lost,
  };
}

function shown({ path, ino, size, mtime, ranges }: JournaledFile): ShownFile {
  const modified = new Date(mtime.seconds * 1000 + mtime.nanoseconds / 1e6).toISOString();
  return { path, ino, size, modified, ranges };
}
