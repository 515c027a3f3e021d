/** The namespaces of a store that is not mounted. */
import { Buffer } from 'node:buffer';
import { MillraceError } from '../../engine/errors.ts';
import { Tree } from '../../engine/tree/tree.ts';
import { openTreeFile } from '../../engine/tree-file.ts';
import type { NamespacesTask } from '../task.ts';
import { VaultSealer } from './sealer.ts';

/** Their names, the default one first. */
export async function listNamespaces({ engine, treeFile }: NamespacesTask): Promise<string[]> {
  const sealer = new VaultSealer(engine);
  const kv = await openTreeFile(treeFile, sealer);
  try {
    const found = new Tree({ kv, sealer }).namespaces();
    if (typeof found !== 'number') return found.map(({ name }) => Buffer.from(name).toString());
    throw new MillraceError('STORE_DAMAGED', 'the list of namespaces cannot be read');
  } finally {
    await kv.close();
  }
}
