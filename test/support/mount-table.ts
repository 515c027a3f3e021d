/** What the kernel says of mounts. Reads /proc alone: asking a mount itself may block for ever. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

const CONNECTIONS = '/sys/fs/fuse/connections';

/** The part of a line of /proc/self/mountinfo that tests use. */
export interface MountEntry {
  /** Device minor; of a FUSE mount, its name under /sys/fs/fuse/connections. */
  minor: number;
  type: string;
}

function unescaped(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

/** The topmost mount at a directory; undefined when nothing is mounted there. */
export function mountAt(directory: string): MountEntry | undefined {
  const lines = readFileSync('/proc/self/mountinfo', 'latin1').trimEnd().split('\n');
  const line = lines.findLast((each) => unescaped(each.split(' ')[4] as string) === directory);
  if (line === undefined) return undefined;
  const [left, right] = line.split(' - ') as [string, string];
  const minor = Number((left.split(' ')[2] as string).split(':')[1]);
  return { minor, type: right.split(' ')[0] as string };
}

function ignoringFailure(program: string, ...arguments_: string[]): void {
  try {
    execFileSync(program, arguments_, { stdio: 'ignore', timeout: 10_000 });
  } catch {
    // What matters is the state afterwards, which the caller looks at.
  }
}

/** Makes every request on a FUSE mount fail at once, so that nothing that waits on it hangs. */
export function abortConnection(directory: string): void {
  const entry = mountAt(directory);
  if (entry === undefined || !entry.type.startsWith('fuse')) return;
  if (!existsSync(`${CONNECTIONS}/${entry.minor}`) && process.getuid?.() === 0) {
    ignoringFailure('mount', '-t', 'fusectl', 'fusectl', CONNECTIONS);
  }
  try {
    writeFileSync(`${CONNECTIONS}/${entry.minor}/abort`, '1');
  } catch {
    ignoringFailure('umount', '-f', directory);
  }
}

/** Takes the mount off the tree even while it is in use or dead. */
export function detach(directory: string): void {
  for (let layer = 0; layer < 4 && mountAt(directory) !== undefined; layer += 1) {
    if (process.getuid?.() === 0) ignoringFailure('umount', '-l', directory);
    else ignoringFailure('fusermount3', '-u', '-z', directory);
  }
}
