import { BufferedKv } from './buffered-kv.ts';
import { LmdbKv } from './lmdb-kv.ts';
import { WriteAheadLog } from './write-ahead-log.ts';

/**
 * The Kv of a store's tree: the LMDB file at `path` behind its write-ahead log, with everything that an earlier process
 * promised. Nobody else may have it open. Throws STORE_IO and STORE_DAMAGED.
 */
export async function openTreeKv(path: string): Promise<BufferedKv> {
  const log = new WriteAheadLog({ paths: [`${path}-log0`, `${path}-log1`] });
  return BufferedKv.open(await LmdbKv.open({ path }), log);
}
