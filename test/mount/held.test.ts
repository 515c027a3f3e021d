import assert from 'node:assert/strict';
import { family } from '../support/family.ts';

/** Longer than closed inodes keep their slots, so that nothing survives by chance. */
const SLOTS_EXPIRE_MS = 1_500;

const { both, mountOnly } = family({ flags: ['-o', 'commit_interval=200'] });

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

both(
  'a removed directory can be used by who has it open',
  async (p) => {
    await p.ok('mkdir', p.at('directory'), 0o751);
    await p.ok('open', 'd', p.at('directory'), ['O_RDONLY', 'O_DIRECTORY']);
    await p.ok('rmdir', p.at('directory'));
    await pause(200);
    await p.ok('fstat', 'd');
    await p.ok('fchmod', 'd', 0o700);
    await p.ok('futimens', 'd', '5', '6');
    await p.ok('fstat', 'd');
    await p.ok('close', 'd');
    await p.fails('ENOENT', 'stat', p.at('directory'));
  },
  { needs: 'what is gone' },
);

both(
  'a directory that was replaced by rename can be used by who has it open',
  async (p) => {
    await p.ok('mkdir', p.at('old'), 0o751);
    await p.ok('mkdir', p.at('new'), 0o755);
    await p.ok('open', 'd', p.at('old'), ['O_RDONLY', 'O_DIRECTORY']);
    await p.ok('rename', p.at('new'), p.at('old'));
    await p.ok('fstat', 'd');
    await p.ok('close', 'd');
  },
  { needs: 'what is gone' },
);

both(
  'nothing can be made in a working directory that is gone',
  async (p) => {
    await p.ok('mkdir', p.at('directory'));
    await p.ok('chdir', p.at('directory'));
    await p.ok('rmdir', p.at('directory'));
    await p.ok('stat', '.');
    await p.fails('ENOENT', 'open', 'f', 'file', ['O_RDWR', 'O_CREAT']);
    await p.fails('ENOENT', 'mkdir', 'sub');
    assert.deepEqual(await p.ok('readdir', '.'), []);
    await p.ok('chdir', '/');
  },
  { needs: 'what is gone' },
);

both(
  'an unlinked file that is held by its path alone keeps its content',
  async (p) => {
    await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
    await p.ok('write', 'f', 'still here');
    await p.ok('open', 'h', p.at('file'), ['O_PATH']);
    await p.ok('unlink', p.at('file'));
    await p.ok('close', 'f');
    await pause(SLOTS_EXPIRE_MS);
    assert.equal(await p.ok('stat_handle_path', 'h'), 'still here');
    await p.ok('fstat', 'h');
    await p.ok('close', 'h');
  },
  { needs: 'what is gone' },
);

both(
  'a file without a name may get one',
  async (p) => {
    await p.ok('open', 'f', p.root, ['O_RDWR', 'O_TMPFILE'], 0o640);
    await p.ok('write', 'f', { seed: 1, length: 100_000 });
    await p.ok('fstat', 'f');
    assert.deepEqual(await p.ok('readdir', p.root), []);
    await p.ok('linkat_handle', 'f', p.at('file'));
    await p.ok('linkat_handle', 'f', p.at('again'));
    await p.fails('EEXIST', 'linkat_handle', 'f', p.at('file'));
    await p.ok('fstat', 'f');
    await p.ok('close', 'f');
    await p.remount();
    await p.ok('hash', p.at('file'));
    await p.ok('same_inode', p.at('file'), p.at('again'));
  },
  { needs: 'unnamed files' },
);

both(
  'a file without a name ends with its last descriptor',
  async (p) => {
    await p.ok('open', 'f', p.root, ['O_RDWR', 'O_TMPFILE', 'O_EXCL'], 0o640);
    await p.ok('write', 'f', { seed: 1, length: 5_000_000 });
    await p.fails('ENOENT', 'linkat_handle', 'f', p.at('file'));
    await p.ok('hash_handle', 'f');
    await p.ok('close', 'f');
    await p.fails('ENOENT', 'open', 'g', p.at('missing'), ['O_RDWR', 'O_TMPFILE']);
  },
  { needs: 'unnamed files' },
);

mountOnly('what is deleted and held by nobody leaves the tree', async (_, p) => {
  const files = async (): Promise<number> => {
    const told = (await p.own('statvfs', p.root)) as { f_files: number };
    return told.f_files;
  };
  const before = await files();
  for (let i = 0; i < 200; i++) {
    await p.own('open', 'f', p.at(`file-${i}`), ['O_RDWR', 'O_CREAT']);
    await p.own('write', 'f', { seed: i, length: 100 + i * 100 });
    await p.own('close', 'f');
    await p.own('mkdir', p.at(`directory-${i}`));
  }
  assert.ok((await files()) > before);
  for (let i = 0; i < 200; i++) {
    await p.own('unlink', p.at(`file-${i}`));
    await p.own('rmdir', p.at(`directory-${i}`));
  }
  const deadline = Date.now() + 30_000;
  // Fewer, where something of earlier cases was still counted.
  while ((await files()) > before && Date.now() < deadline) await pause(100);
  assert.ok((await files()) <= before);
});
