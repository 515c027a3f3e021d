import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mountTest } from '../support/family.ts';
import { eventually, type Mount, temporaryDirectory, withMount } from '../support/mount.ts';
import { Syscalls } from '../support/syscalls.ts';

const MIB = 1_048_576;
/** Less than a region, so that nothing is put before somebody asks for it. */
const CONTENT = { seed: 5, length: 3 * MIB + 7 };
const FRONTS = 4;
/** One for each front, and the one that the tree worker reads. */
const DEVICES = FRONTS + 1;
/** More than the mount has chunks to put. */
const PUTS = 4_096;

/** What the descriptors of the process that serves a mount lead to. */
function descriptors(mount: Mount): string[] {
  const directory = `/proc/${mount.pid}/fd`;
  return readdirSync(directory).map((number) => {
    try {
      return readlinkSync(join(directory, number));
    } catch {
      return 'closed meanwhile';
    }
  });
}

function devices(mount: Mount): number {
  return descriptors(mount).filter((path) => path === '/dev/fuse').length;
}

function fronts(mount: Mount): number {
  const tasks = `/proc/${mount.pid}/task`;
  const names = readdirSync(tasks).map((id) => {
    try {
      return readFileSync(join(tasks, id, 'comm'), 'latin1');
    } catch {
      return '';
    }
  });
  return names.filter((name) => name.startsWith('front-')).length;
}

mountTest(
  'an aborted connection closes no descriptor while requests that were read from it wait for an answer',
  async () => {
    const control = temporaryDirectory('pipe');
    const pipe = join(control, 'puts');
    execFileSync('mkfifo', [pipe]);
    const options = {
      flags: ['--fuse-threads', `${FRONTS}`],
      environment: { MILLRACE_STORE_FAULTS: `fifo=${pipe}` },
    };
    const programs: Syscalls[] = [];
    try {
      await withMount(options, async (mount) => {
        for (let number = 0; number < FRONTS; number += 1) {
          const calls = new Syscalls({ onStuck: () => mount.abort() });
          programs.push(calls);
          await calls.ok('open', 'f', `${mount.dir}/file`, ['O_RDWR', 'O_CREAT']);
          if (number === 0) await calls.ok('pwrite', 'f', CONTENT, 0);
        }
        const synced = programs.map((calls) => calls.call('fsync', 'f'));
        const waits = await eventually(() => descriptors(mount).includes(pipe), 30_000);
        assert.ok(waits, 'no chunk is put');
        assert.equal(devices(mount), DEVICES);
        mount.abort();
        await Promise.all(synced);
        assert.ok(await eventually(() => fronts(mount) === 0, 30_000), 'a front goes on');
        assert.equal(devices(mount), DEVICES, 'answers may go to whatever is opened next');
        writeFileSync(pipe, Buffer.alloc(PUTS));
        const ended = await eventually(() => mount.child.exitCode !== null, 60_000);
        assert.ok(ended, 'the process goes on without a connection');
        assert.equal(mount.child.exitCode, 0, mount.stderr());
        await mount.kill9();
        await mount.remount();
        const calls = new Syscalls({ onStuck: () => mount.abort() });
        programs.push(calls);
        const wanted = await calls.ok('hash_of', [CONTENT]);
        assert.deepEqual(await calls.ok('hash', `${mount.dir}/file`), wanted);
      });
    } finally {
      await Promise.all(programs.map((each) => each.close()));
      rmSync(control, { recursive: true, force: true });
    }
  },
  { root: true },
);
