import { readFileSync } from 'node:fs';
import { MillraceError } from '../errors.ts';

/** Bytes of a boot id: a UUID in hexadecimal. */
export const BOOT_ID_BYTES: 36 = 36;
const BOOT_ID_FILE = '/proc/sys/kernel/random/boot_id';

/** What names this run of the machine: whether the page cache is still the one from before. */
export function readBootId(): string {
  try {
    return readFileSync(BOOT_ID_FILE, 'latin1').trim();
  } catch (cause) {
    throw new MillraceError('STORE_IO', `${BOOT_ID_FILE} cannot be read`, {
      hint: 'Mount /proc: without it a restart of the machine would go unnoticed.',
      cause,
    });
  }
}
