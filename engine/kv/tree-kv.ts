import { BufferedKv } from './buffered-kv.ts';
import { LmdbKv, type LmdbKvOptions } from './lmdb-kv.ts';
import { WriteAheadLog } from './write-ahead-log.ts';

/**
 * The Kv of a store's tree: the LMDB file at `path` behind its write-ahead log, with everything that an earlier process
 * promised. Nobody else may have it open. Throws STORE_IO
 * and STORE_DAMAGED.
 */
export async function openTreeKv(
  path: string,
  options: Pick<LmdbKvOptions, 'inspect' | 'reserve'> = {},
): Promise<BufferedKv> {
  const log = new WriteAheadLog({ paths: treeLogPaths(path) });
  return BufferedKv.open(await LmdbKv.open({ path, ...options }), log);
}

/** The files of the log of the tree at `path`. */
export function treeLogPaths(path: string): [string, string] {
  return [`${path}-log0`, `${path}-log1`];
}
