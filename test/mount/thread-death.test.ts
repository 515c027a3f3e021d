/**
 * A thread that dies ends the mount: whoever waits for it gets an error, nobody hangs, the log names
 * the thread, and what was acknowledged before is there afterwards.
 */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { mountTest } from '../support/family.ts';
import { type Mount, temporaryDirectory, withMount } from '../support/mount.ts';
import { detach, mountAt } from '../support/mount-table.ts';
import { Syscalls } from '../support/syscalls.ts';

/** What a call on a mount that has ended may fail with. */
const ENDED = ['ECONNABORTED', 'ENOTCONN', 'EIO'];
const KEPT = { seed: 7, length: 3_000_001 } as const;
const PIECE_BYTES = 1 << 20;
/** Far more than any of the threads lives to see. */
const PIECES = 4_000;

/** Who dies after how much of its work, and what the log calls it. */
const DEATHS = [
  ['data:40', /data worker \d+ died: the mount ends/],
  ['tree:40', /the tree worker died: the mount ends/],
  ['front:40', /front \d+ died: the mount ends/],
  ['mover:10', /mover \d+ died: the mount ends/],
] as const;

/** A file that is durable before the thread dies. */
async function keep(calls: Syscalls, dir: string): Promise<void> {
  await calls.ok('open', 'kept', `${dir}/kept`, ['O_WRONLY', 'O_CREAT']);
  await calls.ok('write', 'kept', KEPT);
  await calls.ok('fsync', 'kept');
  await calls.ok('close', 'kept');
}

/** Writes until it fails; yields the errno. Each piece is synced in one file, none in the other. */
async function writeUntilToldOtherwise(
  calls: Syscalls,
  file: { path: string; synced: boolean },
): Promise<string> {
  const opened = await calls.call('open', 1, file.path, ['O_WRONLY', 'O_CREAT']);
  if ('errno' in opened) return opened.errno;
  for (let seed = 0; seed < PIECES; seed += 1) {
    const written = await calls.call('write', 1, { seed, length: PIECE_BYTES });
    if ('errno' in written) return written.errno;
    if (!file.synced) continue;
    const synced = await calls.call('fsync', 1);
    if ('errno' in synced) return synced.errno;
  }
  return 'none';
}

/** Two programs write while the thread dies: both are told, and so is who comes afterwards. */
async function writeThroughTheEnd(mount: Mount): Promise<void> {
  const onStuck = (): void => mount.abort();
  const programs = [new Syscalls({ onStuck }), new Syscalls({ onStuck })] as const;
  try {
    await keep(programs[0], mount.dir);
    const errnos = await Promise.all(
      programs.map((calls, n) =>
        writeUntilToldOtherwise(calls, { path: `${mount.dir}/file-${n}`, synced: n === 1 }),
      ),
    );
    for (const errno of errnos) assert.ok(ENDED.includes(errno), `a program was told ${errno}`);
  } finally {
    await Promise.all(programs.map((calls) => calls.close()));
  }
}

async function findKept(mount: Mount): Promise<void> {
  const calls = new Syscalls({ onStuck: () => mount.abort() });
  try {
    const expected = await calls.ok('hash_of', [KEPT]);
    assert.deepEqual(await calls.ok('hash', `${mount.dir}/kept`), expected);
  } finally {
    await calls.close();
  }
  assert.equal(await mount.umount(), 0, mount.stderr());
}

/** Set while this file runs once more, in a mount namespace of its own where nothing is aborted by fusectl. */
const isWithoutFusectl = process.env['MILLRACE_TEST_WITHOUT_FUSECTL'] !== undefined;

/** Runs a case of this file while a store lasts. */
async function onStore(purpose: string, body: (storeDir: string) => Promise<void>): Promise<void> {
  const storeDir = temporaryDirectory(purpose);
  try {
    await body(storeDir);
  } finally {
    rmSync(storeDir, { recursive: true, force: true });
  }
}

/**
 * One program writes until the thread dies: no other request comes that would end a front. Where the mount was moved it
 * cannot even be unmounted by force, so that only the end of the process is left.
 */
async function endWithoutFusectl(mount: Mount, elsewhere: string | undefined): Promise<void> {
  if (elsewhere !== undefined) {
    mkdirSync(elsewhere);
    execFileSync('mount', ['--move', mount.dir, elsewhere]);
  }
  const calls = new Syscalls({ onStuck: () => void mount.kill9() });
  try {
    const ended = once(mount.child, 'exit');
    const file = { path: `${elsewhere ?? mount.dir}/file`, synced: true };
    assert.ok(ENDED.includes(await writeUntilToldOtherwise(calls, file)));
    const [status] = await ended;
    assert.equal(status, 1, mount.stderr());
    const refused = /the connection could not be aborted/.test(mount.stderr());
    assert.equal(refused, elsewhere !== undefined, mount.stderr());
  } finally {
    await calls.close();
    if (elsewhere !== undefined) {
      detach(elsewhere);
      rmSync(elsewhere, { recursive: true });
    }
  }
}

if (isWithoutFusectl) {
  for (const isMoved of [false, true]) {
    mountTest(`without fusectl, the mount ${isMoved ? 'moved' : 'in its place'}`, () =>
      onStore('death', (storeDir) =>
        withMount({ storeDir, environment: { MILLRACE_TEST_DIE: 'data:40' } }, (mount) =>
          endWithoutFusectl(mount, isMoved ? `${storeDir}-elsewhere` : undefined),
        ),
      ),
    );
  }
} else {
  for (const [death, name] of DEATHS) {
    mountTest(
      `a thread that dies (${death}) ends the mount: errors, status 1, no hang, no loss`,
      async () => {
        const storeDir = temporaryDirectory('death');
        try {
          await withMount(
            { storeDir, environment: { MILLRACE_TEST_DIE: death } },
            async (mount) => {
              const ended = once(mount.child, 'exit');
              await writeThroughTheEnd(mount);
              const [status] = await ended;
              assert.equal(status, 1, mount.stderr());
              assert.match(mount.stderr(), name);
              assert.equal(mountAt(mount.dir), undefined, 'the mount point is free again');
            },
          );
          await withMount({ storeDir }, findKept);
        } finally {
          rmSync(storeDir, { recursive: true });
        }
      },
      { needs: death.startsWith('front') ? 'front threads' : undefined },
    );
  }

  mountTest(
    'without fusectl, as in a container, a thread that dies keeps nobody waiting either',
    async () => {
      const words = ['umount -l /sys/fs/fuse/connections; exec "$0" "$1"', process.execPath];
      const { NODE_TEST_CONTEXT: _, ...environment } = process.env;
      const env = { ...environment, MILLRACE_TEST_WITHOUT_FUSECTL: '1' };
      const own = fileURLToPath(import.meta.url);
      await promisify(execFile)('unshare', ['-m', 'sh', '-c', ...words, own], { env });
    },
    { root: true, needs: 'front threads' },
  );

  mountTest(
    'a native thread that does not end keeps nobody from being told how the mount did',
    () =>
      onStore('death', async (storeDir) => {
        const pipe = `${storeDir}-pipe`;
        execFileSync('mkfifo', [pipe]);
        const environment = {
          MILLRACE_TEST_DIE: 'data:40',
          MILLRACE_STORE_FAULTS: `fifo=${pipe},after=3`,
        };
        try {
          await withMount({ storeDir, environment }, async (mount) => {
            const calls = new Syscalls({ onStuck: () => mount.abort() });
            const ended = once(mount.child, 'exit');
            const file = { path: `${mount.dir}/file`, synced: false };
            assert.ok(ENDED.includes(await writeUntilToldOtherwise(calls, file)));
            await calls.close();
            const [status] = await ended;
            assert.equal(status, 1, mount.stderr());
            assert.match(mount.stderr(), /a native thread did not end/);
          });
        } finally {
          rmSync(pipe);
        }
      }),
    { needs: 'front threads' },
  );
}
