/**
 * A Millrace mount in a process of its own, driven through the command line as a user would:
 * a program that waits in the mount can then never wait for the process that serves it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { MILLRACE } from './places.ts';

/** The numbers of one progress line: mount.snapshot() and the time in ms. */
export type Progress = Record<string, number>;

/** How to mount. */
export interface MountedOptions {
  mountPoint: string;
  store: string;
  keyFile: string;
  /** More words for `millrace mount`. */
  words?: readonly string[];
  /** Called about once a second while the mount stands. */
  onProgress?: (progress: Progress) => void;
}

/** A mount that stands. */
export interface Mounted {
  pid: number;
  /** Unmounts, waits for the drain, resolves to the exit status of `millrace umount`. */
  unmount(): Promise<number>;
}

const STDERR_KEPT = 4000;

interface Line extends Record<string, unknown> {
  event?: string;
}

async function run(words: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, [MILLRACE, ...words], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [status] = (await once(child, 'exit')) as [number | null];
  return status ?? 1;
}

/** Resolves at the line that says "mounted"; rejects when the process ends before. */
function waitForMount(
  child: ChildProcess,
  onProgress: (progress: Progress) => void,
): Promise<void> {
  let errors = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-STDERR_KEPT);
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (status) =>
      reject(new Error(`millrace mount ended with status ${status}: ${errors.trim()}`)),
    );
    if (child.stdout === null) return;
    createInterface({ input: child.stdout }).on('line', (text) => {
      const line = JSON.parse(text) as Line;
      if (line.event === 'mounted') resolve();
      if (line.event === 'progress') onProgress(line as unknown as Progress);
    });
  });
}

/** Mounts and resolves once the mount stands. */
export async function mountMillrace(options: MountedOptions): Promise<Mounted> {
  const { mountPoint, store, keyFile, words = [], onProgress } = options;
  const progress = onProgress ? ['--progress'] : [];
  const child = spawn(
    process.execPath,
    [MILLRACE, 'mount', mountPoint, '--store', store, '--key-file', keyFile].concat(
      ['--foreground', '--json'],
      progress,
      words,
    ),
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  await waitForMount(child, onProgress ?? (() => undefined));
  return {
    pid: child.pid ?? 0,
    unmount: () => run(['umount', mountPoint]),
  };
}
