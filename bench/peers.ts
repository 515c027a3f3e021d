/**
 * The file systems that `npm run bench` compares: how each is mounted with its storage below one
 * directory, in the foreground, so that it can be waited for and its CPU time be read.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, openSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountMillrace } from './mounted.ts';

const MOUNT_WAIT_MS = 20_000;
const POLL_MS = 20;

/** A mount that stands. */
export interface PeerMount {
  pid: number;
  /** Rejects when the file system did not end well. */
  unmount(): Promise<void>;
}

/** Where a peer may put its things: all on one disk. */
export interface PeerPlaces {
  mountPoint: string;
  /** An empty directory for whatever it stores. */
  storage: string;
}

/** A file system under comparison. */
export interface Peer {
  name: string;
  /** What it says about its version. */
  version: () => string;
  /** Whether it can do this job at all. */
  can: (job: string) => boolean;
  mount: (places: PeerPlaces, job: string) => Promise<PeerMount>;
}

/** Whether something is mounted there: the device differs from the parent's. */
function isMounted(directory: string): boolean {
  return statSync(directory).dev !== statSync(path.dirname(directory)).dev;
}

function unmountPath(directory: string): void {
  if (process.geteuid?.() === 0) execFileSync('umount', [directory]);
  else execFileSync('fusermount3', ['-u', directory]);
}

/** Starts a file system that serves in the foreground; resolves when its mount stands. */
async function mountForeground(
  command: readonly [string, ...string[]],
  places: PeerPlaces,
): Promise<PeerMount> {
  const [program, ...words] = command;
  const log = openSync(`${places.storage}.log`, 'a');
  const child = spawn(program, words, { stdio: ['ignore', log, log] });
  const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  let over = false;
  ended.then(
    () => (over = true),
    () => (over = true),
  );
  for (let waitedMs = 0; !isMounted(places.mountPoint); waitedMs += POLL_MS) {
    if (over || waitedMs > MOUNT_WAIT_MS)
      throw new Error(`${program} did not mount: ${places.storage}.log`);
    await sleep(POLL_MS);
  }
  return {
    pid: child.pid ?? 0,
    unmount: async () => {
      unmountPath(places.mountPoint);
      await ended;
    },
  };
}

function firstLine(program: string, words: readonly string[]): string {
  return execFileSync(program, words, { encoding: 'utf8' }).split('\n')[0] ?? '';
}

/** Whether a program is on the path. */
export function isInstalled(program: string): boolean {
  try {
    execFileSync('sh', ['-c', 'command -v "$0"', program], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** The physical limit: the same work without a file system around it. */
export function boundPeer(binary: string): Peer {
  return {
    name: 'bound',
    version: () => 'yardstick',
    can: (job) => job !== 'randwrite-4k',
    mount: (places, job) => {
      const reads = job === 'randread-4k' ? ['--direct-reads'] : [];
      const words = ['mount', places.mountPoint, '--back', places.storage, '--fuse-threads', '2'];
      return mountForeground([binary, ...words, ...reads], places);
    },
  };
}

/** Millrace itself, through its command line. */
export function millracePeer(version: string, words: readonly string[]): Peer {
  return {
    name: 'millrace',
    version: () => version,
    can: () => true,
    mount: async ({ mountPoint, storage }) => {
      const mounted = await mountMillrace({
        mountPoint,
        store: path.join(storage, 'store'),
        keyFile: path.join(storage, 'key'),
        words,
      });
      const unmount = async (): Promise<void> => {
        const status = await mounted.unmount();
        if (status !== 0) throw new Error(`millrace umount ended with status ${status}`);
      };
      return { pid: mounted.pid, unmount };
    },
  };
}

/** gocryptfs: AES-GCM per 4 KiB block in a directory. */
export const GOCRYPTFS: Peer = {
  name: 'gocryptfs',
  version: () => firstLine('gocryptfs', ['-version']),
  can: () => true,
  mount: async (places) => {
    const cipher = path.join(places.storage, 'cipher');
    const password = path.join(places.storage, 'password');
    mkdirSync(cipher);
    writeFileSync(password, 'benchmark\n', { mode: 0o600 });
    const pass = ['-passfile', password];
    execFileSync('gocryptfs', ['-q', '-init', '-scryptn', '10', ...pass, cipher]);
    return await mountForeground(
      ['gocryptfs', '-q', '-fg', ...pass, cipher, places.mountPoint],
      places,
    );
  },
};

/** rclone's crypt over a directory; its cache in plain text on the same disk, as its users run it. */
export const RCLONE: Peer = {
  name: 'rclone',
  version: () => firstLine('rclone', ['version']),
  can: () => true,
  mount: async (places) => {
    const at = (name: string): string => path.join(places.storage, name);
    mkdirSync(at('cipher'));
    const password = execFileSync('rclone', ['obscure', 'benchmark'], { encoding: 'utf8' }).trim();
    const lines = [
      '[sealed]',
      'type = crypt',
      `remote = ${at('cipher')}`,
      `password = ${password}`,
      '',
    ];
    writeFileSync(at('rclone.conf'), lines.join('\n'), { mode: 0o600 });
    const words = ['mount', 'sealed:', places.mountPoint, '--config', at('rclone.conf')];
    const cache = ['--vfs-cache-mode', 'full', '--cache-dir', at('cache')];
    return await mountForeground(['rclone', ...words, ...cache], places);
  },
};
