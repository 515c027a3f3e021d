/** What is the fuse-native front's own. The families prove the rest: `node dist/test/run.js --front fuse-native`. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, statfsSync } from 'node:fs';
import {
  mkdir,
  open,
  readFile,
  readdir,
  rename,
  rmdir,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { loadBinding } from '../../engine/front/fuse-native/binding.ts';
import { bindingProblem } from '../support/front.ts';
import { mountTest } from '../support/family.ts';
import {
  type MountOptions,
  eventually,
  runMillrace,
  startMount,
  destroyMount,
} from '../support/mount.ts';
import {
  type Mount,
  mountProblem,
  temporaryDirectory,
  withMount,
  writeKey,
} from '../support/mount.ts';

const problem = bindingProblem();
const FRONT = ['--front', 'fuse-native'] as const;
const THREADS = 150;

/** A test on a mount over fuse-native; skipped with the reason where that cannot be. */
function frontTest(
  title: string,
  options: MountOptions,
  body: (mount: Mount) => Promise<void>,
): void {
  if (problem !== undefined) {
    test(title, { skip: problem }, () => {});
    return;
  }
  const flags = [...FRONT, ...(options.flags ?? [])];
  mountTest(title, () => withMount({ ...options, flags }, body));
}

/** More callers at once than there are lanes: each makes a file, syncs and renames it. */
const CALLERS = `
import os, sys, threading
root, count = sys.argv[1], int(sys.argv[2])
failed = []
def work(n):
    try:
        for turn in range(4):
            fd = os.open(f'{root}/new-{n}', os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            os.write(fd, bytes([n % 256]) * (n + turn))
            os.fsync(fd)
            os.close(fd)
            os.rename(f'{root}/new-{n}', f'{root}/file-{n}')
            assert os.stat(f'{root}/file-{n}').st_size == n + turn
    except BaseException as error:
        failed.append(repr(error))
threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
for each in threads: each.start()
for each in threads: each.join()
sys.exit('; '.join(failed[:3]) or 0)
`;

frontTest('more callers at once than lanes are all served', {}, async (mount) => {
  const child = spawn('python3', ['-c', CALLERS, mount.dir, String(THREADS)], { stdio: 'inherit' });
  const [status] = await once(child, 'exit');
  assert.equal(status, 0);
  assert.equal((await readdir(mount.dir)).length, THREADS);
  const content = await readFile(join(mount.dir, 'file-149'));
  assert.deepEqual(content, Buffer.alloc(152, 149));
  assert.equal(await mount.umount(), 0, mount.stderr());
});

frontTest(
  'a file that is unlinked while open leaves no name behind, not even a crash',
  {},
  async (mount) => {
    const path = join(mount.dir, 'd');
    await writeFile(path, 'kept');
    const file = await open(path, 'r+');
    await unlink(path);
    assert.deepEqual(await readdir(mount.dir), []);
    assert.equal((await file.stat()).nlink, 0);
    await file.write('more', 4);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(8), 0, 8, 0);
    assert.equal(buffer.toString('latin1', 0, bytesRead), 'keptmore');
    const directory = await open(mount.dir);
    await directory.sync();
    await directory.close();
    await mount.kill9();
    await file.close().catch(() => {}); // Its connection is gone.
    await mount.remount();
    assert.deepEqual(await readdir(mount.dir), []);
  },
);

frontTest('an open file is replaced by rename without a moment of absence', {}, async (mount) => {
  const path = join(mount.dir, 'checkpoint');
  await writeFile(path, 'old');
  const old = await open(path, 'r');
  await writeFile(`${path}.new`, 'new');
  await rename(`${path}.new`, path);
  assert.equal(await readFile(path, 'latin1'), 'new');
  assert.equal((await old.readFile()).toString(), 'old');
  await old.close();
  assert.deepEqual(await readdir(mount.dir), ['checkpoint']);
});

frontTest('a directory goes while a file that was in it is open', {}, async (mount) => {
  const directory = join(mount.dir, 'd');
  const calls = spawn('mkdir', [directory]);
  await once(calls, 'exit');
  const file = await open(join(directory, 'f'), 'w');
  await unlink(join(directory, 'f'));
  await rmdir(directory);
  assert.deepEqual(await readdir(mount.dir), []);
  await file.close();
  assert.equal(await mount.umount(), 0, mount.stderr());
});

/** Inodes that the tree has. */
function inodesOf(mount: Mount): number {
  const { files, ffree } = statfsSync(mount.dir);
  return files - ffree;
}

for (const ttlMs of [0, 5000]) {
  const flags = ['-o', `meta_ttl_ms=${ttlMs},commit_interval=100`];
  const title = `what has lost its last name is forgotten, and deleted (names kept ${ttlMs} ms)`;
  frontTest(title, { flags }, async (mount) => {
    const before = inodesOf(mount);
    const path = (name: string): string => join(mount.dir, name);
    const opened = await Promise.all(
      ['a', 'b', 'c', 'd'].map((name) => open(path(name), 'w').then((file) => ({ name, file }))),
    );
    await mkdir(path('directory'));
    await symlink('target', path('link'));
    await unlink(path('a'));
    await rename(path('b'), path('c'));
    await opened[3].file.close();
    await unlink(path('d'));
    await rmdir(path('directory'));
    await unlink(path('link'));
    await rename(path('c'), path('e'));
    for (const { name, file } of opened) if (name !== 'd') await file.close();
    await unlink(path('e'));
    assert.ok(await eventually(() => inodesOf(mount) === before, 20_000), `${inodesOf(mount)}`);
    assert.equal(await mount.umount(), 0, mount.stderr());
  });
}

const FRESH = ['-o', 'meta_ttl_ms=0'];

frontTest(
  'without a time to live, hard links are one file at every moment',
  { flags: FRESH },
  async (mount) => {
    const [first, second] = [join(mount.dir, 'a'), join(mount.dir, 'b')];
    await writeFile(first, 'short');
    const child = spawn('ln', [first, second]);
    await once(child, 'exit');
    assert.equal(await readFile(second, 'latin1'), 'short');
    await writeFile(first, 'no longer short');
    assert.equal(await readFile(second, 'latin1'), 'no longer short');
    await writeFile(first, 'the same length');
    assert.equal(await readFile(second, 'latin1'), 'the same length');
  },
);

const refusal = 'allow_other is refused: nobody could tell users apart';
test(refusal, { skip: problem ?? mountProblem() ?? false }, async () => {
  await assert.rejects(
    startMount({ flags: [...FRONT, '-o', 'allow_other'] }).then(destroyMount),
    /cannot tell users apart/,
  );
});

test('without the package there is an error with a next step', () => {
  const elsewhere = pathToFileURL('/nowhere/module.js').href;
  assert.throws(() => loadBinding(elsewhere), { code: 'FRONT_MISSING', hint: /libfuse2/ });
});

mountTest('doctor says which fronts there are', async () => {
  const { stdout } = await runMillrace(['doctor', '--json']);
  const { rows } = JSON.parse(stdout) as { rows: { name: string; state: string }[] };
  const state = (name: string): string | undefined => rows.find((row) => row.name === name)?.state;
  assert.equal(state('front kernel'), 'ok');
  assert.equal(state('front fuse-native'), problem === undefined ? 'ok' : 'absent');
});

mountTest('a front that there is not is a mistake in the command line', async () => {
  const base = temporaryDirectory('front');
  writeKey(join(base, 'key'));
  const { status, stderr } = await runMillrace(['mount', base, '--front', 'other']);
  rmSync(base, { recursive: true });
  assert.equal(status, 2, stderr);
});
