/** Rotation of a store's key, while it is not mounted, and what is known of its keys. */
import { availableParallelism } from 'node:os';
import type {
  CensusOutcome,
  ResealOutcome,
  UpkeepFailure,
  UpkeepProgress,
} from '../workers/task.ts';
import { MillraceError } from './errors.ts';
import { native, type ResealReport } from './native.ts';
import {
  checkKey,
  FORMAT_OF_ROTATED,
  keyRingOf,
  readAnySuperblock,
  readSuperblock,
  replaceSuperblock,
  type Rotation,
  type Superblock,
} from './store/superblock.ts';
import { requireNoJournal } from './store-recovery.ts';
import { refuseWhileKept, removeRebuilt } from './tree-rebuild.ts';
import {
  type OpenStore,
  requireTree,
  type StoreAndKey,
  treeFileOf,
  treeRefused,
  withUnmountedStore,
} from './unmounted-store.ts';
import { VERSION } from './version.ts';

/** How a key is rotated. */
export interface RotationOptions extends StoreAndKey {
  /** Directory of recovery journals: no key is forgotten while one waits. */
  readonly journals: string;
  /** File of the key to rotate to; undefined: it stays, and what older ones sealed is sealed anew. */
  readonly newKeyFile: string | undefined;
  /** Leaves the new key's file behind, durable. Called once it is clear that it will be needed. */
  readonly makeNewKey: () => void;
  /** Seal anew what earlier keys have sealed, and forget those keys. */
  readonly rewrite: boolean;
  readonly onProgress: (progress: UpkeepProgress) => void;
}

/** What a rotation did. */
export interface RotationReport {
  /** The epoch now. */
  readonly epoch: number;
  /** Whether this call started it; false where an earlier one had. */
  readonly rotated: boolean;
  /** The epochs whose objects may be in the store, the current one first. */
  readonly epochs: readonly number[];
  /** What was sealed anew, where that was asked for. */
  readonly rewritten?: Rewritten;
}

/** What was sealed anew. */
export interface Rewritten extends ResealReport {
  /** Values of the tree; 0 where nothing was to be done. */
  readonly values: number;
}

/**
 * Rotates the key of a store: what is stored from now on is sealed under the new one, which opens
 * everything that is there as well. Whatever ends the process on the way, the store opens with the
 * old key or with the new one, and the same call goes on.
 *
 * Throws MillraceError: as `storeNamespaces`; KEY_WRONG when the new key was one of the store's
 * before; LIMIT when it has objects of too many epochs; STORE_DAMAGED when a value of the tree does
 * not open, or a damaged tree is kept, and then no key is forgotten.
 */
export async function rotateKey(options: RotationOptions): Promise<RotationReport> {
  const { store, journals, newKeyFile, rewrite } = options;
  let { keyFile } = options;
  if (rewrite) await requireNoJournal(store, journals, ['waiting', 'aside']);
  let rotated = false;
  if (newKeyFile !== undefined) {
    if (!(await isRotatedTo(store, options))) {
      await withUnmountedStore({ store, keyFile }, (opened) => startEpoch(opened, options));
      rotated = true;
    }
    keyFile = newKeyFile;
  }
  const key = { store, keyFile };
  const rewritten = rewrite ? await rewriteStore(key, options.onProgress) : undefined;
  const superblock = await readSuperblock(store);
  const epochs = native().keyEpochs(keyFile, keyRingOf(superblock));
  return { epoch: superblock.epoch, rotated, epochs, ...(rewritten && { rewritten }) };
}

/** Whether an earlier call has rotated from the one key to the other, and was stopped then. */
async function isRotatedTo(
  store: string,
  { keyFile, newKeyFile }: RotationOptions,
): Promise<boolean> {
  const superblock = await readSuperblock(store);
  try {
    checkKey(superblock, keyCheckOf(keyFile));
    return false;
  } catch (error) {
    if (!(error instanceof MillraceError) || error.code !== 'KEY_ROTATED') throw error;
    try {
      checkKey(superblock, keyCheckOf(newKeyFile as string));
      return true;
    } catch {
      throw error;
    }
  }
}

function keyCheckOf(keyFile: string): string {
  return native().keyCheck(keyFile).toString('hex');
}

async function startEpoch(
  { superblock }: OpenStore,
  { store, keyFile, newKeyFile = '', makeNewKey }: RotationOptions,
): Promise<void> {
  makeNewKey();
  const { uuid, epoch, keyCheck, rotations = [] } = superblock;
  const newKeyCheck = keyCheckOf(newKeyFile);
  if (rotations.some((old) => old.keyCheck === newKeyCheck)) throw keyReused(newKeyFile);
  const keyRing = sealedRing(superblock, { keyFile, newKeyFile });
  const ended = new Date().toISOString();
  await replaceSuperblock(store, {
    ...superblock,
    format: FORMAT_OF_ROTATED,
    version: VERSION,
    uuid,
    epoch: epoch + 1,
    keyCheck: newKeyCheck,
    keyRing: keyRing.toString('hex'),
    rotations: [...rotations, { epoch, keyCheck, ended }],
  });
}

function sealedRing(
  superblock: Superblock,
  { keyFile, newKeyFile }: { keyFile: string; newKeyFile: string },
): Buffer {
  try {
    return native().rotateKey(keyFile, keyRingOf(superblock), superblock.uuid, newKeyFile);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    if (reason === 'key reused') throw keyReused(newKeyFile, cause);
    if (reason !== 'too many epochs') throw cause;
    throw new MillraceError('LIMIT', 'the store has objects of as many epochs as it can', {
      hint: 'Run `millrace key rotate --rewrite` first; it forgets the earlier keys.',
      cause,
    });
  }
}

/** Whoever had a key that was given up would read again what is sealed under it from now on. */
function keyReused(newKeyFile: string, cause?: unknown): MillraceError {
  const what = `the key in ${newKeyFile} is, or was, a key of this store`;
  return new MillraceError('KEY_WRONG', what, {
    hint: 'Name a file that does not exist yet with --new-key-file: a new key is made there.',
    cause,
  });
}

/** Seals anew what earlier keys have sealed, and then takes these off the ring. */
function rewriteStore(
  key: StoreAndKey,
  onProgress: (progress: UpkeepProgress) => void,
): Promise<Rewritten> {
  return withUnmountedStore(key, async ({ superblock, run }) => {
    const { store, keyFile } = key;
    const ring = keyRingOf(superblock);
    if (ring === undefined || native().keyEpochs(keyFile, ring).length === 1) {
      return { values: 0, resealed: 0, resealedBytes: 0, current: 0, unopened: 0, named: [] };
    }
    requireTree(store);
    const treeFile = treeFileOf(store);
    // What a repair keeps or leaves behind would open with the keys that are to be forgotten.
    refuseWhileKept(treeFile);
    removeRebuilt(treeFile);
    const outcome = await run<ResealOutcome | UpkeepFailure>(
      (parts) => ({ role: 'reseal', ...parts, threads: availableParallelism() }),
      onProgress,
    );
    if ('failure' in outcome) throw treeRefused(store, outcome.failure);
    if ('damagedValue' in outcome) {
      const what = `value ${outcome.damagedValue} of the tree does not open: nothing was sealed anew`;
      throw new MillraceError('STORE_DAMAGED', what, {
        hint: 'Run `millrace fsck` to see which file it belongs to.',
      });
    }
    const { chunks, values } = outcome;
    if (chunks.unopened === 0) {
      const keyRing = native().dropEpochs(keyFile, ring).toString('hex');
      await replaceSuperblock(store, { ...superblock, version: VERSION, keyRing });
    }
    return { values, ...chunks };
  });
}

/** What a store says of its keys to everybody. */
export interface KeyDescription {
  readonly uuid: string;
  /** Undefined where it is shredded. */
  readonly epoch: number | undefined;
  readonly keyCheck: string | undefined;
  readonly rotations: readonly Rotation[];
  readonly shredding: string | undefined;
  readonly shredded: string | undefined;
}

/** What a store says of its keys. Throws MillraceError where there is none, or it is damaged. */
export async function describeKeys(store: string): Promise<KeyDescription> {
  const superblock = await readAnySuperblock(store);
  const { uuid } = superblock;
  const none = { epoch: undefined, keyCheck: undefined, shredding: undefined };
  if ('shredded' in superblock) {
    return { uuid, ...none, rotations: [], shredded: superblock.shredded };
  }
  const { epoch, keyCheck, rotations = [], shredding } = superblock;
  return { uuid, epoch, keyCheck, rotations, shredding, shredded: undefined };
}

/** Under which keys a store is sealed. */
export interface KeyCensus extends CensusOutcome {
  /** The epochs that the key at hand opens, the current one first. */
  readonly epochs: readonly number[];
}

/** Counts by epoch what is in a store; throws as `checkStore`. */
export function countKeys(
  key: StoreAndKey & { readonly onProgress: (progress: UpkeepProgress) => void },
): Promise<KeyCensus> {
  requireTree(key.store);
  return withUnmountedStore(key, async ({ superblock, run }) => {
    const outcome = await run<CensusOutcome | UpkeepFailure>(
      (parts) => ({ role: 'census', ...parts, threads: availableParallelism(), deep: false }),
      key.onProgress,
    );
    if ('failure' in outcome) throw treeRefused(key.store, outcome.failure);
    return { ...outcome, epochs: native().keyEpochs(key.keyFile, keyRingOf(superblock)) };
  });
}
