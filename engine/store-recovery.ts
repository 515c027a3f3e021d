/** The recovery journals of a store that is not mounted. */
import type { RecoverOutcome, RecoverTask, UpkeepFailure } from '../workers/task.ts';
import { MillraceError } from './errors.ts';
import { journalTask } from './journal/owner.ts';
import { listJournals } from './journal/places.ts';
import { readSuperblock } from './store/superblock.ts';
import { onUnmountedStore, requireTree, type StoreAndKey, treeRefused } from './unmounted-store.ts';

/** Whose journals, and what becomes of them. Paths are absolute. */
export interface RecoveryOptions extends StoreAndKey {
  /** Directory of the journals of all stores. */
  readonly journals: string;
  readonly action: RecoverTask['action'];
  /** Where 'export' writes; else of no meaning. */
  readonly target: string;
}

/** Shows, replays or exports. Throws MillraceError: as `storeNamespaces`. */
export async function recoverStore(options: RecoveryOptions): Promise<RecoverOutcome> {
  const { store, journals, action, target } = options;
  const journal = journalTask(journals, await readSuperblock(store));
  requireTree(store);
  const outcome = await onUnmountedStore<RecoverOutcome | UpkeepFailure>(options, (parts) => ({
    role: 'recover',
    ...parts,
    journal,
    action,
    target,
    owner: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
  }));
  if ('failure' in outcome) throw treeRefused(store, outcome.failure);
  return outcome;
}

/**
 * Throws where a journal waits for a store: whoever changes records or keys would make it fit no
 * more.
 */
export async function requireNoJournal(store: string, journals: string): Promise<void> {
  const { directory } = journalTask(journals, await readSuperblock(store));
  const waiting = listJournals(directory).find(({ state }) => state === 'waiting');
  if (waiting !== undefined) throw journalWaits(waiting.file);
}

/** Why nothing is done to a store. */
export function journalWaits(file: string): MillraceError {
  const message = `a recovery journal waits to be replayed into the store: ${file}`;
  return new MillraceError('STORE_BUSY', message, {
    hint: 'Mount the store, or run `millrace recover replay`. One that is damaged: export it, then move it away.',
  });
}
