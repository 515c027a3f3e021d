import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountTest } from '../support/family.ts';
import { type Mount, TEST_KEY, temporaryDirectory, withMount } from '../support/mount.ts';
import { type Secret, searchDirectory, secretsIn, spellings } from '../support/secret-search.ts';
import { Syscalls } from '../support/syscalls.ts';

const CANARY = {
  content: 'canary-content-7Qd2vXr9',
  name: 'canary-name-Zk41mWpe',
  directory: 'canary-directory-b8Lt5yGs',
  xattrName: 'user.canary-xattr-N3hf6uJc',
  xattrValue: 'canary-value-Rj90sTxq',
  target: 'canary-target-Fo27dVbi',
} as const;

const SECRETS: readonly Secret[] = [
  ...Object.entries(CANARY).flatMap(([what, text]) => spellings(what, Buffer.from(text))),
  ...spellings('the key', TEST_KEY),
];

/** Files of every way of storing: inline, a partial chunk, whole chunks, and left unsynced. */
async function plant(calls: Syscalls, dir: string): Promise<void> {
  const folder = `${dir}/${CANARY.directory}`;
  await calls.ok('mkdir', folder);
  for (const length of [100, 5_000, 70_000, 5_000_000]) {
    const path = `${folder}/${CANARY.name}-${length}`;
    await calls.ok('open', length, path, ['O_RDWR', 'O_CREAT']);
    await calls.ok('write', length, { repeat: CANARY.content, length });
    if (length !== 70_000) await calls.ok('fsync', length);
    await calls.ok('setxattr', path, CANARY.xattrName, CANARY.xattrValue);
    await calls.ok('rename', path, `${path}-renamed`);
  }
  await calls.ok('symlink', CANARY.target, `${folder}/${CANARY.name}-link`);
  await calls.ok('link', `${folder}/${CANARY.name}-100-renamed`, `${dir}/${CANARY.name}-hard`);
  await calls.ok('unlink', `${folder}/${CANARY.name}-5000-renamed`);
  const failing = await calls.call('open', 'x', `${dir}/${CANARY.name}/missing`, ['O_RDONLY']);
  assert.deepEqual(failing, { errno: 'ENOENT' });
}

function assertClean(mount: Mount): void {
  const search = searchDirectory(mount.storeDir, SECRETS);
  assert.deepEqual(search.found, []);
  assert.ok(search.bytes > 5_000_000, `only ${search.bytes} bytes in ${search.files} files`);
  assert.deepEqual(secretsIn(Buffer.from(mount.stderr()), SECRETS), [], 'in the log');
}

function assertProcessClean(pid: number): void {
  for (const file of ['cmdline', 'environ']) {
    const bytes = readFileSync(`/proc/${pid}/${file}`);
    assert.ok(bytes.length > 0);
    assert.deepEqual(secretsIn(bytes, SECRETS), [], `in /proc/PID/${file}`);
  }
}

mountTest('no plaintext, name, xattr, target or key reaches the store or the log', () =>
  withMount({}, async (mount) => {
    const calls = new Syscalls({ onStuck: () => mount.abort() });
    try {
      await plant(calls, mount.dir);
      assertClean(mount);
      assertProcessClean(mount.pid);
    } finally {
      await calls.close();
    }
    assert.equal(await mount.umount(), 0, mount.stderr());
    assertClean(mount);
    await mount.remount();
    await mount.kill9();
    assertClean(mount);
  }),
);

mountTest('a key file that the mount makes is for its owner alone, or it makes none', () =>
  withMount({ key: 'absent' }, async (mount) => {
    assert.equal(statSync(mount.keyFile).mode & 0o777, 0o600);
    assert.equal(await mount.umount(), 0);
  }).catch((error: Error) => {
    assert.match(error.message, /the mount ended with [12];.*key/s);
  }),
);

test('the search finds a secret in any spelling, across reads, and in names', () => {
  const directory = temporaryDirectory('search');
  try {
    mkdirSync(join(directory, 'sub'));
    for (const [number, secret] of SECRETS.entries()) {
      const before = Buffer.alloc(4 * 1_048_576 - 5, 120);
      writeFileSync(join(directory, 'sub', 'file'), Buffer.concat([before, secret.bytes]));
      const found = searchDirectory(directory, SECRETS).found;
      assert.ok(found.includes(`${secret.name}: in sub/file`), `${number} ${secret.name}`);
    }
    writeFileSync(join(directory, 'sub', 'file'), Buffer.alloc(5 * 1_048_576, 120));
    assert.deepEqual(searchDirectory(directory, SECRETS).found, []);
    writeFileSync(join(directory, `x${CANARY.name}`), '');
    assert.equal(searchDirectory(directory, SECRETS).found.length, 1);
    chmodSync(directory, 0o700);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
