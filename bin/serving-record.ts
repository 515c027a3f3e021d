/**
 * The small file by which `millrace umount` finds the process that serves a mount and learns how it
 * ended. `mount` writes it once the mount stands and completes it as the last thing before it exits.
 */
import {
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { mountName, runDirectory } from './paths.ts';

/** Who serves a mount point; `exitStatus` is there once it has ended in good order. */
export interface ServingRecord {
  mountPoint: string;
  store: string;
  pid: number;
  /** Clock ticks between boot and the process' start: tells it from a later one with its number. */
  startedTicks: string;
  log: string;
  exitStatus?: number;
  /** Recovery journal with what the store refused. */
  journal?: string;
}

function recordFile(mountPoint: string): string {
  return path.join(runDirectory(), `${mountName(mountPoint)}.json`);
}

/** Writes the record whole or not at all; readable by its owner only. */
export function writeRecord(record: ServingRecord): void {
  const file = recordFile(record.mountPoint);
  const fresh = `${file}.${process.pid}`;
  writeFileSync(fresh, `${JSON.stringify(record)}\n`, { mode: 0o600 });
  renameSync(fresh, file);
}

/** The record of a mount point, or undefined where there is none that can be read. */
export function readRecord(mountPoint: string): ServingRecord | undefined {
  const record = parse(recordFile(mountPoint));
  return record?.mountPoint === mountPoint ? record : undefined;
}

function parse(file: string): ServingRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(file, 'utf8')) as ServingRecord;
    return Number.isInteger(record.pid) ? record : undefined;
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
    const record = parse(path.join(directory, name));
    if (record === undefined || record.exitStatus !== undefined || !isServing(record)) continue;
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

/** Removes the record; no error where there is none. */
export function removeRecord(mountPoint: string): void {
  rmSync(recordFile(mountPoint), { force: true });
}

/** State letter and start time of a process, or undefined when it is gone. */
function processStat(pid: number): { state: string; startedTicks: string } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The command name may hold blanks and parentheses: the fields start behind its last one.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? '', startedTicks: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}

/** When this process started, in the form of a record. */
export function ownStartedTicks(): string {
  return processStat(process.pid)?.startedTicks ?? '';
}

/** Whether the very process of the record still runs; one that waits to be reaped does not. */
export function isServing(record: ServingRecord): boolean {
  const stat = processStat(record.pid);
  return (
    stat !== undefined && stat.startedTicks === record.startedTicks && !'ZX'.includes(stat.state)
  );
}
