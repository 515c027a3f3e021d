/** Processes that serve mounts: found, told from later ones with their number, and whether they still run. */
import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { type MountEntry, mountOf, readMountTable } from './mount-table.ts';
import { mountPointPath } from './paths.ts';

/** One process. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks between boot and the process' start; '' where /proc hides the process. */
  readonly startedTicks: string;
}

/** State letter and start time of a process, or undefined when it is gone or hidden. */
function processStat(pid: number): { state: string; startedTicks: string } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The command name may hold blanks and parentheses: the fields start behind its last one.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? '', startedTicks: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}

/** A process by its number, as it is now. */
export function identify(pid: number): ProcessIdentity {
  return { pid, startedTicks: processStat(pid)?.startedTicks ?? '' };
}

/** Whether this very process still runs; one that waits to be reaped does not, where /proc shows it. */
export function isRunning({ pid, startedTicks }: ProcessIdentity): boolean {
  const stat = processStat(pid);
  if (stat === undefined) return takesSignals(pid);
  return stat.startedTicks === startedTicks && !'ZX'.includes(stat.state);
}

/** A /proc with hidepid hides a process that cannot be dumped even from its own user. */
function takesSignals(pid: number): boolean {
  try {
    // Zero and negative numbers are groups.
    return pid > 0 && process.kill(pid, 0);
  } catch {
    return false;
  }
}

/**
 * The process that serves a mount, without its record: who holds the lock of the store that the mount names as its
 * source, or else whose command line asks for this mount. Undefined where neither tells.
 */
export function findServer(there: MountEntry): ProcessIdentity | undefined {
  const pid = lockHolder(there.source);
  if (pid !== undefined) {
    // A mount whose server was killed stays in the table, and its store may be mounted elsewhere meanwhile.
    const isElsewhere = readMountTable().some(
      ({ source, device }) => source === there.source && device !== there.device,
    );
    if (!isElsewhere || asksFor(pid, there.mountPoint)) return identify(pid);
  }
  const asking = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((name) => asksFor(Number(name), there.mountPoint))
    .map((name) => identify(Number(name)))
    .sort((a, b) => Number(a.startedTicks) - Number(b.startedTicks));
  // Whoever started the server asked for the same.
  return asking.at(-1);
}

/** Who has the lock of a store: flock(2) of its directory, as the kernel lists it for everybody. */
function lockHolder(store: string): number | undefined {
  if (!path.isAbsolute(store)) return undefined;
  try {
    const directory = realpathSync(store);
    const { dev, ino } = statSync(directory, { bigint: true });
    // btrfs has devices of its own for stat(2); the list has that of the mount table.
    const devices = [deviceText(dev), mountOf(directory)?.device];
    for (const line of readFileSync('/proc/locks', 'latin1').split('\n')) {
      const [, pid, major, minor, inode] =
        /^\d+: FLOCK +\S+ +WRITE +(\d+) ([\da-f]+):([\da-f]+):(\d+) /.exec(line) ?? [];
      if (inode !== `${ino}`) continue;
      if (devices.includes(`${parseInt(major ?? '', 16)}:${parseInt(minor ?? '', 16)}`)) {
        return Number(pid);
      }
    }
  } catch {
    // No store is there, or the kernel does not tell.
  }
  return undefined;
}

/** A device number as mountinfo writes it. */
function deviceText(device: bigint): string {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/** Whether a process was started as `millrace mount` of this mount point, by an absolute path. */
function asksFor(pid: number, mountPoint: string): boolean {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    // Behind the interpreter and the program.
    const command = words.indexOf('mount', 2);
    if (command < 0) return false;
    return words
      .slice(command + 1)
      .some((word) => path.isAbsolute(word) && mountPointPath(word) === mountPoint);
  } catch {
    return false;
  }
}
