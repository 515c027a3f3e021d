import assert from 'node:assert/strict';
import { family } from '../support/family.ts';
import type { Outcome } from '../support/syscalls.ts';

const KIB = 1_024;
const MIB = 1_048_576;
const SIZES = [0, 1, 4_095, 4_096, 4_097, 16 * KIB, MIB - 1, MIB, MIB + 1, 4 * MIB - 1].concat(
  4 * MIB,
  4 * MIB + 1,
  9 * MIB + 17,
);

const { both } = family();

both('down and up again to every boundary: what was cut reads as zeros', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  for (const size of SIZES) {
    await p.ok('pwrite', 'f', { seed: size, length: 10 * MIB }, 0);
    await p.ok('ftruncate', 'f', size);
    await p.ok('fstat', 'f');
    await p.ok('ftruncate', 'f', 10 * MIB);
    const zeros = { zeros: 10 * MIB - size };
    assert.equal(await p.ok('pread_expect', 'f', zeros, size), true, `beyond ${size}`);
    await p.ok('hash_handle', 'f');
  }
});

both('the same of files that are stored and closed', async (p) => {
  for (const size of SIZES) {
    await p.ok('open', 'f', p.at(`file-${size}`), ['O_RDWR', 'O_CREAT']);
    await p.ok('write', 'f', { seed: 7, length: 9 * MIB + 4_000 });
    await p.ok('fsync', 'f');
    await p.ok('close', 'f');
    await p.ok('truncate', p.at(`file-${size}`), size);
    await p.ok('hash', p.at(`file-${size}`));
  }
  await p.remount();
  for (const size of SIZES) {
    await p.ok('hash', p.at(`file-${size}`));
    await p.ok('truncate', p.at(`file-${size}`), size + 5_000);
    await p.ok('hash', p.at(`file-${size}`));
    await p.ok('unlink', p.at(`file-${size}`));
  }
});

both('up from nothing makes holes of any size, also beyond 4 GiB', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  for (const size of [1, 4_097, 5 * MIB, 5 * 1_024 * MIB + 3, 1_024 * 1_024 * MIB]) {
    await p.ok('ftruncate', 'f', size);
    await p.ok('fstat', 'f');
    await p.ok('pread', 'f', 100, Math.max(0, size - 50));
    await p.ok('pwrite', 'f', 'tail', size + 3);
    assert.equal(await p.ok('pread', 'f', 100, size), '\0\0\0tail');
  }
  await p.ok('ftruncate', 'f', 10_000);
  await p.ok('hash_handle', 'f');
});

both('a truncate between two writes of one region keeps their order', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  for (let round = 0; round < 30; round += 1) {
    const length = 50_000 + round * 997;
    await p.ok('pwrite', 'f', { seed: round, length }, 10_000);
    await p.ok('ftruncate', 'f', 20_000 + round);
    await p.ok('pwrite', 'f', { seed: round + 1, length: 3_000 }, 90_000);
    await p.ok('hash_handle', 'f');
  }
});

both('through one name while another descriptor writes', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  await p.ok('write', 'f', { seed: 1, length: 6 * MIB });
  await p.ok('truncate', p.at('file'), 5_000);
  await p.ok('write', 'f', { seed: 2, length: 100 });
  await p.ok('fstat', 'f');
  await p.ok('hash', p.at('file'));
});

both('what cannot be truncated says why', async (p) => {
  await p.ok('mkdir', p.at('directory'));
  await p.ok('open', 'r', p.at('file'), ['O_RDONLY', 'O_CREAT']);
  await p.fails('EISDIR', 'truncate', p.at('directory'), 0);
  await p.fails('ENOENT', 'truncate', p.at('missing'), 0);
  await p.fails('EINVAL', 'ftruncate', 'r', 0);
  await p.fails('EINVAL', 'truncate', p.at('file'), -1);
});

both('fallocate reserves, or says that it cannot', async (p) => {
  await p.own('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  const outcome = await p.process().call('truncate', p.at('file'), 0);
  assert.deepEqual(outcome, { value: null });
  await p.own('pwrite', 'f', { seed: 1, length: 10_000 }, 0);
  const [reserve] = (await p.own('batch', [['fallocate', 'f', 0, 0, 3 * MIB]])) as Outcome[];
  // Linux has one number for both names.
  if ('errno' in reserve!) assert.ok(['ENOTSUP', 'EOPNOTSUPP'].includes(reserve.errno));
  await p.ok('ftruncate', 'f', 3 * MIB);
  await p.ok('hash_handle', 'f');
});

both('a copy that skips holes is whole', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  for (const offset of [3, 4 * MIB - 10, 9 * MIB + 5, 20 * MIB]) {
    await p.ok('pwrite', 'f', { seed: offset, length: 70_001 }, offset);
  }
  await p.ok('ftruncate', 'f', 24 * MIB + 3);
  await p.ok('sparse_hash', p.at('file'));
  await p.ok('fsync', 'f');
  const copied = await p.ok('sparse_hash', p.at('file'));
  assert.deepEqual(await p.ok('hash', p.at('file')), copied);
});

/** FALLOC_FL_PUNCH_HOLE with FALLOC_FL_KEEP_SIZE. */
const PUNCH = 3;

both(
  'holes are punched while writes are queued, in flight and stored',
  async (p) => {
    await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
    for (let part = 0; part < 12; part++) {
      await p.ok('pwrite', 'f', { seed: part, length: MIB + 17 }, part * (MIB + 17));
    }
    await p.ok('fallocate', 'f', PUNCH, 3 * MIB + 5, 2 * MIB);
    await p.ok('fallocate', 'f', PUNCH, 100, 50);
    await p.ok('fallocate', 'f', PUNCH, 11 * MIB, 40 * MIB);
    await p.ok('hash_handle', 'f');
    await p.ok('pwrite', 'f', { seed: 90, length: 5000 }, 4 * MIB - 300);
    await p.ok('hash_handle', 'f');
    await p.ok('fsync', 'f');
    await p.ok('fallocate', 'f', PUNCH, 0, 4 * MIB);
    await p.ok('fallocate', 'f', PUNCH, 8 * MIB - 1, 2);
    await p.ok('hash_handle', 'f');
    await p.ok('close', 'f');
    await p.remount();
    await p.ok('hash', p.at('file'));
  },
  { needs: 'holes' },
);

both(
  'a hole in a small file',
  async (p) => {
    await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
    await p.ok('pwrite', 'f', { seed: 1, length: 3000 }, 0);
    await p.ok('fallocate', 'f', PUNCH, 10, 500);
    await p.ok('hash_handle', 'f');
    await p.ok('fsync', 'f');
    await p.ok('fallocate', 'f', PUNCH, 1000, 700);
    await p.ok('fallocate', 'f', PUNCH, 2500, 9000);
    await p.ok('hash_handle', 'f');
    await p.ok('close', 'f');
    await p.remount();
    await p.ok('hash', p.at('file'));
  },
  { needs: 'holes' },
);
