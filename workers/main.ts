/** The entry of every thread of the pool: runs one role until the engine stops. */
import { isMainThread } from 'node:worker_threads';
import { forOtherThread } from '../engine/errors.ts';
import { SharedMemory } from '../engine/shared-memory.ts';
import { runDataWorker } from './data/loop.ts';
import type { WorkerTask } from './task.ts';
import { listNamespaces } from './tree/list-namespaces.ts';
import { runTreeWorker } from './tree/loop.ts';
import { takeCensus } from './upkeep/census.ts';
import { checkStore } from './upkeep/check-store.ts';
import { recoverJournals } from './upkeep/recover-journals.ts';
import { resealStore } from './upkeep/reseal-store.ts';
import { sweepStore } from './upkeep/sweep-store.ts';

/**
 * Resolves when the engine has stopped, or with what a task asks for; rejects when this thread cannot
 * go on, which ends the mount.
 */
export default async function main(task: WorkerTask): Promise<unknown> {
  try {
    return await run(task);
  } catch (error) {
    throw forOtherThread(error);
  }
}

async function run(task: WorkerTask): Promise<unknown> {
  if (isMainThread) throw new Error('a worker was started on the main thread');
  if (task.role === 'namespaces') return listNamespaces(task);
  if (task.role === 'check') return checkStore(task);
  if (task.role === 'sweep') return sweepStore(task);
  if (task.role === 'reseal') return resealStore(task);
  if (task.role === 'census') return takeCensus(task);
  if (task.role === 'recover') return recoverJournals(task);
  const memory = new SharedMemory(task.buffers);
  if (task.role === 'data') runDataWorker(memory, task.engine, task.worker);
  else await runTreeWorker(memory, task);
  return undefined;
}
