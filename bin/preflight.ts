/** What must be true of the host and of the mount point before the engine is started. */
import { accessSync, constants, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { errnoName, Failure } from './failure.ts';
import { mountAt } from './mount-table.ts';

const FUSE_DEVICE = '/dev/fuse';

function checkDevice(): void {
  try {
    accessSync(FUSE_DEVICE, constants.R_OK | constants.W_OK);
  } catch (error) {
    if (errnoName(error) === 'ENOENT') {
      throw new Failure({
        message: `there is no ${FUSE_DEVICE}: the kernel has no FUSE, or the container does not pass it in`,
        hint: 'as root: modprobe fuse; for a container: --device /dev/fuse --cap-add SYS_ADMIN',
      });
    }
    throw new Failure({
      message: `${FUSE_DEVICE} is there, but you may not open it (${errnoName(error)})`,
      hint: `as root: chmod 666 ${FUSE_DEVICE}`,
    });
  }
}

function checkDirectory(mountPoint: string): void {
  try {
    if (!statSync(mountPoint).isDirectory()) {
      throw new Failure({
        message: `the mount point ${mountPoint} is not a directory`,
        hint: 'name an empty directory',
      });
    }
  } catch (error) {
    if (error instanceof Failure) throw error;
    if (errnoName(error) === 'ENOENT') {
      throw new Failure({
        message: `the mount point ${mountPoint} does not exist`,
        hint: `mkdir -p ${mountPoint}`,
      });
    }
    throw new Failure({
      message: `the mount point ${mountPoint} cannot be used (${errnoName(error)})`,
      hint: 'check the permissions of the directory and of those above it',
    });
  }
}

/** By the mount table alone: what is mounted there may be dead or stuck, and a stat would wait. */
function checkNotMounted(mountPoint: string): void {
  const there = mountAt(mountPoint);
  if (there !== undefined) {
    throw new Failure({
      message: `${mountPoint} is a mount point already (${there.type} from ${there.source})`,
      hint: `millrace umount ${mountPoint}, or mount elsewhere`,
    });
  }
}

function checkEmpty(mountPoint: string): void {
  let entries: string[];
  try {
    entries = readdirSync(mountPoint);
  } catch (error) {
    throw new Failure({
      message: `the mount point ${mountPoint} cannot be listed (${errnoName(error)})`,
      hint: 'name an empty directory of yours',
    });
  }
  if (entries.length > 0) {
    throw new Failure({
      message: `the mount point ${mountPoint} is not empty`,
      hint: 'name an empty directory: what lies there now would be hidden',
    });
  }
}

/** Whether a path is another one, or below it. */
export const isWithin = (inner: string, outer: string): boolean =>
  inner === outer || inner.startsWith(outer === '/' ? '/' : `${outer}${path.sep}`);

/** Where a mount's parts lie. */
export interface Places {
  mountPoint: string;
  store: string;
  keyFile: string;
  /** Directory of recovery journals. */
  journals: string;
}

function checkPlaces({ mountPoint, store, keyFile, journals }: Places): void {
  if (isWithin(store, mountPoint) || isWithin(mountPoint, store)) {
    throw new Failure({
      message: `the store ${store} and the mount point ${mountPoint} lie within each other`,
      hint: 'keep them apart: the mount would wait for itself',
    });
  }
  if (isWithin(journals, store) || isWithin(journals, mountPoint)) {
    throw new Failure({
      message: `the journal directory ${journals} lies within the store or the mount point`,
      hint: 'name another with --journal-dir: it is for what the store refuses',
    });
  }
  if (isWithin(keyFile, store) || isWithin(keyFile, mountPoint)) {
    throw new Failure({
      message: `the key file ${keyFile} lies within the store or the mount point`,
      hint: 'keep the key where neither the storage side nor the mount can take it away',
    });
  }
}

/** Throws the first reason why this mount cannot be; changes nothing. */
export function preflight(places: Places): void {
  checkNotMounted(places.mountPoint);
  checkDirectory(places.mountPoint);
  checkEmpty(places.mountPoint);
  checkPlaces(places);
  checkDevice();
}
