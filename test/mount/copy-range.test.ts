import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { family } from '../support/family.ts';
import { Draws } from '../support/random.ts';

const MIB = 1_048_576;
const REGION = 4 * MIB;

const { both, mountOnly } = family();

both('copies a whole file, and the copy outlives its source', async (p) => {
  await p.ok('open', 's', p.at('source'), ['O_RDWR', 'O_CREAT']);
  await p.ok('write', 's', { seed: 1, length: 10 * MIB + 4_321 });
  await p.ok('open', 't', p.at('target'), ['O_RDWR', 'O_CREAT']);
  assert.equal(await p.ok('copy_range', 's', 't', 11 * MIB, 0, 0), 10 * MIB + 4_321);
  await p.ok('hash_handle', 't');
  await p.ok('close', 's');
  await p.ok('unlink', p.at('source'));
  await p.ok('pwrite', 't', { seed: 2, length: 100 }, REGION - 50);
  await p.ok('close', 't');
  await p.remount();
  await p.ok('hash', p.at('target'));
});

both('copies what is not stored yet, over what is not stored yet', async (p) => {
  await p.ok('open', 's', p.at('source'), ['O_RDWR', 'O_CREAT']);
  await p.ok('open', 't', p.at('target'), ['O_RDWR', 'O_CREAT']);
  for (let round = 0; round < 4; round++) {
    await p.ok('pwrite', 's', { seed: round, length: 3 * MIB }, round * MIB + 17);
    await p.ok('pwrite', 't', { seed: 100 + round, length: 2 * MIB }, round * 777_777);
    await p.ok('copy_range', 's', 't', MIB + 5, round * MIB + 3, round * 3 * MIB + 11);
    await p.ok('hash_handle', 't');
    await p.ok('hash_handle', 's');
  }
});

both('small files, whose bytes are in the tree, are copied as well', async (p) => {
  await p.ok('open', 's', p.at('small'), ['O_RDWR', 'O_CREAT']);
  await p.ok('write', 's', { seed: 1, length: 1_000 });
  await p.ok('open', 't', p.at('target'), ['O_RDWR', 'O_CREAT']);
  await p.ok('copy_range', 's', 't', 1_000, 0, 0);
  await p.ok('copy_range', 's', 't', 500, 100, 3_000);
  await p.ok('hash_handle', 't');
  await p.ok('open', 'l', p.at('large'), ['O_RDWR', 'O_CREAT']);
  await p.ok('write', 'l', { seed: 2, length: 2 * REGION });
  await p.ok('copy_range', 'l', 's', 300, REGION, 500);
  await p.ok('copy_range', 'l', 's', REGION, 7, 0);
  await p.ok('hash_handle', 's');
  await p.ok('copy_range', 's', 'l', 2_000, 10, REGION - 1_000);
  await p.ok('hash_handle', 'l');
});

both('holes stay holes, and a copy behind the end leaves one', async (p) => {
  await p.ok('open', 's', p.at('source'), ['O_RDWR', 'O_CREAT']);
  await p.ok('pwrite', 's', { seed: 1, length: 5_000 }, 9 * MIB);
  await p.ok('ftruncate', 's', 20 * MIB);
  await p.ok('open', 't', p.at('target'), ['O_RDWR', 'O_CREAT']);
  await p.ok('write', 't', { seed: 2, length: 8 * MIB });
  await p.ok('copy_range', 's', 't', 20 * MIB, 0, MIB);
  await p.ok('hash_handle', 't');
  await p.ok('copy_range', 's', 't', 5 * MIB, 8 * MIB, 40 * MIB);
  await p.ok('hash_handle', 't');
});

both('within one file, apart', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  await p.ok('write', 'f', { seed: 1, length: 6 * MIB });
  await p.ok('copy_range', 'f', 'f', 2 * MIB + 9, 5, 7 * MIB + 100);
  await p.ok('copy_range', 'f', 'f', 1_000, 5 * MIB, 3);
  await p.ok('hash_handle', 'f');
  await p.fails('EINVAL', 'copy_range', 'f', 'f', 2 * MIB, 0, MIB);
});

both('any range to anywhere, between writes and truncations', async (p) => {
  const draws = new Draws(20_261_121);
  const below = (limit: number): number => draws.below(limit);
  for (const name of ['a', 'b']) await p.ok('open', name, p.at(name), ['O_RDWR', 'O_CREAT']);
  for (let round = 0; round < 40; round++) {
    const [from, to] = below(2) === 0 ? ['a', 'b'] : ['b', 'a'];
    await p.ok('pwrite', from, { seed: round, length: 1 + below(2 * MIB) }, below(9 * MIB));
    if (below(5) === 0) await p.ok('ftruncate', to, below(9 * MIB));
    if (below(5) === 0) await p.ok('fsync', from);
    await p.ok('copy_range', from, to, 1 + below(6 * MIB), below(9 * MIB), below(9 * MIB));
    await p.ok('hash_handle', to);
  }
  for (const name of ['a', 'b']) await p.ok('close', name);
  await p.remount();
  for (const name of ['a', 'b']) await p.ok('hash', p.at(name));
});

mountOnly(
  'a copy takes no space in the store',
  async (mount, p) => {
    await p.own('open', 's', p.at('source'), ['O_RDWR', 'O_CREAT']);
    await p.own('write', 's', { seed: 1, length: 64 * MIB });
    await p.own('fsync', 's');
    const before = storedBytes(join(mount.storeDir, 'chunks'));
    await p.own('open', 't', p.at('target'), ['O_RDWR', 'O_CREAT']);
    for (let copy = 0; copy < 8; copy++) {
      await p.own('copy_range', 's', 't', 64 * MIB, 0, copy * 64 * MIB + copy);
    }
    await p.own('fsync', 't');
    assert.equal(storedBytes(join(mount.storeDir, 'chunks')), before);
  },
  'copies',
);

function storedBytes(directory: string): number {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.reduce((sum, file) => sum + statSync(join(file.parentPath, file.name)).size, 0);
}
