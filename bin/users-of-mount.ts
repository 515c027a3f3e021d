/** Finds the processes that keep a mount busy, as far as /proc lets this user look. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** A process with something open below a directory. */
export interface UserOfMount {
  pid: number;
  name: string;
}

function linksOf(pid: string): string[] {
  const links: string[] = [];
  const read = (link: string): void => {
    try {
      links.push(readlinkSync(`/proc/${pid}/${link}`));
    } catch {
      // Gone in the meantime, or not ours to see.
    }
  };
  for (const link of ['cwd', 'root', 'exe']) read(link);
  try {
    for (const fd of readdirSync(`/proc/${pid}/fd`)) read(`fd/${fd}`);
  } catch {
    // Not ours to see.
  }
  return links;
}

function mapsBelow(pid: string, prefix: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/maps`, 'utf8').includes(` ${prefix}`);
  } catch {
    return false;
  }
}

function nameOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '?';
  }
}

/** Processes whose directory, root, program, open files or mappings lie on the mount; never this one. */
export function processesUnder(mountPoint: string): UserOfMount[] {
  const prefix = `${mountPoint}/`;
  const below = (link: string): boolean => link === mountPoint || link.startsWith(prefix);
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .filter((pid) => linksOf(pid).some(below) || mapsBelow(pid, prefix))
    .map((pid) => ({ pid: Number(pid), name: nameOf(pid) }));
}
