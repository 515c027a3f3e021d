/** Serves one mount in this process until it is unmounted, and tells the outside how that went. */
import { closeSync, writeSync } from 'node:fs';
import type { Logger } from 'pino';
import { type Mount, mount } from '../engine/mount.ts';
import type { ReadyMessage } from './daemon.ts';
import { failureParts } from './failure.ts';
import { storeExists } from './key-file.ts';
import type { MountSettings } from './mount-settings.ts';
import { takeOrders } from './order-socket.ts';
import { logFile } from './paths.ts';
import { identify, type ProcessIdentity } from './server-process.ts';
import { type ServingRecord, writeRecord } from './serving-record.ts';

const EXIT_GRACE_MS = 5000;

/** How a mount is served, beside what it is. */
export interface ServeOptions {
  settings: MountSettings;
  log: Logger;
  /** Where to say that the mount stands, or why it does not; undefined without a waiting parent. */
  readyFd: number | undefined;
  /** Called once the mount stands. */
  onMounted: (mount: Mount) => void;
}

function sayReady(readyFd: number | undefined, message: ReadyMessage): void {
  if (readyFd === undefined) return;
  try {
    writeSync(readyFd, `${JSON.stringify(message)}\n`);
    closeSync(readyFd);
  } catch {
    // The parent is gone: whoever started this no longer waits, and the mount goes on.
  }
}

async function openMount({ settings, log, readyFd }: ServeOptions): Promise<Mount> {
  const { dataWorkers, front, fuseThreads, gcIntervalSeconds, slabBytes } = settings;
  try {
    return await mount({
      directory: settings.mountPoint,
      store: settings.store,
      keyFile: settings.keyFile,
      journals: settings.journals,
      namespaces: settings.namespaces,
      options: settings.options,
      front,
      createStore: !storeExists(settings.store),
      log,
      ...(dataWorkers !== undefined && { dataWorkers }),
      ...(fuseThreads !== undefined && { fuseThreads }),
      ...(slabBytes !== undefined && { slabBytes }),
      ...(gcIntervalSeconds !== undefined && { collectIntervalMs: gcIntervalSeconds * 1000 }),
    });
  } catch (error) {
    sayReady(readyFd, { mounted: false, ...failureParts(error) });
    throw error;
  }
}

/** SIGINT, SIGTERM and SIGHUP unmount; a second one cannot hurry what must not be lost. */
function closeOnSignal(served: Mount, log: Logger): void {
  let closing = false;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (closing) {
      log.warn({ signal }, 'still draining: what programs wrote is on its way to the store');
      return;
    }
    closing = true;
    log.info({ signal }, 'unmounting');
    served.close().catch((error: unknown) => log.error({ err: error }, 'unmounting failed'));
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
}

/** Tells umount and the waiting parent that the mount stands; a mount that cannot be found again is closed. */
async function announce(
  options: ServeOptions,
  own: ProcessIdentity,
  served: Mount,
): Promise<ServingRecord> {
  const { settings, readyFd } = options;
  const { fsname } = settings.options;
  try {
    const record: ServingRecord = {
      mountPoint: settings.mountPoint,
      store: settings.store,
      ...(typeof fsname === 'string' && { source: fsname }),
      ...own,
      log: readyFd === undefined ? '' : logFile(settings.mountPoint),
    };
    writeRecord(record);
    options.onMounted(served);
    sayReady(readyFd, { mounted: true, pid: process.pid, replayed: served.replayed });
    return record;
  } catch (error) {
    await served.close();
    sayReady(readyFd, { mounted: false, ...failureParts(error) });
    throw error;
  }
}

/** Mounts, serves, and resolves to the exit status once the file system is drained and gone. */
export async function serve(options: ServeOptions): Promise<number> {
  const { log } = options;
  const served = await openMount(options);
  closeOnSignal(served, log);
  const own = identify(process.pid);
  await takeOrders(own, served, log);
  const record = await announce(options, own, served);
  const { exitStatus, journal } = await served.done;
  leaveStatus({ ...record, exitStatus, ...(journal !== undefined && { journal }) }, log);
  log.info({ exitStatus }, 'unmounted');
  exitEvenSo(exitStatus, log);
  return exitStatus;
}

/** Whoever unmounts without the record says that the status is not known: no reason for this process to fail. */
function leaveStatus(record: ServingRecord, log: Logger): void {
  try {
    writeRecord(record);
  } catch (error) {
    log.warn({ err: error }, 'umount cannot be told how the mount ended');
  }
}

/** A forgotten handle must not keep a drained server alive: `umount` waits for its end. */
function exitEvenSo(exitStatus: number, log: Logger): void {
  setTimeout(() => {
    log.warn({ handles: process.getActiveResourcesInfo() }, 'something kept the process alive');
    process.exit(exitStatus);
  }, EXIT_GRACE_MS).unref();
}
