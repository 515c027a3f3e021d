import assert from 'node:assert/strict';
import { family, type Place } from '../support/family.ts';
import { Draws, testSeed } from '../support/random.ts';

const KIB = 1_024;
const MIB = 1_048_576;
const FRAME = MIB;
const REGION = 4 * MIB;

/** The shapes of a property run: how large the file and one operation may get. */
interface Shape {
  title: string;
  operations: number;
  fileBytesMax: number;
  operationBytesMax: number;
}

const SHAPES: readonly Shape[] = [
  { title: 'small', operations: 600, fileBytesMax: 40 * KIB, operationBytesMax: 5_000 },
  { title: 'medium', operations: 400, fileBytesMax: 2 * REGION, operationBytesMax: 200 * KIB },
  { title: 'large', operations: 120, fileBytesMax: 5 * REGION, operationBytesMax: 3 * MIB },
];

/** An offset, often one that lies at or beside a boundary of frames or regions. */
function offsetOf(draws: Draws, shape: Shape): number {
  const any = draws.below(shape.fileBytesMax);
  if (draws.below(3) > 0) return any;
  const grid = draws.pick([4 * KIB, 16 * KIB, 64 * KIB, FRAME, REGION]);
  return Math.max(0, any - (any % grid) + draws.pick([-1, 0, 1]));
}

/** Carries out one drawn operation; the file is open as 'f' before and after. */
async function step(p: Place, draws: Draws, shape: Shape): Promise<void> {
  const offset = offsetOf(draws, shape);
  const length = 1 + draws.below(shape.operationBytesMax);
  const path = p.at('file');
  const choice = draws.below(100);
  if (choice < 45) await p.ok('pwrite', 'f', { seed: draws.below(1e6), length }, offset);
  else if (choice < 70) await p.ok('pread', 'f', length, offset);
  else if (choice < 78) await p.ok('ftruncate', 'f', offset);
  else if (choice < 80) await p.ok('truncate', path, offset);
  else if (choice < 85) await p.ok('fsync', 'f');
  else if (choice < 88) await p.ok('fdatasync', 'f');
  else if (choice < 91) await p.ok('hash_handle', 'f');
  else if (choice < 94) await p.ok('stat', path);
  else {
    await p.ok('close', 'f');
    if (choice === 99 && draws.below(3) === 0) await p.remount();
    await p.ok('hash', path);
    await p.ok('open', 'f', path, ['O_RDWR']);
  }
}

const { both } = family();

both('nothing, one byte, and reads at and beyond the end', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  assert.equal(await p.ok('pread', 'f', 10, 0), '');
  assert.equal(await p.ok('write', 'f', ''), 0);
  await p.ok('fstat', 'f');
  assert.equal(await p.ok('write', 'f', 'x'), 1);
  assert.equal(await p.ok('pread', 'f', 10, 0), 'x');
  assert.equal(await p.ok('pread', 'f', 10, 1), '');
  assert.equal(await p.ok('pread', 'f', 10, 1_000_000), '');
  assert.equal(await p.ok('pread', 'f', 0, 0), '');
  await p.ok('pwrite', 'f', '', 500);
  await p.ok('fstat', 'f');
  await p.ok('close', 'f');
  await p.remount();
  await p.ok('hash', p.at('file'));
});

both('an empty file that is fsynced stays an empty file', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  await p.ok('fsync', 'f');
  await p.ok('close', 'f');
  await p.remount();
  await p.ok('hash', p.at('file'));
});

both('spans of every boundary of frames and regions', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  for (const edge of [16 * KIB, 64 * KIB, FRAME, REGION - FRAME, REGION, 2 * REGION]) {
    for (const before of [0, 1, 4_095, 4_096, 70_000]) {
      for (const length of [1, 2, 4_097, 140_001]) {
        const offset = Math.max(0, edge - before);
        const piece = { seed: edge + before + length, length };
        await p.ok('pwrite', 'f', piece, offset);
        assert.equal(await p.ok('pread_expect', 'f', piece, offset), true);
      }
    }
    await p.ok('hash_handle', 'f');
  }
  await p.ok('close', 'f');
  await p.remount();
  await p.ok('hash', p.at('file'));
});

both('holes read as zeros, before, between and behind', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  await p.ok('pwrite', 'f', 'middle', 2 * REGION + 5);
  assert.equal(await p.ok('pread_expect', 'f', { zeros: 2 * REGION + 5 }, 0), true);
  await p.ok('fsync', 'f');
  await p.ok('pwrite', 'f', 'later', 9 * REGION - 2);
  await p.ok('hash_handle', 'f');
  await p.ok('pwrite', 'f', { seed: 1, length: 100 }, REGION - 50);
  await p.ok('hash_handle', 'f');
  await p.ok('close', 'f');
  await p.remount();
  await p.ok('hash', p.at('file'));
});

both('far beyond 4 GiB', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  for (const offset of [2 ** 31 - 3, 2 ** 32 - 3, 2 ** 40 + 12_345]) {
    const piece = { seed: offset % 1_000, length: 100_003 };
    await p.ok('pwrite', 'f', piece, offset);
    assert.equal(await p.ok('pread_expect', 'f', piece, offset), true);
    await p.ok('fsync', 'f');
    assert.equal(await p.ok('pread_expect', 'f', piece, offset), true);
    await p.ok('fstat', 'f');
  }
  await p.ok('ftruncate', 'f', 2 ** 32 + 5);
  await p.ok('pread', 'f', 200, 2 ** 32 - 100);
  await p.ok('ftruncate', 'f', 0);
});

both('overlapping writes in every order: the later one wins', async (p) => {
  const spans = [
    [0, 10_000],
    [5_000, 10_000],
    [9_999, 2],
    [2_000, 3_000],
  ] as const;
  const orders = [0, 1, 2, 3].flatMap((a) =>
    [0, 1, 2, 3].flatMap((b) =>
      [0, 1, 2, 3].map((c) => [a, b, c, 6 - a - b - c]).filter((o) => new Set(o).size === 4),
    ),
  );
  for (const base of [0, FRAME - 7_000, REGION - 7_000]) {
    for (const [round, order] of orders.entries()) {
      await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT', 'O_TRUNC']);
      for (const index of order) {
        const [offset, length] = spans[index] as readonly [number, number];
        await p.ok('pwrite', 'f', { seed: index, length }, base + offset);
      }
      if (round % 2 === 0) await p.ok('fsync', 'f');
      await p.ok('pread', 'f', 20_000, base);
      await p.ok('close', 'f');
      await p.ok('hash', p.at('file'));
    }
  }
});

both('what is in flight, and what was just stored, is overwritten', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  for (let round = 0; round < 6; round += 1) {
    await p.ok('pwrite', 'f', { seed: round, length: 3 * REGION }, 0);
    if (round % 3 === 1) await p.ok('fsync', 'f');
    await p.ok('pwrite', 'f', { seed: 50 + round, length: 70_001 }, REGION - 30_000);
    await p.ok('pwrite', 'f', { seed: 90 + round, length: REGION }, REGION + 13);
    await p.ok('hash_handle', 'f');
  }
  await p.ok('close', 'f');
  await p.remount();
  await p.ok('hash', p.at('file'));
});

both('the same bytes again, and again elsewhere', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  for (let copy = 0; copy < 4; copy += 1) {
    await p.ok('pwrite', 'f', { seed: 1, length: REGION }, copy * REGION);
    await p.ok('pwrite', 'f', { seed: 1, length: REGION }, copy * REGION);
  }
  await p.ok('pwrite', 'f', { zeros: REGION }, REGION);
  await p.ok('fsync', 'f');
  await p.ok('hash_handle', 'f');
  await p.ok('open', 'g', p.at('copy'), ['O_RDWR', 'O_CREAT']);
  await p.ok('copy_file_range', 'f', 'g', 3 * REGION - 11, 7, 3);
  await p.ok('hash', p.at('copy'));
});

both('what is not yet stored can be read, also by another process', async (p) => {
  await p.ok('open', 'w', p.at('file'), ['O_WRONLY', 'O_CREAT']);
  const reader = p.process();
  await reader.ok('open', 'r', p.at('file'), ['O_RDONLY']);
  let offset = 0;
  for (let round = 0; round < 20; round += 1) {
    const piece = { seed: round, length: 1 + round * 50_021 };
    await p.ok('write', 'w', piece);
    assert.equal(await reader.ok('pread_expect', 'r', piece, offset), true);
    offset += piece.length;
  }
});

both('a reader that kept its descriptor sees what is overwritten', async (p) => {
  await p.ok('open', 'w', p.at('file'), ['O_RDWR', 'O_CREAT']);
  await p.ok('write', 'w', { seed: 1, length: 2 * MIB });
  await p.ok('fsync', 'w');
  const reader = p.process();
  await reader.ok('open', 'r', p.at('file'), ['O_RDONLY']);
  assert.equal(await reader.ok('pread_expect', 'r', { seed: 1, length: 2 * MIB }, 0), true);
  await p.ok('pwrite', 'w', { seed: 2, length: 2 * MIB }, 0);
  assert.equal(await reader.ok('pread_expect', 'r', { seed: 2, length: 2 * MIB }, 0), true);
});

both('processes that write interleaved parts of one file', async (p) => {
  const writers = Array.from({ length: 4 }, () => p.process());
  const piece = 37_003;
  await Promise.all(
    writers.map(async (writer, index) => {
      await writer.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
      for (let number = index; number < 400; number += 4) {
        await writer.ok('pwrite', 'f', { seed: number, length: piece }, number * piece);
      }
      await writer.ok('close', 'f');
    }),
  );
  const whole = Array.from({ length: 400 }, (_, seed) => ({ seed, length: piece }));
  assert.deepEqual(await p.ok('hash', p.at('file')), await p.ok('hash_of', whole));
});

both('64 MiB in one stream, read back while stored and after a remount', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  const pieces = [0, 1, 2, 3].map((seed) => ({ seed, length: 16 * MIB }));
  for (const piece of pieces) await p.ok('write', 'f', piece);
  const wanted = await p.ok('hash_of', pieces);
  assert.deepEqual(await p.ok('hash_handle', 'f'), wanted);
  await p.ok('close', 'f');
  await p.remount();
  assert.deepEqual(await p.ok('hash', p.at('file')), wanted);
  assert.deepEqual(await p.ok('mmap_hash', p.at('file'), 'read'), wanted);
});

const seed = testSeed();
for (const shape of SHAPES) {
  both(`random operations, ${shape.title}, MILLRACE_TEST_SEED=${seed}`, async (p) => {
    const draws = new Draws(seed);
    await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
    for (let count = 0; count < shape.operations; count += 1) await step(p, draws, shape);
    await p.ok('close', 'f');
    await p.remount();
    await p.ok('hash', p.at('file'));
  });
}
