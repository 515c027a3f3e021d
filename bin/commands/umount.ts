/** `millrace umount DIR`: unmount, wait until everything is drained, return the server's exit status. */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { EXIT, errnoName, Failure } from '../failure.ts';
import { type MountEntry, mountAt } from '../mount-table.ts';
import { mountPointPath } from '../paths.ts';
import { isServing, readRecord, removeRecord, type ServingRecord } from '../serving-record.ts';
import { processesUnder } from '../users-of-mount.ts';

const POLL_MS = 20;
const REMIND_MS = 3000;
const NAMED_MAX = 8;

function notOurs(mountPoint: string, there: MountEntry | undefined): Failure {
  if (there === undefined) {
    return new Failure({
      message: `nothing is mounted on ${mountPoint}`,
      hint: '`mount -t fuse.millrace` lists what is',
    });
  }
  return new Failure({
    message: `${mountPoint} is not a mount of Millrace but ${there.type} from ${there.source}`,
    hint: `umount ${mountPoint}, if that is what you want`,
  });
}

function busy(mountPoint: string): Failure {
  const users = processesUnder(mountPoint);
  const names = users.slice(0, NAMED_MAX).map(({ name, pid }) => `${name} (pid ${pid})`);
  const rest = users.length > NAMED_MAX ? ` and ${users.length - NAMED_MAX} more` : '';
  const by = names.length > 0 ? ` by ${names.join(', ')}${rest}` : '';
  return new Failure({
    message: `${mountPoint} is in use${by}`,
    hint: 'end those programs or let them leave the directory, then try again',
  });
}

function detach(mountPoint: string): void {
  const root = process.geteuid?.() === 0;
  const run = (tool: string, ...words: string[]): SpawnSyncReturns<string> =>
    spawnSync(tool, words, { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });
  let tool = root ? 'umount' : 'fusermount3';
  let done = root ? run(tool, mountPoint) : run(tool, '-u', '--', mountPoint);
  if (!root && done.error !== undefined && errnoName(done.error) === 'ENOENT') {
    // Where there is only libfuse 2.
    tool = 'fusermount';
    done = run(tool, '-u', '--', mountPoint);
  }
  if (done.error) {
    throw new Failure({
      message: `${tool} cannot be run: ${done.error.message}`,
      hint: 'install fuse3 (Debian: apt-get install fuse3)',
    });
  }
  if (done.status === 0) return;
  if (/busy/i.test(done.stderr)) throw busy(mountPoint);
  throw new Failure({
    message: done.stderr.trim() || `${tool} failed`,
    hint: 'see the message above',
  });
}

async function waitUntilGone(record: ServingRecord): Promise<void> {
  for (let waitedMs = 0; isServing(record); waitedMs += POLL_MS) {
    if (waitedMs > 0 && waitedMs % REMIND_MS === 0) {
      process.stderr.write(`millrace: still draining (pid ${record.pid})\n`);
    }
    await sleep(POLL_MS);
  }
}

function finalStatus(mountPoint: string): number {
  const record = readRecord(mountPoint);
  removeRecord(mountPoint);
  const seeLog = record?.log ? `read ${record.log}` : 'read what the server wrote to stderr';
  if (record?.exitStatus === undefined) {
    throw new Failure({
      message: `the process that served ${mountPoint} had died before: it was killed, or it crashed`,
      hint: `${seeLog}; what fsync or close acknowledged is in the store, the next mount recovers it`,
    });
  }
  if (record.exitStatus === EXIT.journaled && record.journal !== undefined) {
    throw new Failure({
      message: `${mountPoint} is unmounted; what the store refused is sealed in ${record.journal}`,
      hint:
        `make room in ${record.store} or repair it, then mount it again: nothing is lost; ` +
        '`millrace recover` shows, replays or exports the journal',
      exitStatus: record.exitStatus,
    });
  }
  if (record.exitStatus !== 0) {
    throw new Failure({
      message: `${mountPoint} is unmounted, but not everything that was written reached the store`,
      hint: `${seeLog}: it names what is lost`,
      exitStatus: record.exitStatus,
    });
  }
  return 0;
}

async function run(directory: string): Promise<void> {
  const mountPoint = mountPointPath(directory);
  const there = mountAt(mountPoint);
  const record = readRecord(mountPoint);
  // A server that drains after somebody else's umount(8) is still to be waited for.
  const serving = record !== undefined && isServing(record);
  const ours = there !== undefined && (serving || there.type === 'fuse.millrace');
  if (!ours && !(there === undefined && record !== undefined)) throw notOurs(mountPoint, there);
  if (ours) detach(mountPoint);
  if (record === undefined) return;
  await waitUntilGone(record);
  process.exitCode = finalStatus(mountPoint);
}

/** Adds the command to the program. */
export function addUmountCommand(program: Command): void {
  program
    .command('umount')
    .alias('unmount')
    .summary('unmount and wait until everything is in the store')
    .description(
      'Unmounts DIR, waits until the serving process has written everything to the store and is gone, and ' +
        'returns its exit status: 0 means that every byte written is durable; 3 that the store refused some, ' +
        'which is sealed in a recovery journal for the next mount (see millrace recover).',
    )
    .argument('<directory>', 'mount point')
    .action(run);
}
