import assert from 'node:assert/strict';
import { family, type Place } from '../support/family.ts';

const PAGE = 4_096;
const REGION = 4 * 1_048_576;
const TIB = 2 ** 40;
const MIDDLE = 8 * TIB;
const SIZE = 16 * TIB;

/** Near both ends, and across the border of two regions in the middle; the last page stays a hole. */
const WRITES = [
  { piece: { seed: 1, length: PAGE }, offset: PAGE },
  { piece: { seed: 2, length: 4 * PAGE }, offset: MIDDLE - 2 * PAGE },
  { piece: { seed: 3, length: 2 * PAGE }, offset: SIZE - 3 * PAGE },
] as const;

const PLACES = [
  0,
  PAGE,
  2 * PAGE,
  REGION,
  TIB,
  MIDDLE - 2 * PAGE,
  MIDDLE - PAGE,
  MIDDLE,
  MIDDLE + PAGE,
  MIDDLE + 2 * PAGE,
  SIZE - REGION,
  SIZE - 3 * PAGE,
  SIZE - 2 * PAGE,
  SIZE - PAGE,
  SIZE,
] as const;

/**
 * Size, and where data and holes begin from every place that matters. Blocks are compared where everything is stored:
 * before, what was written counts, also where it was cut off again.
 */
async function compareMap(p: Place): Promise<void> {
  await p.ok('fstat', 'f');
  for (const offset of PLACES) {
    await p.call('lseek', 'f', offset, 'SEEK_DATA');
    await p.call('lseek', 'f', offset, 'SEEK_HOLE');
  }
}

/** What lies around every place: the bytes of two pages, compared with the other file system's. */
async function compareBytes(p: Place): Promise<void> {
  for (const offset of PLACES) await p.ok('pread', 'f', 2 * PAGE, Math.max(0, offset - PAGE));
}

const { both } = family({}, 'holes');

both('sixteen tebibytes of holes with data near both ends and in the middle', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  await p.ok('ftruncate', 'f', SIZE);
  await compareMap(p);
  for (const { piece, offset } of WRITES) await p.ok('pwrite', 'f', piece, offset);
  await compareBytes(p);
  await compareMap(p);
  await p.ok('fsync', 'f');
  await p.ok('blocks', p.at('file'));
  await compareMap(p);
  await p.ok('close', 'f');
  await p.remount();
  await p.ok('blocks', p.at('file'));
  await p.ok('open', 'f', p.at('file'), ['O_RDONLY']);
  await compareMap(p);
  await compareBytes(p);
  for (const { piece, offset } of WRITES) {
    assert.equal(await p.ok('pread_expect', 'f', piece, offset), true, `at ${offset}`);
  }
  await p.ok('close', 'f');
  await p.ok('truncate', p.at('file'), 3 * PAGE);
});

both('holes punched in sixteen tebibytes, short and very long ones', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  await p.ok('ftruncate', 'f', SIZE);
  for (const { piece, offset } of WRITES) await p.ok('pwrite', 'f', piece, offset);
  await p.ok('fsync', 'f');
  await p.ok('fallocate', 'f', 3, MIDDLE - PAGE, 2 * PAGE);
  await compareMap(p);
  await compareBytes(p);
  await p.ok('fallocate', 'f', 3, 2 * PAGE, SIZE - 4 * PAGE);
  await compareMap(p);
  await compareBytes(p);
  await p.ok('pwrite', 'f', { seed: 4, length: PAGE }, MIDDLE + PAGE);
  await p.ok('close', 'f');
  await p.remount();
  await p.ok('blocks', p.at('file'));
  await p.ok('open', 'f', p.at('file'), ['O_RDWR']);
  await compareMap(p);
  await compareBytes(p);
  await p.ok('ftruncate', 'f', 0);
});

both('sixteen tebibytes cut down and made long again: what was cut is gone', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  for (const { piece, offset } of WRITES) await p.ok('pwrite', 'f', piece, offset);
  for (const size of [SIZE - 2 * PAGE, MIDDLE + PAGE, MIDDLE - PAGE, TIB + 5, 2 * PAGE]) {
    await p.ok('ftruncate', 'f', size);
    await compareMap(p);
    await p.ok('ftruncate', 'f', SIZE);
    await compareMap(p);
    await compareBytes(p);
  }
  await p.ok('pwrite', 'f', { seed: 5, length: PAGE }, SIZE - PAGE);
  await p.ok('close', 'f');
  await p.remount();
  await p.ok('blocks', p.at('file'));
  await p.ok('open', 'f', p.at('file'), ['O_RDWR']);
  await compareMap(p);
  await compareBytes(p);
  await p.ok('ftruncate', 'f', 3 * PAGE);
  await p.ok('hash_handle', 'f');
});
