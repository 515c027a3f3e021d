/** Rows about what Millrace itself brings: the addon, the store's disk, the key. */
import { existsSync, statfsSync } from 'node:fs';
import path from 'node:path';
import { MillraceError } from '../../engine/errors.ts';
import { native } from '../../engine/native.ts';
import { readSuperblock } from '../../engine/store/superblock.ts';
import { failureParts } from '../failure.ts';
import { ensureKeyFile, storeExists } from '../key-file.ts';
import { mountOf } from '../mount-table.ts';
import { type DoctorRow, okRow } from './row.ts';

function addonRow(): DoctorRow {
  try {
    native();
    return okRow('addon', 'loads');
  } catch (error) {
    const { message, hint } = failureParts(error);
    return { name: 'addon', state: 'fail', detail: message, advice: hint };
  }
}

/** The directory itself, or the nearest one above it that exists. */
function nearestExisting(directory: string): string {
  let at = directory;
  while (!existsSync(at) && at !== path.dirname(at)) at = path.dirname(at);
  return at;
}

/** What a store on a file system of such a type must expect. */
const ADVICE = new Map([
  ...['tmpfs', 'ramfs'].map(
    (type) => [type, 'it lies in memory and is gone after a reboot: fit for trials only'] as const,
  ),
  ...['nfs', 'nfs4', 'cifs', 'smb3', '9p', 'fuse.sshfs'].map(
    (type) =>
      [type, 'the file of the tree is made for local disks: keep the store on one'] as const,
  ),
]);

function storeRow(store: string): DoctorRow {
  const at = nearestExisting(store);
  const type = mountOf(at)?.type ?? 'unknown';
  const { bavail, bsize } = statfsSync(at);
  const free = `${((bavail * bsize) / 2 ** 30).toFixed(1)} GiB free`;
  const detail = `${store}${at === store ? '' : ' (not made yet)'} on ${type}, ${free}`;
  const advice = ADVICE.get(type);
  return advice === undefined
    ? okRow('store', detail)
    : { name: 'store', state: 'warn', detail, advice };
}

/** Why no key is of use any more; undefined where one is. */
async function shreddedRow(store: string): Promise<DoctorRow | undefined> {
  try {
    await readSuperblock(store);
    return undefined;
  } catch (error) {
    if (!(error instanceof MillraceError) || error.code !== 'KEY_SHREDDED') return undefined;
    return { name: 'key', state: 'fail', detail: error.message, advice: error.hint };
  }
}

function keyRow(store: string, keyFile: string): DoctorRow {
  if (!existsSync(keyFile) && !storeExists(store)) {
    return { name: 'key', state: 'absent', detail: keyFile, advice: 'the first mount makes it' };
  }
  try {
    ensureKeyFile({ store, keyFile });
    return okRow('key', `${keyFile}: keep a copy in a safe place`);
  } catch (error) {
    const { message, hint } = failureParts(error);
    return { name: 'key', state: 'fail', detail: message, advice: hint };
  }
}

/** Rows about the addon, the store and its key. Creates nothing. */
export async function storeRows(places: { store: string; keyFile: string }): Promise<DoctorRow[]> {
  const { store, keyFile } = places;
  const key = (await shreddedRow(store)) ?? keyRow(store, keyFile);
  return [addonRow(), storeRow(store), key];
}
