/** Rows about the machine: kernel, memory, limits. */
import { execFileSync } from 'node:child_process';
import { availableParallelism, arch, cpus, hostname, release, totalmem } from 'node:os';
import { readText } from './read-text.ts';
import { type DoctorRow, okRow } from './row.ts';

const GIB = 2 ** 30;
const DESCRIPTORS_WANTED = 4096;
/** Major and minor version of the oldest Node that has all that is used. */
const NODE_MIN = [20, 15] as const;
/** Bytes of the page of keys, which is to be locked in memory. */
const KEY_PAGE_BYTES = 4096;

const gib = (bytes: number): string => `${(bytes / GIB).toFixed(1)} GiB`;

function hostRow(): DoctorRow {
  const cpu = cpus()[0]?.model ?? 'unknown processor';
  return okRow(
    'host',
    `${hostname()}: ${availableParallelism()} cores, ${cpu}, ${gib(totalmem())}`,
  );
}

function kernelRow(): DoctorRow {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const detail = `Linux ${release()} ${arch()}`;
  if (major > 5 || (major === 5 && minor >= 4)) {
    const mmap = major > 6 || (major === 6 && minor >= 6);
    return okRow(
      'kernel',
      mmap ? detail : `${detail}; shared mmap of a file being written needs 6.6`,
    );
  }
  return { name: 'kernel', state: 'warn', detail, advice: 'Millrace is tested from Linux 5.4 on' };
}

function nodeRow(): DoctorRow {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const isEnough = major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1]);
  if (isEnough) return okRow('node', process.version);
  return {
    name: 'node',
    state: 'fail',
    detail: process.version,
    advice: `install Node ${NODE_MIN.join('.')} or newer`,
  };
}

/** Soft limit of one line of /proc/self/limits; Infinity where there is none. */
function softLimit(line: string): number {
  const found = new RegExp(`^${line}\\s+(\\S+)`, 'm').exec(readText('/proc/self/limits') ?? '');
  return found === null || found[1] === 'unlimited' ? Infinity : Number(found[1]);
}

function descriptorsRow(): DoctorRow {
  const limit = softLimit('Max open files');
  if (limit >= DESCRIPTORS_WANTED) return okRow('RLIMIT_NOFILE', `${limit}`);
  return {
    name: 'RLIMIT_NOFILE',
    state: 'warn',
    detail: `${limit}`,
    advice: `ulimit -n ${DESCRIPTORS_WANTED} before mounting`,
  };
}

function lockedMemoryRow(): DoctorRow {
  const limit = softLimit('Max locked memory');
  const detail = limit === Infinity ? 'unlimited' : `${Math.round(limit / 1024)} KiB`;
  if (limit >= KEY_PAGE_BYTES) return okRow('RLIMIT_MEMLOCK', detail);
  return {
    name: 'RLIMIT_MEMLOCK',
    state: 'warn',
    detail: `${detail}: keys may be swapped`,
    advice: 'ulimit -l 64 before mounting, or encrypt the swap space',
  };
}

function memoryRow(slabBytes: number): DoctorRow {
  const found = /^MemAvailable:\s+(\d+) kB/m.exec(readText('/proc/meminfo') ?? '');
  const available = Number(found?.[1] ?? 0) * 1024;
  const detail = `${gib(available)} available, the slab takes ${gib(slabBytes)}`;
  if (available > 2 * slabBytes) return okRow('memory', detail);
  return {
    name: 'memory',
    state: available > slabBytes ? 'warn' : 'fail',
    detail,
    advice: 'give a smaller --slab, or free memory',
  };
}

function hugePagesRow(): DoctorRow {
  const mode = /\[(\w+)\]/.exec(readText('/sys/kernel/mm/transparent_hugepage/enabled') ?? '')?.[1];
  if (mode === 'always' || mode === 'madvise') return okRow('huge pages', `transparent: ${mode}`);
  return {
    name: 'huge pages',
    state: 'warn',
    detail: `transparent: ${mode ?? 'not in this kernel'}`,
    advice: 'as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled',
  };
}

/** Libraries that ldconfig knows, which is what dlopen will find. */
function knownLibraries(): string {
  for (const tool of ['ldconfig', '/sbin/ldconfig', '/usr/sbin/ldconfig']) {
    try {
      return execFileSync(tool, ['-p'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    } catch {
      // Not on this path; the next one.
    }
  }
  return '';
}

function libraryRows(): DoctorRow[] {
  const known = knownLibraries();
  const rows: Array<[library: string, use: string]> = [
    ['libfabric.so.1', 'libfabric transports'],
    ['libibverbs.so.1', 'verbs transport'],
  ];
  return rows.map(([library, use]) => {
    const at = new RegExp(`^\\s*${library.replaceAll('.', '\\.')} .*=> (\\S+)`, 'm').exec(
      known,
    )?.[1];
    if (at !== undefined) return okRow(library, at);
    return {
      name: library,
      state: 'absent',
      detail: `only for ${use}, which this version does not have`,
      advice: '',
    };
  });
}

/** Rows about the machine, for a slab of so many bytes. */
export function hostRows(slabBytes: number): DoctorRow[] {
  return [
    hostRow(),
    kernelRow(),
    nodeRow(),
    memoryRow(slabBytes),
    hugePagesRow(),
    descriptorsRow(),
    lockedMemoryRow(),
    ...libraryRows(),
  ];
}
