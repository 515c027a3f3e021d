/** The recovery journals of a store that is not mounted. */
import type { RecoverOutcome, RecoverTask, UpkeepFailure } from '../workers/task.ts';
import { MillraceError } from './errors.ts';
import { journalTask } from './journal/owner.ts';
import { type JournalState, listJournals } from './journal/places.ts';
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
 * Throws where a journal of a store is in one of these states: whoever changes records would make one that waits fit no
 * more, and whoever forgets keys could open none.
 */
export async function requireNoJournal(
  store: string,
  journals: string,
  states: readonly JournalState[] = ['waiting'],
): Promise<void> {
  const { directory } = journalTask(journals, await readSuperblock(store));
  const found = listJournals(directory).find(({ state }) => states.includes(state));
  if (found?.state === 'aside') throw journalIsAside(found.file);
  if (found !== undefined) throw journalWaits(found.file);
}

function journalIsAside(file: string): MillraceError {
  const message = `a recovery journal that was put aside is sealed under a key that would be forgotten: ${file}`;
  return new MillraceError('STORE_BUSY', message, {
    hint: 'Export it with `millrace recover export`, or take what you need from lost+found, then move it away.',
  });
}

/** Why nothing is done to a store. */
export function journalWaits(file: string): MillraceError {
  const message = `a recovery journal waits to be replayed into the store: ${file}`;
  return new MillraceError('STORE_BUSY', message, {
    hint: 'Mount the store, or run `millrace recover replay`. One that is damaged: export it, then move it away.',
  });
}
