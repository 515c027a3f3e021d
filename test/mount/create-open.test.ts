import assert from 'node:assert/strict';
import { family } from '../support/family.ts';

const LONGEST = 'n'.repeat(255);
const ACCENTED = 'ä'.repeat(127);

/** Names with bytes that are no UTF-8, control characters, spaces and shell characters. */
const ODD_NAMES = ['\xff\xfe', '\x01\n\t', ' lead', 'trail ', '*?[', '-rf', '...', '\xc3('];

const { both } = family();

both('O_EXCL makes a file once', async (p) => {
  const flags = ['O_WRONLY', 'O_CREAT', 'O_EXCL'];
  await p.ok('open', 'a', p.at('file'), flags);
  await p.fails('EEXIST', 'open', 'b', p.at('file'), flags);
  await p.ok('symlink', 'missing', p.at('link'));
  await p.fails('EEXIST', 'open', 'b', p.at('link'), flags);
  await p.ok('mkdir', p.at('directory'));
  await p.fails('EEXIST', 'open', 'b', p.at('directory'), flags);
});

both('of many processes that create with O_EXCL exactly one wins', async (p) => {
  const processes = Array.from({ length: 4 }, () => p.process());
  for (let round = 0; round < 20; round += 1) {
    const path = p.at(`file-${round}`);
    const request = ['open', `f${round}`, path, ['O_WRONLY', 'O_CREAT', 'O_EXCL']] as const;
    const outcomes = await Promise.all(processes.map((each) => each.call(...request)));
    assert.equal(outcomes.filter((each) => 'value' in each).length, 1);
    const refused = outcomes.filter((each) => 'errno' in each && each.errno === 'EEXIST');
    assert.equal(refused.length, 3);
  }
});

both('O_CREAT follows a link to a name that is missing', async (p) => {
  await p.ok('symlink', 'target', p.at('link'));
  await p.ok('open', 'f', p.at('link'), ['O_WRONLY', 'O_CREAT']);
  await p.ok('write', 'f', 'through the link');
  await p.ok('lstat', p.at('target'));
});

both('O_TRUNC empties a file, also one that another process reads', async (p) => {
  await p.ok('open', 'w', p.at('file'), ['O_WRONLY', 'O_CREAT']);
  await p.ok('write', 'w', { seed: 1, length: 5_000_000 });
  const reader = p.process();
  await reader.ok('open', 'r', p.at('file'), ['O_RDONLY']);
  await p.ok('open', 't', p.at('file'), ['O_WRONLY', 'O_TRUNC']);
  assert.equal(await reader.ok('pread', 'r', 100, 0), '');
  await p.ok('write', 't', 'after');
  assert.equal(await reader.ok('pread', 'r', 100, 0), 'after');
  await p.ok('pwrite', 'w', 'old descriptor', 5_000_000);
  await p.ok('stat', p.at('file'));
});

both('O_APPEND writes at the end wherever the position is', async (p) => {
  await p.ok('open', 'a', p.at('file'), ['O_RDWR', 'O_CREAT', 'O_APPEND']);
  await p.ok('open', 'w', p.at('file'), ['O_WRONLY']);
  await p.ok('write', 'a', 'one');
  await p.ok('pwrite', 'w', 'xx', 10);
  await p.ok('lseek', 'a', 0, 'SEEK_SET');
  await p.ok('write', 'a', 'two');
  assert.equal(await p.ok('lseek', 'a', 0, 'SEEK_CUR'), 15);
  await p.ok('pread', 'a', 64, 0);
});

both('mode and umask decide the permissions of what is created', async (p) => {
  for (const mask of [0o000, 0o022, 0o077, 0o777]) {
    await p.ok('umask', mask);
    for (const mode of [0o666, 0o777, 0o4755, 0o600]) {
      const name = `${mask.toString(8)}-${mode.toString(8)}`;
      await p.ok('open', name, p.at(name), ['O_WRONLY', 'O_CREAT'], mode);
      await p.ok('mkdir', p.at(`${name}.d`), mode);
      await p.ok('stat', p.at(name));
      await p.ok('stat', p.at(`${name}.d`));
    }
  }
  await p.ok('umask', 0o022);
});

both('a file created without permissions can be written by its creator', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT'], 0o000);
  await p.ok('write', 'f', 'content');
  await p.ok('pread', 'f', 64, 0);
});

both('what cannot be opened says why', async (p) => {
  await p.ok('mkdir', p.at('directory'));
  await p.ok('open', 'f', p.at('file'), ['O_WRONLY', 'O_CREAT']);
  await p.ok('symlink', 'loop', p.at('loop'));
  await p.fails('EISDIR', 'open', 'x', p.at('directory'), ['O_WRONLY']);
  await p.fails('EISDIR', 'open', 'x', p.at('directory'), ['O_RDWR']);
  await p.fails('ENOENT', 'open', 'x', p.at('missing'), ['O_RDONLY']);
  await p.fails('ENOENT', 'open', 'x', p.at('missing/file'), ['O_WRONLY', 'O_CREAT']);
  await p.fails('ENOTDIR', 'open', 'x', p.at('file/below'), ['O_WRONLY', 'O_CREAT']);
  await p.fails('ENOTDIR', 'open', 'x', p.at('file'), ['O_RDONLY', 'O_DIRECTORY']);
  await p.fails('ELOOP', 'open', 'x', p.at('loop'), ['O_RDONLY']);
  await p.fails('ELOOP', 'open', 'x', p.at('loop'), ['O_RDONLY', 'O_NOFOLLOW']);
  await p.fails('EBADF', 'pread', 'f', 1, 0);
  await p.ok('open', 'r', p.at('file'), ['O_RDONLY']);
  await p.fails('EBADF', 'pwrite', 'r', 'x', 0);
});

both('names have at most 255 bytes', async (p) => {
  const utf8 = Buffer.from(ACCENTED).toString('latin1');
  for (const name of [LONGEST, `${utf8}x`]) {
    await p.ok('open', 'f', p.at(name), ['O_WRONLY', 'O_CREAT']);
    await p.ok('close', 'f');
    await p.fails('ENAMETOOLONG', 'open', 'f', p.at(`${name}x`), ['O_WRONLY', 'O_CREAT']);
    await p.fails('ENAMETOOLONG', 'mkdir', p.at(`${name}x`));
    await p.fails('ENAMETOOLONG', 'symlink', 'x', p.at(`${name}x`));
    await p.fails('ENAMETOOLONG', 'link', p.at(name), p.at(`${name}x`));
    await p.fails('ENAMETOOLONG', 'rename', p.at(name), p.at(`${name}x`));
    await p.fails('ENAMETOOLONG', 'stat', p.at(`${name}x`));
    await p.fails('ENAMETOOLONG', 'unlink', p.at(`${name}x`));
  }
  await p.ok('readdir', p.root);
});

both('names are bytes: none is changed, and no two are taken for one', async (p) => {
  const composed = Buffer.from('\u00e9').toString('latin1');
  const decomposed = Buffer.from('e\u0301').toString('latin1');
  const every = Array.from({ length: 256 }, (_, code) => String.fromCharCode(code));
  const single = every.filter((name) => !['\0', '.', '/'].includes(name));
  const names = [...ODD_NAMES, composed, decomposed, 'Case', 'case', ...single];
  for (const name of names) {
    await p.ok('open', 'f', p.at(name), ['O_WRONLY', 'O_CREAT', 'O_EXCL']);
    await p.ok('write', 'f', name);
    await p.ok('close', 'f');
  }
  await p.remount();
  assert.deepEqual(await p.ok('readdir', p.root), [...names].sort());
  for (const name of names) {
    await p.ok('open', 'f', p.at(name), ['O_RDONLY']);
    assert.equal(await p.ok('read', 'f', 100), name);
    await p.ok('close', 'f');
  }
});

both('a file that is unlinked while open lives on until it is closed', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  await p.ok('write', 'f', { seed: 1, length: 3_000_000 });
  await p.ok('unlink', p.at('file'));
  await p.fails('ENOENT', 'stat', p.at('file'));
  await p.ok('fstat', 'f');
  await p.ok('pwrite', 'f', { seed: 2, length: 2_000_000 }, 2_500_000);
  await p.ok('fsync', 'f');
  await p.ok('ftruncate', 'f', 4_200_000);
  await p.ok('hash_handle', 'f');
  await p.ok('open', 'g', p.at('file'), ['O_RDWR', 'O_CREAT', 'O_EXCL']);
  await p.ok('write', 'g', 'another file under the same name');
  await p.ok('hash_handle', 'f');
  await p.ok('close', 'f');
  await p.ok('hash', p.at('file'));
});

both('the file under a name can be replaced while the old one is read', async (p) => {
  for (let round = 0; round < 5; round += 1) {
    const seed = round * 2;
    await p.ok('open', `f${round}`, p.at('file'), ['O_RDWR', 'O_CREAT', 'O_TRUNC']);
    await p.ok('write', `f${round}`, { seed, length: 200_000 + round });
    await p.ok('unlink', p.at('file'));
  }
  for (let round = 0; round < 5; round += 1) await p.ok('hash_handle', `f${round}`);
});

both('a directory can be read through its descriptor, not as a file', async (p) => {
  await p.ok('mkdir', p.at('directory'));
  await p.ok('open', 'd', p.at('directory'), ['O_RDONLY', 'O_DIRECTORY']);
  await p.fails('EISDIR', 'read', 'd', 10);
  await p.ok('fsync', 'd');
  await p.ok('fstat', 'd');
});
