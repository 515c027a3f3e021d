/** A tree's file whose pages are damaged: what can still be read of it becomes a new file, and the old one is kept. */
import {
  copyFileSync,
  existsSync,
  linkSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import path from 'node:path';
import { flushDirectory } from './durable-directory.ts';
import { MillraceError } from './errors.ts';
import { Anchor } from './kv/anchor.ts';
import { LmdbKv } from './kv/lmdb-kv.ts';
import { treeLogPaths } from './kv/tree-kv.ts';
import { native, type PageSurvey } from './native.ts';
import { reserveSpace } from './tree-file.ts';

const KEPT = '-damaged';
const REBUILT = '-rebuilt';
/** Pages that say where everything else lies. */
const META_PAGES = 2;
const KEY_BYTES_AT = 0;
const VALUE_BYTES_AT = 2;
const RECORD_HEADER_BYTES = 6;

/** What is wrong with the pages of a tree's file, after a power loss those of its last sync. */
export function surveyTreeFile(file: string): PageSurvey {
  new Anchor(file).restore();
  if (statSync(file).size === 0) return { flawed: 0, flaws: [], transaction: 0, records: 0 };
  return native().surveyPages(file);
}

/**
 * Writes every record that can be read to a new file beside the old one, with a copy of its log, and
 * yields the new file's path. The old one stays as it is. Memory: all records.
 *
 * Throws STORE_DAMAGED where nothing says any more where the records lie.
 */
export async function rebuildTreeFile(file: string): Promise<string> {
  const metas = bestMetas(file);
  const rebuilt = file + REBUILT;
  removeRebuilt(file);
  const kv = await LmdbKv.open({ path: rebuilt, reserve: reserveSpace });
  try {
    for (const block of native().salvagePages(file, metas)) putBlock(kv, block);
  } finally {
    await kv.close();
  }
  const logs = treeLogPaths(file);
  for (const [index, log] of treeLogPaths(rebuilt).entries()) {
    const from = logs[index] ?? '';
    if (existsSync(from)) copyFileSync(from, log);
  }
  return rebuilt;
}

/** Removes what `rebuildTreeFile` made. */
export function removeRebuilt(file: string): void {
  const rebuilt = file + REBUILT;
  for (const each of filesOf(rebuilt)) rmSync(each, { force: true });
}

/**
 * Puts a rebuilt file, which nobody has open, in the place of the damaged one, and yields the path that
 * this one is kept at. Durable at the return; at no moment is there no file, or one with the other's
 * anchor.
 */
export async function installRebuilt(file: string): Promise<string> {
  const rebuilt = file + REBUILT;
  const kept = freePath(file + KEPT);
  const directory = path.dirname(file);
  link(file, kept);
  for (const log of treeLogPaths(file)) {
    if (existsSync(log)) link(log, log.replace(file, kept));
  }
  moveIfThere(`${file}-anchor`, `${kept}-anchor`);
  await flushDirectory(directory);
  renameSync(rebuilt, file);
  await flushDirectory(directory);
  // What the logs held is in the new file.
  for (const log of treeLogPaths(file)) rmSync(log, { force: true });
  rmSync(`${file}-lock`, { force: true });
  moveIfThere(`${rebuilt}-anchor`, `${file}-anchor`);
  removeRebuilt(file);
  await flushDirectory(directory);
  return kept;
}

/**
 * Throws STORE_DAMAGED while a damaged file is kept beside a tree's own: it may be all that tells of a
 * chunk, which nobody may take for garbage then.
 */
export function refuseWhileKept(file: string): void {
  const directory = path.dirname(file);
  const name = path.basename(file) + KEPT;
  const kept = readdirSync(directory).find((each) => each.startsWith(name));
  if (kept === undefined) return;
  throw new MillraceError(
    'STORE_DAMAGED',
    `a damaged tree is kept: ${path.join(directory, kept)}`,
    {
      hint: 'Move it elsewhere once no chunk is needed any more that it alone refers to.',
    },
  );
}

/**
 * The meta pages to read from: undefined for the file's own, else those that the anchor keeps. The
 * better ones are those that fewer damaged pages lie behind, then the newer ones.
 */
function bestMetas(file: string): Buffer | undefined {
  const own = native().surveyPages(file);
  const saved = new Anchor(file).savedMetas();
  const anchored = saved === undefined ? undefined : native().surveyPages(file, saved);
  if (anchored !== undefined && anchored.transaction > 0 && isBetter(anchored, own)) return saved;
  if (own.transaction > 0) return undefined;
  throw new MillraceError(
    'STORE_DAMAGED',
    `nothing of ${file} can be read: restore the directory ${path.dirname(file)} from a backup`,
  );
}

function isBetter(one: PageSurvey, other: PageSurvey): boolean {
  if (other.transaction === 0) return true;
  const [flaws, others] = [flawsBehind(one), flawsBehind(other)];
  return flaws === others ? one.transaction > other.transaction : flaws < others;
}

/** Flaws of other pages than meta pages. */
function flawsBehind({ flawed, flaws }: PageSurvey): number {
  return flawed - flaws.filter(({ page }) => page < META_PAGES).length;
}

/** Puts the records of a block, but those that are there already, which are newer. */
function putBlock(kv: LmdbKv, block: Buffer): void {
  kv.transact((transaction) => {
    for (let at = 0; at < block.length; ) {
      const keyAt = at + RECORD_HEADER_BYTES;
      const valueAt = keyAt + block.readUInt16LE(at + KEY_BYTES_AT);
      const end = valueAt + block.readUInt32LE(at + VALUE_BYTES_AT);
      const key = block.subarray(keyAt, valueAt);
      if (transaction.get(key) === undefined) transaction.put(key, block.subarray(valueAt, end));
      at = end;
    }
  });
}

function filesOf(file: string): string[] {
  return [file, `${file}-lock`, `${file}-anchor`, ...treeLogPaths(file)];
}

function freePath(wanted: string): string {
  let free = wanted;
  for (let number = 2; existsSync(free); number++) free = `${wanted}-${number}`;
  return free;
}

/** A second name for a file; a copy where there can be none. */
function link(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to);
  }
}

function moveIfThere(from: string, to: string): void {
  if (existsSync(from)) renameSync(from, to);
}
