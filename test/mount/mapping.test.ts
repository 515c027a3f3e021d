import assert from 'node:assert/strict';
import { family } from '../support/family.ts';

const PAGE = 4_096;
const REGION = 4 * 1_048_576;

const { both } = family({ flags: ['-o', 'shared_mmap=allow'] }, 'shared mappings');

both('what is written through a shared mapping is read, and outlives the mount', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  await p.ok('write', 'f', { seed: 1, length: 100_000 });
  for (const [seed, offset, length] of [
    [2, 0, 1],
    [3, PAGE - 1, 2],
    [4, 50_001, 30_000],
    [5, 99_999, 1],
  ]) {
    await p.ok('map_write', 'f', { seed, length }, offset);
    await p.ok('hash_handle', 'f');
    await p.ok('hash', p.at('file'));
  }
  await p.ok('close', 'f');
  await p.ok('hash', p.at('file'));
  await p.remount();
  await p.ok('hash', p.at('file'));
});

both('a mapping and writes beside it see one another', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  await p.ok('ftruncate', 'f', REGION + 3 * PAGE);
  await p.ok('map', 'm', 'f');
  await p.ok('close', 'f');
  await p.ok('open', 'g', p.at('file'), ['O_RDWR']);
  for (const offset of [0, 5, PAGE - 3, REGION - PAGE, REGION - 2, REGION + PAGE + 7]) {
    await p.ok('map_store', 'm', { seed: offset, length: 10 }, offset);
    await p.ok('pread', 'g', 30, Math.max(0, offset - 10));
    await p.ok('pwrite', 'g', { seed: offset + 1, length: 5 }, offset + 3);
    await p.ok('map_load', 'm', Math.max(0, offset - 10), 30);
  }
  await p.ok('map_sync', 'm');
  await p.ok('unmap', 'm');
  await p.ok('hash_handle', 'g');
  await p.ok('close', 'g');
  await p.remount();
  await p.ok('hash', p.at('file'));
});

both('a mapping moves the time of the last write', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  await p.ok('write', 'f', { seed: 1, length: PAGE });
  await p.ok('futimens', 'f', '1000', '2000');
  await p.ok('map_write', 'f', 'x', 17);
  await p.ok('close', 'f');
  assert.ok(BigInt((await p.own('mtime', p.at('file'))) as string) > 2_000n);
});
