/** The entry of every thread of the pool: runs one role until the engine stops. */
import { isMainThread } from 'node:worker_threads';
import { forOtherThread } from '../engine/errors.ts';
import { SharedMemory } from '../engine/shared-memory.ts';
import type { WorkerTask } from './task.ts';

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

/** Each role loads what it needs: a mount has many data workers, and none of them has a tree. */
async function run(task: WorkerTask): Promise<unknown> {
  if (isMainThread) throw new Error('a worker was started on the main thread');
  switch (task.role) {
    case 'data': {
      const { runDataWorker } = await import('./data/loop.ts');
      return runDataWorker(new SharedMemory(task.buffers), task.engine, task.worker);
    }
    case 'tree': {
      const { runTreeWorker } = await import('./tree/loop.ts');
      return runTreeWorker(new SharedMemory(task.buffers), task);
    }
    case 'namespaces': {
      const { listNamespaces } = await import('./tree/list-namespaces.ts');
      return listNamespaces(task);
    }
    case 'check': {
      const { checkStore } = await import('./upkeep/check-store.ts');
      return checkStore(task);
    }
    case 'sweep': {
      const { sweepStore } = await import('./upkeep/sweep-store.ts');
      return sweepStore(task);
    }
    case 'reseal': {
      const { resealStore } = await import('./upkeep/reseal-store.ts');
      return resealStore(task);
    }
    case 'census': {
      const { takeCensus } = await import('./upkeep/census.ts');
      return takeCensus(task);
    }
    case 'recover': {
      const { recoverJournals } = await import('./upkeep/recover-journals.ts');
      return recoverJournals(task);
    }
  }
}
