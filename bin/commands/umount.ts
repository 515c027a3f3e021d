/** `millrace umount DIR`: unmount, wait until everything is drained, return the server's exit status. */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { EXIT, errnoName, Failure } from '../failure.ts';
import { type MountEntry, mountAt } from '../mount-table.ts';
import { mountPointPath } from '../paths.ts';
import { findServer, isRunning, type ProcessIdentity } from '../server-process.ts';
import { type FoundRecord, findRecords } from '../serving-record.ts';
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

/** Who is waited for: a process, and the record by which it tells how it ended. */
interface Waited {
  readonly server: ProcessIdentity;
  readonly found?: FoundRecord;
}

/**
 * All who are to be waited for: who serves what is mounted, undefined where that cannot be found out, and whoever still
 * drains what was mounted here before, as after umount(8). Where there is nobody, who ended last.
 */
function whoIsWaitedFor(
  there: MountEntry | undefined,
  records: readonly FoundRecord[],
): (Waited | undefined)[] {
  const known = (found: FoundRecord): Waited => ({ server: found.record, found });
  const running = records.filter(({ record }) => isRunning(record));
  if (there === undefined) {
    return (running.length > 0 ? running : records.slice(0, 1)).map(known);
  }
  const waited: (Waited | undefined)[] = running.map(known);
  const server = findServer(there);
  if (server !== undefined) {
    if (running.some(({ record }) => record.pid === server.pid)) return waited;
    return [{ server }, ...waited];
  }
  if (running.some((found) => found.isOf(there))) return waited;
  const died = records.find((found) => found.isOf(there) && !found.hasEnded());
  return [died && known(died), ...waited];
}

async function waitUntilGone(server: ProcessIdentity): Promise<void> {
  for (let waitedMs = 0; isRunning(server); waitedMs += POLL_MS) {
    if (waitedMs > 0 && waitedMs % REMIND_MS === 0) {
      process.stderr.write(`millrace: still draining (pid ${server.pid})\n`);
    }
    await sleep(POLL_MS);
  }
}

/** Throws unless the record says that everything is durable; the record is not needed any more then. */
function tellStatus(found: FoundRecord): void {
  const record = found.latest();
  const { mountPoint } = record;
  found.remove();
  const seeLog = record.log ? `read ${record.log}` : 'read what the server wrote to stderr';
  if (record.exitStatus === undefined) {
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
}

/** The mount is gone, and nothing tells how its server ended. */
function statusUnknown(mountPoint: string, server: ProcessIdentity | undefined): Failure {
  const what =
    server === undefined
      ? 'which process served it is not known: it has died, or it still writes to the store'
      : `the process ${server.pid}, which served it, has ended; its exit status is not known`;
  return new Failure({
    message: `${mountPoint} is unmounted, but ${what}`,
    hint:
      'see the log of the mount; `millrace recover` tells whether the store refused data, and `millrace mount` ' +
      'brings that in. To be told the status, unmount as the user and with the XDG_RUNTIME_DIR of the mount',
  });
}

async function run(directory: string): Promise<void> {
  const mountPoint = mountPointPath(directory);
  const there = mountAt(mountPoint);
  const records = findRecords(mountPoint);
  const isMillrace =
    there?.type === 'fuse.millrace' ||
    records.some((found) => there && found.isOf(there) && isRunning(found.record));
  if (there === undefined ? records.length === 0 : !isMillrace) throw notOurs(mountPoint, there);
  const waited = whoIsWaitedFor(there, records);
  if (there !== undefined) detach(mountPoint);
  for (const each of waited) if (each !== undefined) await waitUntilGone(each.server);
  for (const each of waited) {
    if (each?.found === undefined) throw statusUnknown(mountPoint, each?.server);
    tellStatus(each.found);
  }
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
        'which is sealed in a recovery journal for the next mount (see millrace recover). Where that status cannot ' +
        'be known, as for another user than the one who mounted, it waits likewise and ends with status 1.',
    )
    .argument('<directory>', 'mount point')
    .action(run);
}
