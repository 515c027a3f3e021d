import assert from 'node:assert/strict';
import { family, type Place } from '../support/family.ts';

async function file(p: Place): Promise<string> {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  return p.at('file');
}

const { both } = family();

both('set, get, list, replace and remove', async (p) => {
  const path = await file(p);
  assert.deepEqual(await p.ok('listxattr', path), []);
  await p.ok('setxattr', path, 'user.one', 'first');
  await p.ok('setxattr', path, 'user.two', '\0\xff\n');
  assert.deepEqual(await p.ok('listxattr', path), ['user.one', 'user.two']);
  assert.equal(await p.ok('getxattr', path, 'user.two'), '\0\xff\n');
  await p.ok('setxattr', path, 'user.one', 'second, and longer');
  assert.equal(await p.ok('getxattr', path, 'user.one'), 'second, and longer');
  await p.ok('setxattr', path, 'user.one', '');
  assert.equal(await p.ok('getxattr', path, 'user.one'), '');
  await p.ok('removexattr', path, 'user.two');
  await p.fails('ENODATA', 'getxattr', path, 'user.two');
  await p.fails('ENODATA', 'removexattr', path, 'user.two');
  await p.remount();
  assert.deepEqual(await p.ok('listxattr', path), ['user.one']);
});

both('CREATE and REPLACE', async (p) => {
  const path = await file(p);
  await p.fails('ENODATA', 'setxattr', path, 'user.a', 'x', 'replace');
  await p.ok('setxattr', path, 'user.a', 'x', 'create');
  await p.fails('EEXIST', 'setxattr', path, 'user.a', 'y', 'create');
  await p.ok('setxattr', path, 'user.a', 'z', 'replace');
  assert.equal(await p.ok('getxattr', path, 'user.a'), 'z');
});

both('values up to 64 KiB', async (p) => {
  const path = await file(p);
  for (const length of [1, 255, 4_095, 4_096, 4_097, 40_000, 65_536]) {
    await p.ok('setxattr', path, 'user.big', { seed: length, length });
    await p.ok('getxattr', path, 'user.big');
  }
  await p.fails('E2BIG', 'setxattr', path, 'user.big', { seed: 1, length: 65_537 });
  await p.remount();
  await p.ok('getxattr', path, 'user.big');
});

both('names up to 255 bytes', async (p) => {
  const path = await file(p);
  const longest = `user.${'n'.repeat(250)}`;
  await p.ok('setxattr', path, longest, 'x');
  await p.ok('getxattr', path, longest);
  await p.fails('ERANGE', 'setxattr', path, `${longest}n`, 'x');
  await p.ok('listxattr', path);
});

both('buffers: asked for the size, too small, and just right', async (p) => {
  const path = await file(p);
  await p.ok('setxattr', path, 'user.a', 'twelve bytes');
  assert.equal(await p.ok('getxattr_into', path, 'user.a', 0), 12);
  await p.fails('ERANGE', 'getxattr_into', path, 'user.a', 11);
  assert.equal(await p.ok('getxattr_into', path, 'user.a', 12), 12);
  await p.fails('ERANGE', 'listxattr_into', path, 3);
});

both('two hundred attributes on one file', async (p) => {
  const path = await file(p);
  for (let number = 0; number < 200; number += 1) {
    await p.ok('setxattr', path, `user.name-${number}`, `value ${number}`);
  }
  assert.equal(((await p.ok('listxattr', path)) as string[]).length, 200);
  for (let number = 0; number < 200; number += 2) {
    await p.ok('removexattr', path, `user.name-${number}`);
  }
  await p.ok('listxattr', path);
});

both('of directories; of a missing name; of a link not at all', async (p) => {
  await p.ok('mkdir', p.at('directory'));
  await p.ok('setxattr', p.at('directory'), 'user.d', 'x');
  await p.ok('listxattr', p.at('directory'));
  await p.fails('ENOENT', 'setxattr', p.at('missing'), 'user.d', 'x');
  await p.ok('symlink', 'directory', p.at('link'));
  await p.fails('EPERM', 'setxattr', p.at('link'), 'user.d', 'x', '', false);
});

both(
  'they follow the file through rename and hard links',
  async (p) => {
    const path = await file(p);
    await p.ok('setxattr', path, 'user.a', 'kept');
    await p.ok('link', path, p.at('second'));
    await p.ok('rename', path, p.at('moved'));
    assert.equal(await p.ok('getxattr', p.at('moved'), 'user.a'), 'kept');
    assert.equal(await p.ok('getxattr', p.at('second'), 'user.a'), 'kept');
    await p.ok('open', 'g', p.at('fresh'), ['O_RDWR', 'O_CREAT']);
    await p.ok('rename', p.at('fresh'), p.at('moved'));
    await p.fails('ENODATA', 'getxattr', p.at('moved'), 'user.a');
  },
  { needs: 'names of one inode' },
);

both('setting one leaves the content and its size alone', async (p) => {
  const path = await file(p);
  await p.ok('write', 'f', { seed: 4, length: 1_500_000 });
  await p.ok('setxattr', path, 'user.a', { seed: 5, length: 9_000 });
  await p.ok('write', 'f', { seed: 6, length: 1_500_000 });
  await p.ok('hash', path);
});
