import assert from 'node:assert/strict';
import { family } from '../support/family.ts';

const MODES = [0o000, 0o400, 0o644, 0o755, 0o777, 0o1777, 0o2755, 0o4755, 0o6711, 0o7777];
const SECOND = 1_000_000_000n;
const TIMES = [0n, 1n, 999_999_999n, 1_700_000_000_123_456_789n, -1n, -SECOND, -SECOND - 1n].concat(
  2n ** 31n * SECOND,
  2n ** 32n * SECOND + 7n,
);

const { both } = family();

both('a new file, directory and link have the attributes that were asked for', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT'], 0o640);
  await p.ok('mkdir', p.at('directory'), 0o750);
  await p.ok('symlink', 'nowhere', p.at('link'));
  for (const name of ['file', 'directory', 'link']) await p.ok('lstat', p.at(name));
  await p.ok('fstat', 'f');
  await p.fails('ENOENT', 'stat', p.at('link'));
  await p.fails('ENOENT', 'stat', p.at('missing'));
  await p.fails('ENOTDIR', 'stat', p.at('file/below'));
});

both('size follows writes through another descriptor at once', async (p) => {
  await p.ok('open', 'w', p.at('file'), ['O_RDWR', 'O_CREAT']);
  await p.ok('open', 'r', p.at('file'), ['O_RDONLY']);
  for (const length of [1, 4_095, 4_096, 70_000, 1_048_576]) {
    await p.ok('write', 'w', { seed: length, length });
    await p.ok('fstat', 'r');
    await p.ok('stat', p.at('file'));
  }
});

both('chmod sets every bit, of files and directories', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  await p.ok('mkdir', p.at('directory'));
  for (const mode of MODES) {
    for (const name of ['file', 'directory']) {
      await p.ok('chmod', p.at(name), mode);
      await p.ok('stat', p.at(name));
    }
    await p.ok('fchmod', 'f', mode ^ 0o111);
    await p.ok('fstat', 'f');
  }
  await p.fails('ENOENT', 'chmod', p.at('missing'), 0o600);
  await p.remount();
  await p.ok('stat', p.at('file'));
  await p.ok('stat', p.at('directory'));
  await p.ok('chmod', p.at('directory'), 0o755);
});

both('chmod of a file that was unlinked while open', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  await p.ok('unlink', p.at('file'));
  await p.ok('fchmod', 'f', 0o600);
  await p.ok('futimens', 'f', '5', '6');
  await p.ok('fstat', 'f');
});

both(
  'chown changes one or both ids, and of a link itself',
  async (p) => {
    await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
    await p.ok('symlink', 'file', p.at('link'));
    for (const [uid, gid] of [
      [1000, 1001],
      [-1, 7],
      [8, -1],
      [65_534, 65_534],
      [4_000_000_000, 3_000_000_000],
    ]) {
      await p.ok('chown', p.at('file'), uid, gid);
      await p.ok('stat', p.at('file'));
    }
    await p.ok('chown', p.at('link'), 11, 12, false);
    await p.ok('lstat', p.at('link'));
    await p.ok('stat', p.at('file'));
    await p.ok('fchown', 'f', 21, 22);
    await p.ok('fstat', 'f');
    await p.remount();
    await p.ok('lstat', p.at('link'));
  },
  { root: true },
);

both(
  'chown and write take set-id bits off as on any file system',
  async (p) => {
    await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT'], 0o755);
    for (const mode of [0o4755, 0o2755, 0o6755, 0o2745]) {
      await p.ok('chmod', p.at('file'), mode);
      await p.ok('chown', p.at('file'), 0, 0);
      await p.ok('stat', p.at('file'));
    }
  },
  { root: true },
);

both('a directory with the set-gid bit hands its group on', async (p) => {
  await p.ok('mkdir', p.at('shared'), 0o755);
  await p.ok('chmod', p.at('shared'), 0o2775);
  await p.ok('open', 'f', p.at('shared/file'), ['O_RDWR', 'O_CREAT'], 0o644);
  await p.ok('mkdir', p.at('shared/sub'), 0o755);
  await p.ok('stat', p.at('shared/file'));
  await p.ok('stat', p.at('shared/sub'));
});

both(
  'times are kept to the nanosecond, before 1970 and beyond 2038',
  async (p) => {
    await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
    for (const time of TIMES) {
      await p.ok('utimens', p.at('file'), String(time), String(time + 3n));
      const told = await p.ok('times', p.at('file'));
      assert.deepEqual(told, [String(time), String(time + 3n)]);
      await p.ok('futimens', 'f', String(time + 5n), String(time));
      await p.ok('times', p.at('file'));
    }
    await p.ok('close', 'f');
    await p.remount();
    await p.ok('times', p.at('file'));
  },
  { needs: 'nanoseconds' },
);

both(
  'one time can be set and the other left, also of links and directories',
  async (p) => {
    await p.ok('mkdir', p.at('directory'));
    await p.ok('symlink', 'nowhere', p.at('link'));
    await p.ok('utimens', p.at('directory'), '10', '20');
    await p.ok('utimens_omit', p.at('directory'), '30', null);
    assert.deepEqual(await p.ok('times', p.at('directory')), ['30', '20']);
    await p.ok('utimens_omit', p.at('directory'), null, '40');
    assert.deepEqual(await p.ok('times', p.at('directory')), ['30', '40']);
    await p.ok('utimens', p.at('link'), '-5000000001', '6', false);
    assert.deepEqual(await p.ok('times', p.at('link')), ['-5000000001', '6']);
  },
  { needs: 'one time' },
);

both(
  'an explicit mtime outlives close, and the next write moves it',
  async (p) => {
    await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
    await p.ok('write', 'f', { seed: 1, length: 100_000 });
    await p.ok('futimens', 'f', '1000', '2000');
    await p.ok('close', 'f');
    assert.deepEqual(await p.ok('times', p.at('file')), ['1000', '2000']);
    await p.ok('open', 'f', p.at('file'), ['O_RDWR']);
    await p.ok('write', 'f', 'x');
    await p.ok('close', 'f');
    assert.ok(BigInt((await p.own('mtime', p.at('file'))) as string) > 2_000n);
  },
  { needs: 'nanoseconds' },
);

both('what changes a directory moves its mtime, what changes a file its ctime', async (p) => {
  await p.ok('mkdir', p.at('directory'));
  await p.ok('utimens', p.at('directory'), '1', '1');
  await p.ok('open', 'f', p.at('directory/file'), ['O_RDWR', 'O_CREAT']);
  assert.notEqual(await p.own('mtime', p.at('directory')), '1');
  await p.ok('utimens', p.at('directory'), '1', '1');
  await p.ok('unlink', p.at('directory/file'));
  assert.notEqual(await p.own('mtime', p.at('directory')), '1');
  await p.ok('open', 'g', p.at('file'), ['O_RDWR', 'O_CREAT']);
  const before = BigInt((await p.own('ctime', p.at('file'))) as string);
  await new Promise((resolve) => setTimeout(resolve, 20));
  await p.ok('chmod', p.at('file'), 0o600);
  assert.ok(BigInt((await p.own('ctime', p.at('file'))) as string) > before);
});

both(
  'pipes, sockets and devices have names and attributes',
  async (p) => {
    await p.ok('mknod', p.at('fifo'), 'fifo', 0o600);
    await p.ok('mknod', p.at('socket'), 'socket', 0o644);
    await p.ok('mknod', p.at('file'), 'file', 0o640);
    await p.ok('mknod', p.at('character'), 'character', 0o620, 5, 1);
    await p.ok('mknod', p.at('block'), 'block', 0o660, 259, 1_000);
    await p.fails('EEXIST', 'mknod', p.at('fifo'), 'fifo', 0o600);
    for (const name of ['fifo', 'socket', 'file', 'character', 'block']) {
      await p.ok('lstat', p.at(name));
    }
    await p.remount();
    await p.ok('lstat', p.at('block'));
  },
  { root: true },
);

both('blocks are told for what was written', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  await p.ok('write', 'f', { seed: 2, length: 1_048_576 });
  await p.ok('fsync', 'f');
  assert.ok(((await p.own('blocks', p.at('file'))) as number) > 0);
});
