/**
 * Brings what journals hold into their store, before anybody uses it.
 *
 *     intact? ─► fits? ─┬► chunks, barrier, changes, sync ─► removed
 *        │              └► content aside, sync ─► kept under another name
 *        └► kept as it is
 *
 * Every step can be repeated: a process that is killed within one leaves a journal that fits as before. Chunks
 * are named by their content, and a key that has the journal's value already fits as well.
 */
import { Buffer } from 'node:buffer';
import path from 'node:path';
import { getSystemErrorName } from 'node:util';
import { MillraceError } from '../errors.ts';
import { pass } from '../kill-points.ts';
import type { Kv } from '../kv/kv.ts';
import { native } from '../native.ts';
import type { Owner, Sealer } from '../tree/types.ts';
import { putAside } from './aside.ts';
import { fingerprint } from './fingerprint.ts';
import { type Flaw, ID_BYTES, isFlaw } from './format.ts';
import { chunksOf } from './journal-view.ts';
import { type Journal, type JournalOwner, readJournal } from './journal-reader.ts';
import { listJournals, removeJournal, setAside } from './places.ts';

/** errno of Linux that Node does not name. */
const ENOKEY = 126;

/** What became of one journal. */
export interface ReplayNotice {
  /** 'blocked': the store must not be served before the journal is replayed. */
  readonly outcome: 'replayed' | 'aside' | 'kept' | 'blocked' | 'unfinished';
  /** Where it lies, or lay. */
  readonly file: string;
  /** What happened, one sentence. */
  readonly message: string;
  /** What to do next; empty where there is nothing to do. */
  readonly hint: string;
}

/** A store that is open and that nobody uses yet. */
export interface ReplayTarget extends JournalOwner {
  readonly engine: number;
  readonly kv: Kv;
  readonly sealer: Sealer;
  /** Directory of the store's journals. */
  readonly directory: string;
  /** Owner of directories that are made for what does not fit. */
  readonly owner: Owner;
}

/** Replays what waits, oldest first, until one is blocked. Threads: the one that uses the Kv. */
export async function replayJournals(target: ReplayTarget): Promise<ReplayNotice[]> {
  const notices: ReplayNotice[] = [];
  for (const { file, state } of listJournals(target.directory)) {
    if (state === 'aside') continue;
    const notice = state === 'unfinished' ? dropUnfinished(file) : await replayFile(target, file);
    notices.push(notice);
    if (notice.outcome === 'blocked') break;
  }
  return notices;
}

/** Nobody writes it: the store is ours. Its process was killed before it could say what it holds. */
function dropUnfinished(file: string): ReplayNotice {
  removeJournal(file);
  const message = 'a journal that was never finished is removed: its process was killed meanwhile';
  return { outcome: 'unfinished', file, message, hint: '' };
}

async function replayFile(target: ReplayTarget, file: string): Promise<ReplayNotice> {
  try {
    const journal = readJournal(file, target, target.sealer);
    if (isFlaw(journal)) return kept(file, journal);
    return await replay(target, journal);
  } catch (error) {
    if (!isRefusal(error)) throw error;
    const message = `the recovery journal cannot be replayed: ${error.message}`;
    const hint = 'make room or repair the store, then try again: the journal is kept until then';
    return { outcome: 'blocked', file, message, hint };
  }
}

function isRefusal(error: unknown): error is Error {
  if (!(error instanceof Error) || !('code' in error)) return false;
  return !(error instanceof MillraceError) || error.code === 'STORE_IO';
}

function kept(file: string, { flaw }: Flaw): ReplayNotice {
  const message = `a recovery journal cannot be used and is kept: ${flaw}`;
  const hint = '`millrace recover show` tells what can be read of it';
  return { outcome: 'kept', file, message, hint };
}

async function replay(target: ReplayTarget, journal: Journal): Promise<ReplayNotice> {
  const { engine, file } = { ...target, ...journal };
  attachJournal(engine, journal);
  try {
    const flaw = damagedChunk(engine, journal);
    if (flaw !== undefined) return kept(file, flaw);
    restoreChunks(engine, journal);
    const missing = missingChunk(target, journal);
    if (missing !== undefined) return kept(file, missing);
    refuse(native().storeSync(engine));
    pass('replay-chunks');
    const others = changedKeys(target.kv, journal);
    if (others > 0) return await keepAside(target, journal);
    await writeChanges(target.kv, journal);
    removeJournal(file);
    pass('replay-removed');
    return replayed(journal);
  } finally {
    native().journalDetach(engine);
  }
}

/** Lets the engine read the journal's chunks until `journalDetach`. Throws STORE_IO. */
export function attachJournal(engine: number, { file, ids, places }: Journal): void {
  refuse(native().journalAttach(engine, file, ids, places));
}

/** The first chunk that is not what its id says. */
function damagedChunk(engine: number, { ids }: Journal): Flaw | undefined {
  for (let at = 0; at < ids.length; at += ID_BYTES) {
    const id = ids.slice(at, at + ID_BYTES);
    const bytes = native().journalVerify(engine, id);
    if (bytes >= 0) continue;
    const how =
      -bytes === ENOKEY ? 'is sealed under a key that the store has no more' : 'is damaged';
    return { flaw: `its chunk ${Buffer.from(id).toString('hex')} ${how}` };
  }
  return undefined;
}

function restoreChunks(engine: number, { ids }: Journal): void {
  for (let at = 0; at < ids.length; at += ID_BYTES) {
    refuse(native().journalRestore(engine, ids.slice(at, at + ID_BYTES)));
    pass('replay-chunk');
  }
}

/** A chunk that the journal's content needs and nobody has: it was in the store, and has gone. */
function missingChunk({ engine, sealer }: ReplayTarget, journal: Journal): Flaw | undefined {
  for (const [name, id] of chunksOf(journal, sealer)) {
    const has = native().storeHas(engine, id);
    if (has < 0) refuse(-has);
    if (has === 0) return { flaw: `the store has lost the chunk ${name}, which it refers to` };
  }
  return undefined;
}

/** How many keys the store has otherwise than the journal expects, and than it would make them. */
function changedKeys(kv: Kv, { changes }: Journal): number {
  let count = 0;
  for (const { key, value, bases } of changes) {
    const now = kv.read((snapshot) => Buffer.from(fingerprint(snapshot.get(key))));
    const fits = now.equals(fingerprint(value)) || bases.some((base) => now.equals(base));
    if (!fits) count += 1;
  }
  return count;
}

async function writeChanges(kv: Kv, { changes }: Journal): Promise<void> {
  kv.transact((transaction) => {
    for (const { key, value } of changes) {
      if (value === undefined) transaction.remove(key);
      else transaction.put(key, value);
    }
  });
  pass('replay-changes');
  await kv.sync();
  pass('replay-synced');
}

function replayed({ file, end }: Journal): ReplayNotice {
  const when = new Date(end.createdMs).toISOString();
  const what = `${end.objects} chunks and ${end.changes} changes of the tree`;
  const message = `the recovery journal of ${when} is replayed: ${what} are in the store now`;
  const lost = end.lost.length;
  const hint = lost === 0 ? '' : `${lost} files had data that could not be sealed: it is lost`;
  return { outcome: 'replayed', file, message, hint };
}

async function keepAside(target: ReplayTarget, journal: Journal): Promise<ReplayNotice> {
  const { directory, files } = putAside(target, journal);
  await target.kv.sync();
  pass('replay-aside');
  const file = setAside(journal.file);
  const message =
    'the store was changed elsewhere since a recovery journal was sealed: nothing newer is replaced; ' +
    `${files.length} files are put aside in ${directory}, and the journal is kept`;
  const hint = `compare them with what is there; \`millrace recover show\` reads ${path.basename(file)}`;
  return { outcome: 'aside', file, message, hint };
}

function refuse(errno: number): void {
  if (errno === 0) return;
  const reason = getSystemErrorName(-Math.abs(errno));
  throw new MillraceError('STORE_IO', `the store refuses it (${reason})`);
}
