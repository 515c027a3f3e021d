/**
 * Runs a mount in the background: the same command again with --foreground, in a session of its own,
 * with its log as stdout and stderr. A pipe brings back one line: mounted, or why not.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { Readable } from 'node:stream';
import type { ReplayNotice } from '../engine/journal/replay.ts';
import { Failure, type FailureParts } from './failure.ts';
import { logFile } from './paths.ts';
import { type MountSettings, mountCommandLine } from './mount-settings.ts';

/** The descriptor of the child's end of the pipe. */
const READY_FD = 3;

/** The one line that the child writes to its pipe. */
export type ReadyMessage =
  | { mounted: true; pid: number; replayed: readonly ReplayNotice[] }
  | ({ mounted: false } & Required<FailureParts>);

function spawnServer(settings: MountSettings, log: string): ChildProcess {
  const fd = openSync(log, 'a', 0o600);
  try {
    const [command = 'mount', ...rest] = mountCommandLine(settings);
    const words = [
      command,
      '--foreground',
      '--ready-fd',
      `${READY_FD}`,
      ...rest,
      '--',
      settings.mountPoint,
    ];
    return spawn(process.execPath, [...process.execArgv, process.argv[1] ?? '', ...words], {
      // The server outlives its caller and keeps no directory of the caller busy.
      cwd: '/',
      detached: true,
      stdio: ['ignore', fd, fd, 'pipe'],
    });
  } finally {
    closeSync(fd);
  }
}

async function firstLine(pipe: Readable): Promise<string> {
  let text = '';
  for await (const piece of pipe) {
    text += String(piece);
    if (text.includes('\n')) break;
  }
  return text;
}

/** Starts the server and returns its process id once the mount stands; throws what the child says. */
export async function startDaemon(
  settings: MountSettings,
): Promise<{ pid: number; replayed: readonly ReplayNotice[] }> {
  const log = logFile(settings.mountPoint);
  const child = spawnServer(settings, log);
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (status, signal) =>
      resolve(signal ? `signal ${signal}` : `exit status ${status}`),
    );
  });
  const stop = (): void => void child.kill('SIGTERM');
  process.once('SIGINT', stop).once('SIGTERM', stop);

  const line = await firstLine(child.stdio[READY_FD] as Readable);
  if (line === '') {
    throw new Failure({
      message: `the file system process ended before it was mounted (${await ended})`,
      hint: `read ${log}`,
    });
  }
  const message = JSON.parse(line) as ReadyMessage;
  if (!message.mounted) throw new Failure(message);
  child.unref();
  return { pid: message.pid, replayed: message.replayed };
}
