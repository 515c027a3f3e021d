import assert from 'node:assert/strict';
import { family, type Place } from '../support/family.ts';

const HEAD_BYTES = 8_256;
const TENSOR_BYTES = 16_777_280;
const TENSORS = 6;

type Piece = { seed: number; length: number };

/** The writes of torch.save: records of a zip archive, so that every offset is unaligned. */
function torchPieces(): Piece[] {
  const tensors = Array.from({ length: TENSORS }, (_, number) => [
    { seed: 2 * number, length: HEAD_BYTES + (number % 3) * 61 },
    { seed: 2 * number + 1, length: TENSOR_BYTES },
  ]);
  return [...tensors.flat(), { seed: 99, length: 4_713 }];
}

async function readBack(p: Place, name: string, pieces: Piece[]): Promise<void> {
  const wanted = await p.ok('hash_of', pieces);
  assert.deepEqual(await p.ok('mmap_hash', p.at(name), 'read'), wanted);
  assert.deepEqual(await p.ok('mmap_hash', p.at(name), 'private'), wanted);
  assert.deepEqual(await p.ok('hash', p.at(name)), wanted);
}

const { both } = family();

both('as torch.save writes: unaligned writes of 16 MiB, no fsync, close', async (p) => {
  const pieces = torchPieces();
  await p.ok('open', 'f', p.at('model.pt'), ['O_WRONLY', 'O_CREAT', 'O_TRUNC']);
  for (let index = 0; index + 1 < pieces.length; index += 2) {
    await p.ok('writev', 'f', pieces.slice(index, index + 2));
  }
  await p.ok('write', 'f', pieces.at(-1));
  await p.ok('close', 'f');
  await p.remount();
  await readBack(p, 'model.pt', pieces);
});

both('as torch.load reads: the end first, then heads and whole tensors', async (p) => {
  const pieces = torchPieces();
  await p.ok('open', 'f', p.at('model.pt'), ['O_WRONLY', 'O_CREAT', 'O_TRUNC']);
  for (const piece of pieces) await p.ok('write', 'f', piece);
  await p.ok('close', 'f');
  await p.ok('open', 'r', p.at('model.pt'), ['O_RDONLY']);
  const size = pieces.reduce((sum, { length }) => sum + length, 0);
  await p.ok('pread', 'r', 4_096, size - 4_096);
  let offset = 0;
  for (const piece of pieces) {
    await p.ok('pread', 'r', 4_096, offset);
    assert.equal(await p.ok('pread_expect', 'r', piece, offset), true);
    offset += piece.length;
  }
});

both('as safetensors writes: final size first, rename while open, close', async (p) => {
  const pieces = torchPieces();
  const size = pieces.reduce((sum, { length }) => sum + length, 0);
  await p.ok('open', 'f', p.at('.tmp-1'), ['O_RDWR', 'O_CREAT', 'O_EXCL'], 0o600);
  await p.ok('ftruncate', 'f', size);
  for (const piece of pieces) await p.ok('write', 'f', piece);
  await p.ok('rename', p.at('.tmp-1'), p.at('model.safetensors'));
  await p.ok('close', 'f');
  assert.deepEqual(await p.ok('readdir', p.root), ['model.safetensors']);
  await p.remount();
  await readBack(p, 'model.safetensors', pieces);
});

both('a newer checkpoint replaces one that is mapped and read', async (p) => {
  const first = [{ seed: 1, length: 12_000_011 }];
  const second = [{ seed: 2, length: 13_000_003 }];
  for (const [name, pieces] of [
    ['latest', first],
    ['next', second],
  ] as const) {
    await p.ok('open', 'f', p.at(name), ['O_WRONLY', 'O_CREAT']);
    await p.ok('write', 'f', pieces[0]);
    await p.ok('close', 'f');
  }
  await p.ok('open', 'old', p.at('latest'), ['O_RDONLY']);
  await p.ok('rename', p.at('next'), p.at('latest'));
  assert.deepEqual(await p.ok('hash_handle', 'old'), await p.ok('hash_of', first));
  await readBack(p, 'latest', second);
});

both('four writers of shards at once', async (p) => {
  const shards = [0, 1, 2, 3].map((shard) => ({
    path: p.at(`shard-${shard}`),
    seed: 1_000 * shard,
    process: p.process(),
  }));
  await Promise.all(
    shards.map(({ path, seed, process }) =>
      process.ok('write_and_sync', path, seed, 5, 3_000_017, false),
    ),
  );
  await p.remount();
  for (const { path, seed } of shards) {
    const pieces = [0, 1, 2, 3, 4].map((n) => ({ seed: seed + n, length: 3_000_017 }));
    assert.deepEqual(await p.ok('hash', path), await p.ok('hash_of', pieces));
  }
});
