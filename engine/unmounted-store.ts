/** What is done with a store while it is not mounted. */
import { existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import type { UpkeepProgress, WorkerTask } from '../workers/task.ts';
import { fromOtherThread, MillraceError } from './errors.ts';
import { storeRefused } from './mount.ts';
import { native } from './native.ts';
import { allocateBuffers, SharedMemory } from './shared-memory.ts';
import {
  checkKey,
  confirmKeys,
  keyRingOf,
  readSuperblock,
  type Superblock,
} from './store/superblock.ts';

/** The least memory that an engine runs with. */
const FRAMES = 64;

/** A store and the key that opens it; paths are absolute. */
export interface StoreAndKey {
  readonly store: string;
  readonly keyFile: string;
}

/** Files of writes that never ended, which opening a store removes. */
export interface Leftovers {
  readonly files: number;
  readonly bytes: number;
}

/** What a task is made of. */
export interface TaskParts {
  readonly engine: number;
  readonly treeFile: string;
  readonly port: MessagePort;
}

/** A store that this process has to itself, open. */
export interface OpenStore {
  readonly engine: number;
  readonly superblock: Superblock;
  /** Runs one task in a thread of its own. */
  run<T>(
    makeTask: (parts: TaskParts) => WorkerTask,
    onProgress?: (progress: UpkeepProgress) => void,
  ): Promise<T>;
}

/**
 * Runs one task in a thread of its own over a store that nobody else uses meanwhile. Throws
 * MillraceError when there is no store, another process uses it, or the key is not its own.
 */
export function onUnmountedStore<T>(
  store: StoreAndKey,
  makeTask: (parts: TaskParts) => WorkerTask,
  onProgress?: (progress: UpkeepProgress) => void,
): Promise<T> {
  return withUnmountedStore(store, (opened) => opened.run<T>(makeTask, onProgress));
}

/** Runs `body` over a store that nobody else uses meanwhile; throws as `onUnmountedStore`. */
export async function withUnmountedStore<T>(
  { store, keyFile }: StoreAndKey,
  body: (opened: OpenStore) => Promise<T>,
  read: (store: string) => Promise<Superblock> = readSuperblock,
): Promise<T> {
  const addon = native();
  addon.harden();
  const superblock = await read(store);
  checkKey(superblock, addon.keyCheck(keyFile).toString('hex'));
  const size = { frames: FRAMES, dataWorkers: 1 };
  const memory = new SharedMemory(allocateBuffers({ ...size, skip: addon.skip }));
  const parts = { ...size, movers: 1, keyFile, keyRing: keyRingOf(superblock), store };
  let engine: number;
  try {
    engine = addon.open({ ...memory.views(), ...parts }, () => {});
  } catch (cause) {
    throw storeRefused(store, cause);
  }
  try {
    // What was read before the store was ours may be over.
    confirmKeys(superblock, await read(store));
    return await body({
      engine,
      superblock,
      run: (makeTask, onProgress = () => {}) =>
        runTask(makeTask, { engine, treeFile: treeFileOf(store) }, onProgress),
    });
  } finally {
    addon.stop(engine);
    addon.close(engine);
  }
}

async function runTask<T>(
  makeTask: (parts: TaskParts) => WorkerTask,
  parts: Omit<TaskParts, 'port'>,
  onProgress: (progress: UpkeepProgress) => void,
): Promise<T> {
  const pool = new Piscina<WorkerTask, T>({
    filename: fileURLToPath(new URL('../workers/main.js', import.meta.url)),
    maxThreads: 1,
  });
  const { port1, port2 } = new MessageChannel();
  port1.on('message', onProgress);
  try {
    const task = makeTask({ ...parts, port: port2 });
    return await pool.run(task, { transferList: 'port' in task ? [port2] : [] });
  } catch (error) {
    throw fromOtherThread(error);
  } finally {
    port1.close();
    await pool.destroy();
  }
}

/** Counts what is in a store's tmp/, before it is opened. */
export async function countLeftovers(store: string): Promise<Leftovers> {
  const directory = path.join(store, 'tmp');
  const names = await readdir(directory).catch(() => []);
  let bytes = 0;
  for (const name of names) {
    const found = await stat(path.join(directory, name)).catch(() => undefined);
    bytes += found?.size ?? 0;
  }
  return { files: names.length, bytes };
}

/** The file that the tree of a store lies in. */
export function treeFileOf(store: string): string {
  return path.join(store, 'tree', 'data.mdb');
}

/** Whether a store has a tree: one that was never mounted has none. */
export function treeExists(store: string): boolean {
  return existsSync(treeFileOf(store));
}

/** Throws STORE_DAMAGED where there is no tree: opening it would make an empty one. */
export function requireTree(store: string): void {
  if (treeExists(store)) return;
  throw new MillraceError('STORE_DAMAGED', `the tree of the store ${store} is missing`, {
    hint: 'Restore tree/data.mdb from a backup; a store that was never mounted has none yet.',
  });
}

/** What the tree of a store could not be read for. */
export function treeRefused(store: string, failure: string): MillraceError {
  return new MillraceError('STORE_DAMAGED', `the tree of ${store} cannot be read: ${failure}`, {
    hint: 'Check the disk. `millrace fsck --repair` saves what can be read; else restore tree/ from a backup.',
  });
}
