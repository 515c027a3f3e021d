import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { mountTest } from '../support/family.ts';
import { mountAt } from '../support/mount-table.ts';
import {
  eventually,
  type Mount,
  millracePath,
  mountProblem,
  rootProblem,
  withMount,
} from '../support/mount.ts';
import { Syscalls } from '../support/syscalls.ts';

const MIB = 1_048_576;
const CONTENT = [{ seed: 11, length: 20 * MIB + 5 }];

async function withCalls(mount: Mount, body: (calls: Syscalls) => Promise<void>): Promise<void> {
  const calls = new Syscalls({ onStuck: () => mount.abort() });
  try {
    await body(calls);
  } finally {
    await calls.close();
  }
}

/** Writes without fsync; the file is closed when this returns. */
async function write(mount: Mount): Promise<void> {
  await withCalls(mount, async (calls) => {
    await calls.ok('open', 'f', `${mount.dir}/file`, ['O_WRONLY', 'O_CREAT']);
    await calls.ok('write', 'f', CONTENT[0]);
    await calls.ok('close', 'f');
  });
}

async function assertWhole(mount: Mount): Promise<void> {
  await withCalls(mount, async (calls) => {
    const wanted = await calls.ok('hash_of', CONTENT);
    assert.deepEqual(await calls.ok('hash', `${mount.dir}/file`), wanted);
  });
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  mountTest(`${signal} stores what is open and unsynced, and ends with status 0`, () =>
    withMount({}, async (mount) => {
      await withCalls(mount, async (calls) => {
        await calls.ok('open', 'f', `${mount.dir}/file`, ['O_WRONLY', 'O_CREAT']);
        await calls.ok('write', 'f', CONTENT[0]);
        assert.equal(await mount.signal(signal), 0, mount.stderr());
      });
      await mount.remount();
      await assertWhole(mount);
      assert.equal(await mount.umount(), 0);
    }),
  );
}

mountTest('umount(8) from outside ends the process with status 0', () =>
  withMount({}, async (mount) => {
    await write(mount);
    assert.equal(await mount.umount(), 0, mount.stderr());
    assert.equal(mountAt(mount.dir), undefined);
    await mount.remount();
    await assertWhole(mount);
    assert.equal(await mount.umount(), 0);
  }),
);

mountTest(
  'a lazy unmount ends the process once the last file is closed',
  () =>
    withMount({}, async (mount) => {
      await withCalls(mount, async (calls) => {
        await calls.ok('open', 'f', `${mount.dir}/file`, ['O_WRONLY', 'O_CREAT']);
        execFileSync('umount', ['-l', mount.dir]);
        await calls.ok('write', 'f', CONTENT[0]);
        await calls.ok('close', 'f');
      });
      const ended = await eventually(() => mount.child.exitCode !== null, 30_000);
      assert.ok(ended, 'the process goes on without a mount');
      assert.equal(mount.child.exitCode, 0);
      await mount.remount();
      await assertWhole(mount);
    }),
  { root: true },
);

mountTest('kill -9, and a new mount on the same directory and store', () =>
  withMount({}, async (mount) => {
    await write(mount);
    for (let round = 0; round < 3; round += 1) {
      await mount.kill9();
      await mount.remount();
      await assertWhole(mount);
    }
    assert.equal(await mount.umount(), 0);
  }),
);

mountTest('twenty mounts and unmounts of one store, with a file more each time', () =>
  withMount({}, async (mount) => {
    for (let round = 0; round < 20; round += 1) {
      if (round > 0) await mount.remount();
      await withCalls(mount, async (calls) => {
        const names = (await calls.ok('readdir', mount.dir)) as string[];
        assert.equal(names.length, round);
        await calls.ok('open', 'f', `${mount.dir}/file-${round}`, ['O_WRONLY', 'O_CREAT']);
        await calls.ok('write', 'f', { seed: round, length: 10_000 });
      });
      assert.equal(await mount.umount(), 0, mount.stderr());
    }
  }),
);

mountTest('an aborted connection ends the process and loses nothing that was closed', () =>
  withMount({}, async (mount) => {
    await write(mount);
    mount.abort();
    const ended = await eventually(
      () => mount.child.exitCode !== null || mount.child.signalCode !== null,
      30_000,
    );
    assert.ok(ended, 'the process goes on without a connection');
    await mount.kill9();
    await mount.remount();
    await assertWhole(mount);
  }),
);

const NOBODY = { uid: 65_534, gid: 65_534 };

/** Why no ordinary user can mount here. */
function ordinaryUserProblem(): string | undefined {
  const problem = mountProblem() ?? rootProblem();
  if (problem !== undefined) return problem;
  const identity = ['--reuid', '65534', '--regid', '65534', '--clear-groups'];
  try {
    execFileSync('setpriv', [...identity, 'test', '-x', millracePath()], { stdio: 'ignore' });
    execFileSync('setpriv', [...identity, 'fusermount3', '--version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'nobody can run neither millrace nor fusermount3 here, or setpriv is missing';
  }
}

/** Opens /dev/fuse to every user, as a desktop's udev does, for as long as the body runs. */
async function withOpenDevice(body: () => Promise<void>): Promise<void> {
  const before = statSync('/dev/fuse').mode & 0o777;
  chmodSync('/dev/fuse', 0o666);
  try {
    await body();
  } finally {
    chmodSync('/dev/fuse', before);
  }
}

const plain = process.env['MILLRACE_TEST_DIR'] !== undefined && 'MILLRACE_TEST_DIR is set';
test(
  'an ordinary user mounts through fusermount3, and others of that user cannot look into it',
  { skip: plain || (ordinaryUserProblem() ?? false), timeout: 120_000 },
  () =>
    withOpenDevice(() =>
      withMount({ user: NOBODY }, async (mount) => {
        const user = new Syscalls({ user: NOBODY, onStuck: () => mount.abort() });
        const other = new Syscalls({ user: NOBODY });
        try {
          await user.ok('open', 'f', `${mount.dir}/file`, ['O_RDWR', 'O_CREAT'], 0o640);
          await user.ok('write', 'f', CONTENT[0]);
          await user.ok('close', 'f');
          const told = (await user.ok('stat', `${mount.dir}/file`)) as Record<string, unknown>;
          assert.equal(told['uid'], NOBODY.uid);
          assert.equal(told['mode'], '0o640');
          await user.ok('chmod', `${mount.dir}/file`, 0o600);
          const wanted = await user.ok('hash_of', CONTENT);
          assert.deepEqual(await user.ok('hash', `${mount.dir}/file`), wanted);
          // Whom the kernel lets open this file it lets attach as well.
          await other.ok('open', 'm', `/proc/${user.pid}/mem`, ['O_RDONLY']);
          for (const file of ['mem', 'environ', 'maps']) {
            const path = `/proc/${mount.pid}/${file}`;
            const outcome = await other.call('open', file, path, ['O_RDONLY']);
            assert.deepEqual(outcome, { errno: 'EACCES' }, file);
          }
        } finally {
          await Promise.all([user.close(), other.close()]);
        }
        assert.equal(await mount.umount(), 0, mount.stderr());
      }),
    ),
);
