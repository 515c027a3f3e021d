import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  chmod,
  link,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
  statfs,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { errnoOf } from '../support/errno-of.ts';
import { mountTest } from '../support/family.ts';
import {
  destroyMount,
  type Mount,
  runMillrace,
  startMount,
  temporaryDirectory,
  withMount,
} from '../support/mount.ts';

const run = promisify(execFile);

function flagsOf(...names: string[]): string[] {
  return names.flatMap((name) => ['--namespace', name]);
}

/** Mounts of one store, one after another, each with namespaces of its own. */
async function onStore(
  body: (next: (...names: string[]) => Promise<Mount>) => Promise<void>,
): Promise<void> {
  const storeDir = temporaryDirectory('namespaces');
  let mount: Mount | undefined;
  const end = async (): Promise<void> => {
    if (mount !== undefined) assert.equal(await mount.umount(), 0, mount.stderr());
    if (mount !== undefined) destroyMount(mount);
    mount = undefined;
  };
  try {
    await body(async (...names) => {
      await end();
      mount = await startMount({ storeDir, flags: flagsOf(...names) });
      return mount;
    });
    await end();
  } finally {
    if (mount !== undefined) destroyMount(mount);
    await rm(storeDir, { recursive: true, force: true });
  }
}

mountTest('several namespaces are directories of the mount, which holds nothing else', async () => {
  const names = ['a', 'caf\u00e9 au lait', 'default', 'z'.repeat(255)];
  await withMount({ flags: flagsOf(...names) }, async ({ dir }) => {
    assert.deepEqual((await readdir(dir)).sort(), [...names].sort());
    const root = await stat(dir);
    assert.equal(root.mode, 0o040555);
    assert.equal(root.nlink, 2 + names.length);
    assert.equal((await stat(join(dir, 'a', '..'))).ino, root.ino);
    assert.equal((await statfs(dir)).blocks, (await statfs(join(dir, 'a'))).blocks);
    const inodes = await Promise.all(names.map((name) => stat(join(dir, name))));
    assert.equal(new Set([root, ...inodes].map(({ ino }) => ino)).size, 1 + names.length);
    assert.deepEqual(
      inodes.map(({ mode, nlink }) => [mode, nlink]),
      names.map(() => [0o040755, 2]),
    );
    const at = (name: string): string => join(dir, name);
    const refused = ['EPERM', 'EACCES'];
    const calls: (() => Promise<unknown>)[] = [
      () => mkdir(at('new')),
      () => writeFile(at('new'), ''),
      () => symlink('a', at('new')),
      () => chmod(dir, 0o777),
      () => rename(at('a/x'), at('new')),
    ];
    await writeFile(at('a/x'), 'x');
    for (const call of calls) assert.ok(refused.includes(await errnoOf(call())), String(call));
    const busy = ['EBUSY', 'EACCES'];
    assert.ok(busy.includes(await errnoOf(rmdir(at('a')))));
    assert.ok(busy.includes(await errnoOf(rename(at('a'), at('b')))));
    assert.equal(await errnoOf(stat(at('new'))), 'ENOENT');
    assert.equal(await errnoOf(stat(at('.millrace'))), 'ENOENT');
    assert.deepEqual((await readdir(dir)).sort(), [...names].sort());
    await chmod(at('a'), 0o700);
    await mkdir(at('a/sub'));
    const { mode, nlink } = await lstat(at('a'));
    assert.deepEqual([mode, nlink], [0o040700, 3]);
  });
});

mountTest('nothing is renamed or linked from one namespace to another; mv copies', async () => {
  await withMount({ flags: flagsOf('a', 'b', 'default') }, async ({ dir }) => {
    const at = (name: string): string => join(dir, name);
    await mkdir(at('a/d/e'), { recursive: true });
    await writeFile(at('a/d/e/f'), 'content');
    await mkdir(at('b/d'));
    for (const to of ['b/g', 'b/d/g', 'default/g']) {
      assert.equal(await errnoOf(rename(at('a/d/e/f'), at(to))), 'EXDEV');
      assert.equal(await errnoOf(link(at('a/d/e/f'), at(to))), 'EXDEV');
      assert.equal(await errnoOf(rename(at('a/d'), at(to))), 'EXDEV');
    }
    await run('mv', [at('a/d'), at('default/moved')]);
    assert.deepEqual(await readdir(at('a')), []);
    assert.equal(await readFile(at('default/moved/e/f'), 'utf8'), 'content');
    await rename(at('default/moved/e/f'), at('default/f'));
    await link(at('default/f'), at('default/moved/again'));
    assert.equal((await stat(at('default/f'))).nlink, 2);
  });
});

mountTest('a store is mounted with other namespaces each time', async () => {
  await onStore(async (next) => {
    const first = await next('default');
    await writeFile(join(first.dir, 'old'), 'root of the store');
    assert.equal((await stat(first.dir)).ino, 1);
    const several = await next('default', 'a');
    assert.equal(await readFile(join(several.dir, 'default/old'), 'utf8'), 'root of the store');
    await writeFile(join(several.dir, 'a/file'), 'in a');
    await mkdir(join(several.dir, 'a/d'));
    const alone = await next('a');
    assert.deepEqual(await readdir(alone.dir), ['d', 'file']);
    await rename(join(alone.dir, 'file'), join(alone.dir, 'd/file'));
    assert.equal(await errnoOf(rmdir(join(alone.dir, 'd'))), 'ENOTEMPTY');
    const others = await next('b', 'a');
    assert.deepEqual(await readdir(others.dir), ['a', 'b']);
    assert.equal(await readFile(join(others.dir, 'a/d/file'), 'utf8'), 'in a');
    assert.deepEqual(await readdir(join(others.dir, 'b')), []);
    const last = await next();
    assert.deepEqual(await readdir(last.dir), ['old']);
    const list = ['namespaces', '--store', last.storeDir, '--key-file', last.keyFile];
    assert.match((await runMillrace(list)).stderr, /another process uses the store/);
    assert.equal(await last.umount(), 0);
    const { status, stdout } = await runMillrace([...list, '--json']);
    assert.equal(status, 0);
    assert.deepEqual(JSON.parse(stdout), {
      store: last.storeDir,
      namespaces: ['default', 'a', 'b'],
    });
    assert.equal((await runMillrace(list)).stdout, 'default\na\nb\n');
    await last.remount();
  });
});

mountTest('what a namespace holds survives kill -9', async () => {
  await withMount({ flags: flagsOf('a', 'b') }, async (mount) => {
    await writeFile(join(mount.dir, 'a/f'), 'kept');
    await mkdir(join(mount.dir, 'b/d'));
    await writeFile(join(mount.dir, 'b/.millrace/commit'), '1');
    await mount.kill9();
    await mount.remount();
    assert.equal(await readFile(join(mount.dir, 'a/f'), 'utf8'), 'kept');
    assert.deepEqual(await readdir(join(mount.dir, 'b')), ['d']);
  });
});

mountTest('names that no namespace can have are refused before anything is made', async () => {
  const base = temporaryDirectory('names');
  const store = join(base, 'store');
  const bad = [['a/b'], [''], ['.'], ['..'], ['.millrace'], ['x'.repeat(256)], ['a', 'b', 'a']];
  try {
    await mkdir(join(base, 'mnt'));
    for (const names of bad) {
      const flags = names.map((name) => `--namespace=${name}`);
      const arguments_ = ['mount', join(base, 'mnt'), '--store', store, ...flags];
      const { status, stderr } = await runMillrace([
        ...arguments_,
        '--key-file',
        join(base, 'key'),
      ]);
      assert.equal(status, 2, stderr);
      assert.match(stderr, /namespace/);
    }
    assert.deepEqual(await readdir(base), ['mnt']);
  } finally {
    await rm(base, { recursive: true, force: true });
  }
});
