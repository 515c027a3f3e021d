/** Destruction of a store's key, with proof that nothing else opens what was sealed under it. */
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import type { CensusOutcome, UpkeepFailure, UpkeepProgress } from '../workers/task.ts';
import { MillraceError } from './errors.ts';
import { pass } from './kill-points.ts';
import { type KeyWitness, native, type SearchReport } from './native.ts';
import {
  FORMAT_OF_ROTATED,
  keyRingOf,
  readAnySuperblock,
  readSuperblock,
  replaceSuperblock,
  SUPERBLOCK_FILE,
  type Superblock,
} from './store/superblock.ts';
import {
  type OpenStore,
  type StoreAndKey,
  treeExists,
  treeRefused,
  withUnmountedStore,
} from './unmounted-store.ts';
import { VERSION } from './version.ts';

/** How a store is shredded. */
export interface ShredOptions extends StoreAndKey {
  /** Files of keys of earlier epochs, which are destroyed as well. */
  readonly oldKeyFiles: readonly string[];
  /** Whoever calls vouches that the other keys of earlier epochs are destroyed already. */
  readonly oldKeysGone: boolean;
  /** Open all of every chunk before, rather than authenticate its head. */
  readonly deep: boolean;
  /** Destroys a key file, durably. */
  readonly destroy: (keyFile: string) => void;
  /** Whether a key file is gone, or holds no key any more because `destroy` was stopped. */
  readonly isDestroyed: (keyFile: string) => boolean;
  readonly onProgress: (progress: UpkeepProgress) => void;
}

/** What was found before a key was destroyed, and after. */
export interface ShredReport {
  readonly uuid: string;
  /** When: ISO 8601 in UTC. */
  readonly shredded: string;
  /** Key files that were destroyed. */
  readonly destroyed: readonly string[];
  /** What the store held, by the epoch of its key. Undefined: the key was gone already. */
  readonly before: (CensusOutcome & { readonly deep: boolean }) | undefined;
  /** Names in the store's directory that are not Millrace's, and that it has not sealed. */
  readonly foreign: readonly string[];
  /** A search of all files of the store for all of the keys. Undefined: the key was gone already. */
  readonly search: KeySearch | undefined;
  /** The code of the error that opening the store ends with now. */
  readonly opening: string;
  /** Key files that are there still. */
  readonly keyFilesLeft: readonly string[];
  /** Whether all of this shows that nothing opens any more. */
  readonly proven: boolean;
}

/** What a search for keys found. */
export interface KeySearch extends SearchReport {
  /** How many were looked for. */
  readonly keys: number;
  /** Why not all files could be read; undefined where they were. */
  readonly failure: string | undefined;
}

/** Names in a store's directory. */
const OWN_NAMES: ReadonlySet<string> = new Set([SUPERBLOCK_FILE, 'chunks', 'tmp', 'tree']);

/**
 * Destroys the key of a store, and what its superblock holds of keys. Whatever ends the process on
 * the way, the store does not open any more once this has begun to destroy, and the same call goes
 * on.
 *
 * Throws MillraceError: as `storeNamespaces`; KEY_SHREDDED when it is done already; KEY_WRONG when
 * a file holds no key of this store; USAGE when objects of earlier epochs would still open.
 */
export async function shredStore(options: ShredOptions): Promise<ShredReport> {
  const { store, keyFile, isDestroyed } = options;
  const found = await readShreddable(store);
  const isResumed = found.shredding !== undefined;
  const oldKeyFiles = options.oldKeyFiles.filter((file) => !isResumed || !isDestroyed(file));
  // Nobody's file is destroyed by a slip of the pen.
  checkOldKeys(found, oldKeyFiles);
  if (isResumed && isDestroyed(keyFile)) return finish(options, found);
  // What was destroyed before was asked for, and is not there to be recognised any more.
  const oldKeysGone = options.oldKeysGone || isResumed;
  const rest = { ...options, oldKeyFiles, oldKeysGone };
  const report = await withUnmountedStore(rest, (opened) => shred(opened, rest), readShreddable);
  removeRemains(options);
  return report;
}

/** Takes the names away of files that were overwritten before. */
function removeRemains({ keyFile, oldKeyFiles, destroy }: ShredOptions): void {
  for (const file of [...oldKeyFiles, keyFile]) {
    if (existsSync(file)) destroy(file);
  }
}

/** The superblock, also of a store whose key is being destroyed. */
async function readShreddable(store: string): Promise<Superblock> {
  const superblock = await readAnySuperblock(store);
  // Throws where it is done already.
  return 'shredded' in superblock ? readSuperblock(store) : superblock;
}

function checkOldKeys({ rotations = [] }: Superblock, files: readonly string[]): void {
  for (const file of files) {
    const keyCheck = native().keyCheck(file).toString('hex');
    if (rotations.some((rotation) => rotation.keyCheck === keyCheck)) continue;
    throw new MillraceError('KEY_WRONG', `${file} holds no key of an earlier epoch of this store`, {
      hint: 'Name the files that the store was rotated from; `millrace key show` lists the epochs.',
    });
  }
}

async function shred({ superblock, run }: OpenStore, options: ShredOptions): Promise<ShredReport> {
  const { store, keyFile, oldKeyFiles, deep, destroy, onProgress } = options;
  const before = treeExists(store) ? await takeCensus({ run }, options) : undefined;
  requireAllKeys(superblock, options);
  const ring = keyRingOf(superblock);
  const witness = new (native().KeyWitness)(keyFile, ring, [...oldKeyFiles]);
  try {
    const shredding = superblock.shredding ?? new Date().toISOString();
    await replaceSuperblock(store, { ...superblock, format: FORMAT_OF_ROTATED, shredding });
    pass('shred-begun');
    for (const file of [...oldKeyFiles, keyFile]) destroy(file);
    pass('shred-key-gone');
    const shredded = await bury(store, superblock);
    const search = await searchKeys(witness, store, onProgress);
    return await report(options, {
      uuid: superblock.uuid,
      shredded,
      destroyed: [...oldKeyFiles, keyFile],
      before: before && { ...before, deep },
      search,
    });
  } finally {
    witness.forget();
  }
}

async function takeCensus(
  { run }: Pick<OpenStore, 'run'>,
  { store, deep, onProgress }: ShredOptions,
): Promise<CensusOutcome> {
  const outcome = await run<CensusOutcome | UpkeepFailure>(
    (parts) => ({ role: 'census', ...parts, threads: availableParallelism(), deep }),
    onProgress,
  );
  if ('failure' in outcome) throw treeRefused(store, outcome.failure);
  return outcome;
}

/**
 * Throws when what may be in the store opens with a key that nobody destroys. What was removed counts as well: free pages of
 * the tree keep it, until `--rewrite` makes a new file and takes earlier epochs off the ring.
 */
function requireAllKeys(
  superblock: Superblock,
  { keyFile, oldKeyFiles, oldKeysGone }: ShredOptions,
): void {
  if (oldKeysGone) return;
  const { epoch, rotations = [] } = superblock;
  const given = new Set(oldKeyFiles.map((file) => native().keyCheck(file).toString('hex')));
  const inUse = new Set(native().keyEpochs(keyFile, keyRingOf(superblock)));
  const left = rotations.filter((old) => inUse.has(old.epoch) && !given.has(old.keyCheck));
  if (left.length === 0) return;
  const epochs = left.map((old) => old.epoch).join(', ');
  const what = `what is, or was, sealed in epoch ${epochs} opens with the key of that time, not of ${epoch}`;
  throw new MillraceError('USAGE', what, {
    hint:
      'Name the files of these keys with --old-key-file, to have them destroyed as well; where ' +
      'that is done already, say so with --old-keys-gone.',
  });
}

/** Puts a tombstone in the superblock's place. */
async function bury(store: string, superblock: Superblock): Promise<string> {
  const { magic, uuid, created } = superblock;
  const shredded = new Date().toISOString();
  const format = FORMAT_OF_ROTATED;
  await replaceSuperblock(store, { magic, format, version: VERSION, uuid, created, shredded });
  return shredded;
}

const PROGRESS_MS = 250;

async function searchKeys(
  witness: KeyWitness,
  store: string,
  onProgress: (progress: UpkeepProgress) => void,
): Promise<KeySearch> {
  const keys = witness.keys();
  const timer = setInterval(() => {
    const [files, bytes] = witness.progress();
    onProgress({ records: 0, chunks: files, chunksTotal: files, bytes });
  }, PROGRESS_MS);
  try {
    const report = await witness.search(store, availableParallelism());
    return { keys, failure: undefined, ...report };
  } catch (error) {
    // The key is destroyed: what is known of that must be told all the same.
    const failure = error instanceof Error ? error.message : String(error);
    return { keys, failure, files: 0, bytes: 0, found: [] };
  } finally {
    clearInterval(timer);
  }
}

/** Goes on where an earlier call had destroyed the key and was stopped then. */
async function finish(options: ShredOptions, superblock: Superblock): Promise<ShredReport> {
  removeRemains(options);
  const shredded = await bury(options.store, superblock);
  const parts = { uuid: superblock.uuid, shredded, destroyed: [] };
  return report(options, { ...parts, before: undefined, search: undefined });
}

async function report(
  { store, keyFile, oldKeyFiles }: ShredOptions,
  parts: Omit<ShredReport, 'foreign' | 'opening' | 'keyFilesLeft' | 'proven'>,
): Promise<ShredReport> {
  const foreign = (await readdir(store)).filter((name) => !OWN_NAMES.has(name)).sort();
  const keyFilesLeft = [keyFile, ...oldKeyFiles].filter((file) => existsSync(file));
  const opening = await openingOf(store);
  const { search } = parts;
  const isFree = search !== undefined && search.failure === undefined && search.found.length === 0;
  const proven = opening === 'KEY_SHREDDED' && keyFilesLeft.length === 0 && isFree;
  return { ...parts, foreign, opening, keyFilesLeft, proven };
}

/** What everybody who opens the store, with whatever key, begins with. */
async function openingOf(store: string): Promise<string> {
  try {
    await readSuperblock(store);
    return 'it opens';
  } catch (error) {
    return error instanceof MillraceError ? error.code : String(error);
  }
}
