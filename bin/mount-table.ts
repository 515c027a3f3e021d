/** Reads the kernel's table of mounts, without touching the mounts themselves. */
import { readFileSync } from 'node:fs';

/** One line of /proc/self/mountinfo. */
export interface MountEntry {
  mountPoint: string;
  /** Number of the device, major:minor. */
  device: string;
  /** File system type, such as ext4 or fuse.millrace. */
  type: string;
  source: string;
}

/** mountinfo writes blanks, tabs, newlines and backslashes as octal. */
function unescapeField(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(parseInt(octal, 8)),
  );
}

/** Every mount that this process sees, in the order in which they were mounted. */
export function readMountTable(): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of readFileSync('/proc/self/mountinfo', 'latin1').split('\n')) {
    const fields = line.split(' ');
    const dash = fields.indexOf('-');
    if (dash < 0) continue;
    const text = (field: string | undefined): string =>
      Buffer.from(unescapeField(field ?? ''), 'latin1').toString('utf8');
    entries.push({
      mountPoint: text(fields[4]),
      device: text(fields[2]),
      type: text(fields[dash + 1]),
      source: text(fields[dash + 2]),
    });
  }
  return entries;
}

/** What is mounted on exactly this directory (the topmost, where mounts are stacked). */
export function mountAt(mountPoint: string): MountEntry | undefined {
  return readMountTable().findLast((entry) => entry.mountPoint === mountPoint);
}

/** The mount that a path lies on: the longest mount point that is a prefix of it. */
export function mountOf(file: string): MountEntry | undefined {
  let best: MountEntry | undefined;
  for (const entry of readMountTable()) {
    const prefix = entry.mountPoint === '/' ? '/' : `${entry.mountPoint}/`;
    const covers = file === entry.mountPoint || file.startsWith(prefix);
    if (covers && entry.mountPoint.length >= (best?.mountPoint.length ?? 0)) best = entry;
  }
  return best;
}
