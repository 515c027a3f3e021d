/** Writes the files of journals as they would be after a replay into plain files. */
import { Buffer } from 'node:buffer';
import { closeSync, fdatasyncSync, ftruncateSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { REGION_BYTES } from '../layout.ts';
import { native } from '../native.ts';
import { isFlaw } from './format.ts';
import { type Journal, readJournal } from './journal-reader.ts';
import { idBytes, type JournaledFile, JournalView } from './journal-view.ts';
import { listJournals } from './places.ts';
import { attachJournal } from './replay.ts';
import type { ShowSource } from './show.ts';

const SLASH = Buffer.from('/');
const DOTS = new Set(['.', '..', '']);

/** A file that was written, or why it was not. */
export interface ExportedFile {
  /** In the mount. */
  readonly path: string;
  readonly bytes: number;
  /** Bytes that could not be read: they are holes. */
  readonly unreadable: number;
  /** Why there is no such file. */
  readonly error?: string;
}

/**
 * Writes the files of all journals of a store below `directory`, readable by their owner only; none
 * that is there is replaced. Memory: a region. Threads: one, which uses the Kv alone.
 */
export function exportJournals(
  source: ShowSource & { engine: number },
  directory: string,
): ExportedFile[] {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const exported: ExportedFile[] = [];
  for (const { file, state } of listJournals(source.directory)) {
    if (state === 'unfinished') continue;
    const read = readJournal(file, source, source.sealer);
    const journal = isFlaw(read) ? read.readable : read;
    if (journal !== undefined) exported.push(...exportOne(source, journal, directory));
  }
  return exported;
}

function exportOne(
  { engine, kv, sealer }: ShowSource & { engine: number },
  journal: Journal,
  directory: string,
): ExportedFile[] {
  const view = new JournalView(journal, kv, sealer);
  attachJournal(engine, journal);
  try {
    return view.files().map((file) => {
      try {
        const target = placeFor(file, directory);
        return {
          path: file.path,
          bytes: file.size,
          unreadable: writeFile(engine, view, file, target),
        };
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        return { path: file.path, bytes: 0, unreadable: 0, error: reason };
      }
    });
  } finally {
    native().journalDetach(engine);
  }
}

/** Where a file goes; the directories above it are there afterwards. Names are bytes. */
function placeFor({ names, ino }: JournaledFile, directory: string): Buffer {
  const parts = names.length > 0 ? names : [Buffer.from(`#${ino}`)];
  let place = Buffer.from(directory);
  for (const [index, part] of parts.entries()) {
    if (DOTS.has(Buffer.from(part).toString()) || part.includes(SLASH[0])) {
      throw new Error('its name cannot be that of a file here');
    }
    place = Buffer.concat([place, SLASH, part]);
    if (index < parts.length - 1) mkdirSync(place, { recursive: true, mode: 0o700 });
  }
  return place;
}

/** Bytes that could not be read. */
function writeFile(engine: number, view: JournalView, file: JournaledFile, target: Buffer): number {
  const descriptor = openSync(target, 'wx', 0o600);
  try {
    ftruncateSync(descriptor, file.size);
    let unreadable = 0;
    for (let region = 0; region * REGION_BYTES < file.size; region++) {
      unreadable += writeRegion({ engine, view, file, region }, descriptor);
    }
    fdatasyncSync(descriptor);
    return unreadable;
  } finally {
    closeSync(descriptor);
  }
}

function writeRegion(
  {
    engine,
    view,
    file,
    region,
  }: {
    engine: number;
    view: JournalView;
    file: JournaledFile;
    region: number;
  },
  descriptor: number,
): number {
  const content = view.tree.region(file.ino, region);
  if (typeof content === 'number') return Math.min(REGION_BYTES, file.size - region * REGION_BYTES);
  if ('inline' in content) {
    writeAt(descriptor, content.inline.subarray(0, file.size), 0);
    return 0;
  }
  let unreadable = 0;
  for (const extent of content.extents) {
    const bytes = Math.min(extent.length, file.size - extent.offset);
    if (bytes <= 0) continue;
    const plain = Buffer.alloc(bytes);
    const errno = native().readChunk(engine, idBytes(extent), extent.chunkOffset, plain);
    if (errno === 0) writeAt(descriptor, plain, extent.offset);
    else unreadable += bytes;
    plain.fill(0);
  }
  return unreadable;
}

function writeAt(file: number, bytes: Uint8Array, position: number): void {
  let done = 0;
  while (done < bytes.length) {
    done += writeSync(file, bytes, done, bytes.length - done, position + done);
  }
}
