/** What a store holds, asked while it is not mounted. */
import { onUnmountedStore, type StoreAndKey } from './unmounted-store.ts';

/**
 * The names of a store's namespaces, the default one first. Throws MillraceError when there is no
 * store, another process uses it, or the key is not its own.
 */
export function storeNamespaces(store: StoreAndKey): Promise<string[]> {
  return onUnmountedStore(store, ({ engine, treeFile }) => ({
    role: 'namespaces',
    engine,
    treeFile,
  }));
}
