import assert from 'node:assert/strict';
import { family, type Place } from '../support/family.ts';

const MIB = 1_048_576;

async function put(p: Place, name: string, seed: number, length: number): Promise<void> {
  await p.ok('open', 'f', p.at(name), ['O_RDWR', 'O_CREAT']);
  await p.ok('pwrite', 'f', { seed, length }, 0);
}

const { both } = family();

for (const call of ['fsync', 'fdatasync'] as const) {
  both(`what was written before ${call} survives kill -9`, async (p) => {
    const lengths = [1, 4_096, 5_000, MIB, 9 * MIB + 3];
    for (const length of lengths) {
      await put(p, `file-${length}`, length, length);
      await p.ok(call, 'f');
    }
    await p.crash();
    for (const length of lengths) {
      const wanted = await p.ok('hash_of', [{ seed: length, length }]);
      assert.deepEqual(await p.ok('hash', p.at(`file-${length}`)), wanted);
    }
  });
}

both('what was written before close survives kill -9', async (p) => {
  for (const length of [0, 1, 5_000, 9 * MIB + 3]) {
    await put(p, `file-${length}`, length, length);
    await p.ok('close', 'f');
  }
  await p.crash();
  for (const length of [0, 1, 5_000, 9 * MIB + 3]) {
    const wanted = await p.ok('hash_of', [{ seed: length, length }]);
    assert.deepEqual(await p.ok('hash', p.at(`file-${length}`)), wanted);
  }
});

for (const call of ['close', 'fsync'] as const) {
  both(`a small file that was written in pieces survives kill -9 after ${call}`, async (p) => {
    await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
    for (const piece of ['first, ', 'second, ', 'third']) await p.ok('write', 'f', piece);
    await p.ok(call, 'f');
    await p.crash();
    assert.deepEqual(await p.ok('open', 'g', p.at('file'), ['O_RDONLY']), null);
    assert.equal(await p.ok('pread', 'g', 100, 0), 'first, second, third');
  });
}

both('an overwrite behind an fsync, itself fsynced, survives kill -9', async (p) => {
  await put(p, 'file', 1, 6 * MIB);
  await p.ok('fsync', 'f');
  await p.ok('pwrite', 'f', { seed: 2, length: 300_001 }, 4 * MIB - 100_000);
  await p.ok('ftruncate', 'f', 5 * MIB + 7);
  await p.ok('fsync', 'f');
  await p.crash();
  await p.ok('hash', p.at('file'));
});

both('the checkpoint idiom survives kill -9: write, fsync, rename, fsync', async (p) => {
  for (const round of [1, 2]) {
    await put(p, 'next', round, 7 * MIB + round);
    await p.ok('fsync', 'f');
    await p.ok('close', 'f');
    await p.ok('rename', p.at('next'), p.at('checkpoint'));
    await p.ok('fsync_directory', p.root);
  }
  await p.crash();
  assert.deepEqual(await p.ok('readdir', p.root), ['checkpoint']);
  const wanted = await p.ok('hash_of', [{ seed: 2, length: 7 * MIB + 2 }]);
  assert.deepEqual(await p.ok('hash', p.at('checkpoint')), wanted);
});

both('names, links and attributes that were fsynced survive kill -9', async (p) => {
  await p.ok('mkdir', p.at('a'));
  await p.ok('symlink', 'target', p.at('a/link'));
  await put(p, 'a/file', 5, 10_000);
  await p.ok('chmod', p.at('a/file'), 0o604);
  await p.ok('setxattr', p.at('a/file'), 'user.x', 'kept');
  await p.ok('futimens', 'f', '1000000', '123000000');
  await p.ok('fsync', 'f');
  await p.ok('fsync_directory', p.at('a'));
  await p.crash();
  await p.ok('readdir', p.at('a'));
  await p.ok('readlink', p.at('a/link'));
  await p.ok('stat', p.at('a/file'));
  await p.ok('times', p.at('a/file'));
});

both('kill -9 in the middle of a write leaves older files whole', async (p) => {
  await put(p, 'older', 1, 5 * MIB);
  await p.ok('close', 'f');
  await p.ok('open', 'g', p.at('unfinished'), ['O_RDWR', 'O_CREAT']);
  await p.ok('write', 'g', { seed: 2, length: 9 * MIB });
  await p.crash();
  await p.ok('hash', p.at('older'));
  await p.own('readdir', p.root);
  await p.own('open', 'h', p.at('unfinished'), ['O_RDWR', 'O_CREAT', 'O_TRUNC']);
  await p.own('write', 'h', { seed: 3, length: 100_000 });
  await p.own('fsync', 'h');
  await p.ok('hash', p.at('unfinished'));
});

both('writes go on behind an fsync, many times over', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  const laid = [];
  for (let round = 0; round < 30; round += 1) {
    const piece = { seed: round, length: 3 + round * 20_011 };
    laid.push(piece);
    await p.ok('write', 'f', piece);
    await p.ok('fsync', 'f');
  }
  const wanted = await p.ok('hash_of', laid);
  assert.deepEqual(await p.ok('hash_handle', 'f'), wanted);
  await p.crash();
  assert.deepEqual(await p.ok('hash', p.at('file')), wanted);
});

both('fsyncs of one file by several processes at once', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  const others = Array.from({ length: 3 }, () => p.process());
  for (const other of others) await other.ok('open', 'f', p.at('file'), ['O_RDWR']);
  for (let round = 0; round < 10; round += 1) {
    const piece = { seed: round, length: 2 * MIB };
    await p.ok('pwrite', 'f', piece, round * 1_000_003);
    await Promise.all(others.map((other) => other.ok('fsync', 'f')));
  }
  const before = await p.ok('hash', p.at('file'));
  await p.crash();
  assert.deepEqual(await p.ok('hash', p.at('file')), before);
});

both('fsync beside writes of other processes to the same and to other files', async (p) => {
  await p.ok('open', 'f', p.at('shared'), ['O_RDWR', 'O_CREAT']);
  const writer = p.process();
  const other = p.process();
  const busy = Promise.all([
    writer.ok('write_and_sync', p.at('shared'), 100, 40, 500_009, false),
    other.ok('write_and_sync', p.at('other'), 300, 40, 200_003, true),
  ]);
  for (let round = 0; round < 15; round += 1) await p.ok('fsync', 'f');
  await busy;
  const pieces = Array.from({ length: 40 }, (_, n) => ({ seed: 100 + n, length: 500_009 }));
  assert.deepEqual(await p.ok('hash', p.at('shared')), await p.ok('hash_of', pieces));
  await p.crash();
  assert.deepEqual(await p.ok('hash', p.at('shared')), await p.ok('hash_of', pieces));
  await p.ok('hash', p.at('other'));
});

both('fsync without anything to store, and again', async (p) => {
  await put(p, 'file', 1, 10);
  for (let round = 0; round < 5; round += 1) await p.ok('fsync', 'f');
  await p.ok('open', 'r', p.at('file'), ['O_RDONLY']);
  await p.ok('fsync', 'r');
  await p.ok('fdatasync', 'r');
});
