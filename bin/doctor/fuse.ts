/** Rows about FUSE: what the kernel and fusermount3 let this user do. */
import { accessSync, constants, statSync } from 'node:fs';
import { findProgram } from './find-program.ts';
import { readText } from './read-text.ts';
import { type DoctorRow, okRow } from './row.ts';

/** Pages of one request of FRAME_BYTES. */
const REQUEST_PAGES = 256;

function mayOpen(file: string): boolean {
  try {
    accessSync(file, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function deviceRow(): DoctorRow {
  const stat = statSync('/dev/fuse', { throwIfNoEntry: false });
  if (stat === undefined) {
    return {
      name: '/dev/fuse',
      state: 'fail',
      detail: 'not there',
      advice: 'as root: modprobe fuse; for a container: --device /dev/fuse --cap-add SYS_ADMIN',
    };
  }
  const mode = `mode ${(stat.mode & 0o777).toString(8).padStart(4, '0')}`;
  if (!mayOpen('/dev/fuse')) {
    return {
      name: '/dev/fuse',
      state: 'fail',
      detail: mode,
      advice: 'as root: chmod 666 /dev/fuse',
    };
  }
  if ((stat.mode & 0o006) !== 0o006) {
    return {
      name: '/dev/fuse',
      state: 'warn',
      detail: `${mode}: other users cannot mount`,
      advice: 'chmod 666 /dev/fuse, if they should',
    };
  }
  return okRow('/dev/fuse', mode);
}

function fusermountRow(): DoctorRow {
  const file = findProgram('fusermount3');
  // Whether any front can do without it is told by the rows of the fronts.
  const need = 'warn';
  if (file === undefined) {
    return {
      name: 'fusermount3',
      state: need,
      detail: 'not installed: with the front kernel, only root can mount',
      advice: 'Debian: apt-get install fuse3',
    };
  }
  const stat = statSync(file);
  if (stat.uid === 0 && (stat.mode & 0o4000) !== 0)
    return okRow('fusermount3', `${file}, setuid root`);
  return {
    name: 'fusermount3',
    state: need,
    detail: `${file} is not setuid root: with the front kernel, only root can mount`,
    advice: `as root: chmod 4755 ${file}`,
  };
}

function allowOtherRow(): DoctorRow {
  const set = /^\s*user_allow_other\b/m.test(readText('/etc/fuse.conf') ?? '');
  if (set) return okRow('user_allow_other', 'set: -o allow_other works for everybody');
  return {
    name: 'user_allow_other',
    state: 'absent',
    detail: 'not in /etc/fuse.conf: -o allow_other is for root alone',
    advice: 'as root: echo user_allow_other >> /etc/fuse.conf, if users should share mounts',
  };
}

function requestRow(): DoctorRow {
  const pages = readText('/proc/sys/fs/fuse/max_pages_limit');
  if (pages === undefined)
    return okRow('max_pages_limit', `not in this kernel: ${REQUEST_PAGES} pages`);
  if (Number(pages) >= REQUEST_PAGES) return okRow('max_pages_limit', `${pages} pages`);
  return {
    name: 'max_pages_limit',
    state: 'warn',
    detail: `${pages} pages: requests are smaller than 1 MiB`,
    advice: `as root: sysctl fs.fuse.max_pages_limit=${REQUEST_PAGES}`,
  };
}

function ioUringRow(): DoctorRow {
  const enabled = readText('/sys/module/fuse/parameters/enable_uring');
  if (enabled === 'Y' || enabled === '1')
    return okRow('FUSE over io_uring', 'enabled in the kernel');
  return {
    name: 'FUSE over io_uring',
    state: 'absent',
    detail: enabled === undefined ? 'not in this kernel' : 'off',
    advice: 'nothing: Millrace reads /dev/fuse, which is faster for streams',
  };
}

/** Rows about FUSE. */
export function fuseRows(): DoctorRow[] {
  return [deviceRow(), fusermountRow(), allowOtherRow(), requestRow(), ioUringRow()];
}
