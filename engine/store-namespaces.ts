/** What a store holds, asked while it is not mounted. */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import type { WorkerTask } from '../workers/task.ts';
import { storeRefused } from './mount.ts';
import { native } from './native.ts';
import { allocateBuffers, SharedMemory } from './shared-memory.ts';
import { checkKey, readSuperblock } from './store/superblock.ts';

/** The least memory that an engine runs with. */
const FRAMES = 64;

/**
 * The names of a store's namespaces, the default one first. Throws MillraceError when there is no
 * store, another process uses it, or the key is not its own.
 */
export async function storeNamespaces(options: {
  store: string;
  keyFile: string;
}): Promise<string[]> {
  const { store, keyFile } = options;
  const addon = native();
  addon.harden();
  const superblock = await readSuperblock(store);
  checkKey(superblock, addon.keyCheck(keyFile).toString('hex'));
  const size = { frames: FRAMES, dataWorkers: 1 };
  const memory = new SharedMemory(allocateBuffers({ ...size, skip: addon.skip }));
  let engine: number;
  try {
    engine = addon.open({ ...memory.views(), ...size, movers: 1, keyFile, store }, () => {});
  } catch (cause) {
    throw storeRefused(store, cause);
  }
  const pool = new Piscina<WorkerTask, string[]>({
    filename: fileURLToPath(new URL('../workers/main.js', import.meta.url)),
    maxThreads: 1,
  });
  try {
    const treeFile = path.join(store, 'tree', 'data.mdb');
    return await pool.run({ role: 'namespaces', engine, treeFile });
  } finally {
    await pool.destroy();
    addon.stop(engine);
    addon.close(engine);
  }
}
