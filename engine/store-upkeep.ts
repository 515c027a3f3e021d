/** Check and clean-up of a store that is not mounted. */
import { availableParallelism } from 'node:os';
import type { CheckOutcome, SweepOutcome, UpkeepFailure, UpkeepProgress } from '../workers/task.ts';
import { MillraceError } from './errors.ts';
import type { SweepReport } from './native.ts';
import { readSuperblock } from './store/superblock.ts';
import { journalTask } from './journal/owner.ts';
import { journalWaits, requireNoJournal } from './store-recovery.ts';
import { refuseWhileKept } from './tree-rebuild.ts';
import {
  countLeftovers,
  type Leftovers,
  onUnmountedStore,
  requireTree,
  treeFileOf,
  type StoreAndKey,
  treeRefused,
} from './unmounted-store.ts';

export type { UpkeepProgress };

/** How a store is checked. */
export interface CheckOptions extends StoreAndKey {
  /** Directory of recovery journals: nothing is repaired while one waits. */
  readonly journals: string;
  /** Open every chunk rather than only look for it. */
  readonly deep: boolean;
  readonly repair: boolean;
  readonly onProgress: (progress: UpkeepProgress) => void;
}

/** What a check of a store found. */
export interface StoreCheckReport extends CheckOutcome {
  readonly leftovers: Leftovers;
}

/**
 * Checks the tree of a store and its chunks. Memory: 61 bytes for each inode and 72 for each chunk,
 * and up to two and a half times as much for moments.
 *
 * Throws MillraceError: as `storeNamespaces`, and STORE_DAMAGED where the tree cannot be read at
 * all.
 */
export async function checkStore(options: CheckOptions): Promise<StoreCheckReport> {
  const { store, deep, repair, journals, onProgress } = options;
  await readSuperblock(store);
  if (repair) await requireNoJournal(store, journals);
  const leftovers = await countLeftovers(store);
  requireTree(store);
  const outcome = await onUnmountedStore<CheckOutcome | UpkeepFailure>(
    options,
    (parts) => ({
      role: 'check',
      ...parts,
      threads: deep ? availableParallelism() : 0,
      repair,
      owner: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
    }),
    onProgress,
  );
  if ('failure' in outcome) throw treeRefused(store, outcome.failure);
  return { ...outcome, leftovers };
}

/** How a store is cleaned. */
export interface SweepOptions extends StoreAndKey {
  /** Directory of recovery journals: what one needs that waits is kept. */
  readonly journals: string;
  /** Chunks that were written in the last so many seconds stay. */
  readonly graceSeconds: number;
  /** Deletes nothing, only counts. */
  readonly dryRun: boolean;
  readonly onProgress: (progress: UpkeepProgress) => void;
}

/** What was deleted, and what is left. */
export interface StoreSweepReport extends SweepReport {
  /** Files without a name that were deleted, or would be. */
  readonly orphans: number;
  readonly leftovers: Leftovers;
}

/**
 * Deletes the chunks that no file of a store needs, and what writes that never ended have left.
 * Memory: as `checkStore`.
 *
 * Throws MillraceError: as `checkStore`, and STORE_DAMAGED where anything is wrong with the tree,
 * because then nobody knows what is needed; nothing is deleted.
 */
export async function sweepStore(options: SweepOptions): Promise<StoreSweepReport> {
  const { store, graceSeconds, dryRun, journals, onProgress } = options;
  const journal = journalTask(journals, await readSuperblock(store));
  const leftovers = await countLeftovers(store);
  requireTree(store);
  refuseWhileKept(treeFileOf(store));
  const outcome = await onUnmountedStore<SweepOutcome | UpkeepFailure>(
    options,
    (parts) => ({ role: 'sweep', ...parts, journal, graceSeconds, dryRun }),
    onProgress,
  );
  if ('failure' in outcome) throw treeRefused(store, outcome.failure);
  if ('swept' in outcome) return { ...outcome.swept, orphans: outcome.orphans, leftovers };
  if ('journal' in outcome) throw journalWaits(outcome.journal);
  const message = `the tree of the store ${store} is damaged: nothing was deleted`;
  throw new MillraceError('STORE_DAMAGED', message, {
    hint: 'Run `millrace fsck` to see what is wrong; chunks that damaged files need must stay.',
  });
}
