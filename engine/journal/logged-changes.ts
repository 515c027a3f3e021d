import type { Kv } from '../kv/kv.ts';
import type { OnChange } from '../kv/log-segment.ts';
import { treeLogPaths } from '../kv/tree-kv.ts';
import { WriteAheadLog } from '../kv/write-ahead-log.ts';
import { writtenPosition } from '../kv/written-position.ts';

/**
 * Visits what the write-ahead log of a tree has and the Kv below it does not: what the next opening
 * of the tree will write there. Nothing is changed. Throws STORE_DAMAGED.
 */
export function visitLogged(treeFile: string, below: Kv, visit: OnChange): void {
  const written = below.read(writtenPosition);
  new WriteAheadLog({ paths: treeLogPaths(treeFile) }).replay(visit, written);
}
