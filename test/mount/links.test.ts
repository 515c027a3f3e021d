import assert from 'node:assert/strict';
import { family } from '../support/family.ts';

const { both } = family();

both('a symbolic link holds any target up to 4,095 bytes', async (p) => {
  const lengths = [1, 50, 255, 256, 1_000, 4_094, 4_095];
  for (const length of lengths) {
    const name = `link-${length}`;
    await p.ok('symlink', 't'.repeat(length), p.at(name));
    assert.equal(await p.ok('readlink', p.at(name)), 't'.repeat(length));
    await p.ok('lstat', p.at(name));
  }
  await p.fails('ENAMETOOLONG', 'symlink', 't'.repeat(4_096), p.at('longer'));
  await p.fails('ENOENT', 'symlink', '', p.at('empty'));
  await p.remount();
  for (const length of lengths) await p.ok('readlink', p.at(`link-${length}`));
});

both('a target is bytes, and need not exist', async (p) => {
  await p.ok('symlink', '\xff\xfe\n../..//x', p.at('odd'));
  assert.equal(await p.ok('readlink', p.at('odd')), '\xff\xfe\n../..//x');
  await p.fails('ENOENT', 'stat', p.at('odd'));
  await p.fails('EEXIST', 'symlink', 'x', p.at('odd'));
  await p.fails('EINVAL', 'readlink', p.root);
  await p.fails('ENOENT', 'readlink', p.at('missing'));
});

both('links are followed to files and through directories', async (p) => {
  await p.ok('mkdir', p.at('a'));
  await p.ok('symlink', 'a', p.at('to-a'));
  await p.ok('symlink', '../file', p.at('a/up'));
  await p.ok('open', 'f', p.at('file'), ['O_WRONLY', 'O_CREAT']);
  await p.ok('write', 'f', 'content');
  await p.ok('hash', p.at('to-a/up'));
  await p.ok('open', 'g', p.at('to-a/new'), ['O_WRONLY', 'O_CREAT']);
  await p.ok('readdir', p.at('a'));
  await p.ok('unlink', p.at('to-a'));
  await p.ok('readdir', p.at('a'));
});

both(
  'hard links are one file under several names',
  async (p) => {
    await p.ok('mkdir', p.at('d'));
    await p.ok('open', 'f', p.at('a'), ['O_RDWR', 'O_CREAT']);
    await p.ok('write', 'f', 'first');
    await p.ok('link', p.at('a'), p.at('d/b'));
    await p.ok('link', p.at('d/b'), p.at('c'));
    assert.equal(await p.own('same_inode', p.at('a'), p.at('c')), true);
    for (const name of ['a', 'd/b', 'c']) await p.ok('stat', p.at(name));
    await p.ok('write', 'f', { seed: 1, length: 200_000 });
    await p.ok('hash', p.at('c'));
    await p.ok('chmod', p.at('c'), 0o600);
    await p.ok('stat', p.at('a'));
    await p.ok('unlink', p.at('a'));
    await p.ok('fstat', 'f');
    await p.ok('close', 'f');
    await p.remount();
    await p.ok('hash', p.at('d/b'));
    await p.ok('unlink', p.at('c'));
    await p.ok('stat', p.at('d/b'));
  },
  { needs: 'names of one inode' },
);

both('what link refuses', async (p) => {
  await p.ok('mkdir', p.at('d'));
  await p.ok('open', 'f', p.at('a'), ['O_RDWR', 'O_CREAT']);
  await p.ok('open', 'g', p.at('b'), ['O_RDWR', 'O_CREAT']);
  await p.fails('EPERM', 'link', p.at('d'), p.at('e'));
  await p.fails('EEXIST', 'link', p.at('a'), p.at('b'));
  await p.fails('ENOENT', 'link', p.at('missing'), p.at('e'));
  await p.fails('ENOENT', 'link', p.at('a'), p.at('missing/e'));
  await p.fails('ENOTDIR', 'link', p.at('a'), p.at('b/e'));
});

both('a symbolic link can have a second name', async (p) => {
  await p.ok('symlink', 'target', p.at('one'));
  await p.ok('link', p.at('one'), p.at('two'));
  await p.ok('lstat', p.at('two'));
  await p.ok('unlink', p.at('one'));
  await p.ok('readlink', p.at('two'));
});

both(
  'nlink of hundreds of names, counted down to none',
  async (p) => {
    await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
    for (let number = 0; number < 300; number += 1) {
      await p.ok('link', p.at('file'), p.at(`name-${number}`));
    }
    await p.ok('fstat', 'f');
    for (let number = 0; number < 300; number += 1) await p.ok('unlink', p.at(`name-${number}`));
    await p.ok('unlink', p.at('file'));
    const gone = (await p.ok('fstat', 'f')) as { nlink: number };
    assert.equal(gone.nlink, 0);
  },
  { needs: 'names of one inode' },
);

both('a rename over one of several names lowers the count', async (p) => {
  await p.ok('open', 'f', p.at('a'), ['O_RDWR', 'O_CREAT']);
  await p.ok('link', p.at('a'), p.at('b'));
  await p.ok('open', 'g', p.at('c'), ['O_RDWR', 'O_CREAT']);
  await p.ok('rename', p.at('c'), p.at('b'));
  await p.ok('fstat', 'f');
  await p.ok('fstat', 'g');
});
