/**
 * The small file by which `millrace umount` finds the process that serves a mount and learns how it ended: a line of
 * JSON that `mount` writes once the mount stands, and one more that it adds as the last thing before it exits.
 * Its name has the process in it, so that nobody touches the record of a predecessor or successor on the mount point.
 */
import {
  closeSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import type { MountEntry } from './mount-table.ts';
import { mountName, runDirectory } from './paths.ts';
import { isRunning, type ProcessIdentity } from './server-process.ts';

/** Who serves a mount point; `exitStatus` is there once it has ended in good order. */
export interface ServingRecord extends ProcessIdentity {
  mountPoint: string;
  store: string;
  /** What the mount table shows, where that is not the store. */
  source?: string;
  log: string;
  exitStatus?: number;
  /** Recovery journal with what the store refused. */
  journal?: string;
}

/** How the files of a process begin: short, for the path of a socket has room for 107 bytes. */
function processName({ pid, startedTicks }: ProcessIdentity): string {
  return `${pid}-${String(startedTicks).replace(/\D/g, '')}`;
}

function recordFile(record: ServingRecord): string {
  return path.join(runDirectory(), `${mountName(record.mountPoint)}.${processName(record)}.json`);
}

/** The socket through which the process of a record takes orders. */
export function socketFile(server: ProcessIdentity): string {
  return path.join(runDirectory(), `${processName(server)}.sock`);
}

/**
 * Writes a first record and removes those of the mount point whose processes have ended; one with an exit status is
 * added to the first. Readable by its owner only. Throws where the directory is gone and cannot be made again.
 */
export function writeRecord(record: ServingRecord): void {
  const isFirst = record.exitStatus === undefined;
  if (isFirst) {
    for (const found of findRecords(record.mountPoint)) {
      if (!isRunning(found.record)) found.remove();
      found.close();
    }
  }
  const flag = isFirst ? 'w' : 'a';
  writeFileSync(recordFile(record), `${JSON.stringify(record)}\n`, { mode: 0o600, flag });
}

/** A record that was found. It is held open: what its process adds can be read even when its file is removed. */
export class FoundRecord {
  /** As it was when it was found. */
  readonly record: ServingRecord;
  readonly #file: string;
  readonly #fd: number;

  private constructor(record: ServingRecord, file: string, fd: number) {
    this.record = record;
    this.#file = file;
    this.#fd = fd;
  }

  /** The record in a file, or undefined where there is none that can be read. */
  static open(file: string): FoundRecord | undefined {
    let fd: number;
    try {
      fd = openSync(file, 'r');
    } catch {
      return undefined;
    }
    const record = parse(wholeText(fd));
    if (record !== undefined) return new FoundRecord(record, file, fd);
    closeSync(fd);
    return undefined;
  }

  /** The record as its process has completed it, or as it was found. */
  latest(): ServingRecord {
    // Where the directory was removed meanwhile, the end is in a new file.
    const ends = [parse(wholeText(this.#fd)), parseFile(this.#file)];
    return ends.find((end) => end?.exitStatus !== undefined) ?? this.record;
  }

  /** Removes the record and the socket of its process. */
  remove(): void {
    rmSync(this.#file, { force: true });
    rmSync(socketFile(this.record), { force: true });
  }

  /** Lets go of the file; the record is not asked afterwards. */
  close(): void {
    closeSync(this.#fd);
  }

  /** Whether the process had ended in good order when the record was found. */
  hasEnded(): boolean {
    return this.record.exitStatus !== undefined;
  }

  /** Whether what is mounted can be the mount of this record. */
  isOf(there: MountEntry): boolean {
    return (this.record.source ?? this.record.store) === there.source;
  }
}

/** The records of a mount point, the process that started last first. */
export function findRecords(mountPoint: string): FoundRecord[] {
  const directory = runDirectory();
  const prefix = `${mountName(mountPoint)}.`;
  return readdirSync(directory)
    .filter((name) => name.startsWith(prefix) && name.endsWith('.json'))
    .map((name) => FoundRecord.open(path.join(directory, name)))
    .filter((found) => found !== undefined)
    .filter((found) => found.record.mountPoint === mountPoint)
    .sort((a, b) => Number(b.record.startedTicks) - Number(a.record.startedTicks));
}

function wholeText(fd: number): string {
  const bytes = Buffer.alloc(fstatSync(fd).size);
  return bytes.toString('utf8', 0, readSync(fd, bytes, 0, bytes.length, 0));
}

/** The last line that is a record. */
function parse(text: string): ServingRecord | undefined {
  for (const line of text.split('\n').reverse()) {
    try {
      const record = JSON.parse(line) as ServingRecord | null;
      const { pid = 0, startedTicks, mountPoint, store } = record ?? {};
      const texts = [startedTicks, mountPoint, store];
      const isSound = Number.isInteger(pid) && pid > 0;
      if (record !== null && isSound && texts.every((each) => typeof each === 'string')) {
        return record;
      }
    } catch {
      // Empty, or not whole.
    }
  }
  return undefined;
}

function parseFile(file: string): ServingRecord | undefined {
  try {
    return parse(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

/** The record of the process that serves a store now, for this user. */
export function findServing(store: string): ServingRecord | undefined {
  const directory = runDirectory();
  const wanted = realPath(store);
  for (const name of readdirSync(directory)) {
    if (!name.endsWith('.json')) continue;
    const record = parseFile(path.join(directory, name));
    if (record === undefined || record.exitStatus !== undefined || !isRunning(record)) continue;
    if (realPath(record.store) === wanted) return record;
  }
  return undefined;
}

function realPath(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    return file;
  }
}
