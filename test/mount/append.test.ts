import assert from 'node:assert/strict';
import { family } from '../support/family.ts';

const TAGS = ['a', 'b', 'c', 'd', 'e', 'f'];

const { both } = family();

for (const [length, count] of [
  [100, 300],
  [4_096, 150],
  [33_333, 60],
  [131_072, 24],
] as const) {
  both(`records of ${length} bytes from six processes: none lost, none torn`, async (p) => {
    const writers = TAGS.map((tag) => ({ tag, process: p.process() }));
    const path = p.at('log');
    await Promise.all(
      writers.map(({ tag, process }) => process.ok('append_records', path, tag, count, length)),
    );
    assert.equal(await p.ok('check_records', path, TAGS, count, length), 'whole');
    await p.remount();
    assert.equal(await p.ok('check_records', path, TAGS, count, length), 'whole');
    await p.ok('unlink', path);
  });
}

both('appends beside a truncate to nothing lose no later record', async (p) => {
  const writer = p.process();
  await p.ok('append_records', p.at('log'), 'a', 50, 1_000);
  await p.ok('truncate', p.at('log'), 0);
  await writer.ok('append_records', p.at('log'), 'b', 50, 1_000);
  assert.equal(await p.ok('check_records', p.at('log'), ['b'], 50, 1_000), 'whole');
});

both('an append behind an fsync goes on in the partial chunk', async (p) => {
  await p.ok('open', 'f', p.at('log'), ['O_WRONLY', 'O_CREAT', 'O_APPEND']);
  const laid = [];
  for (let round = 0; round < 40; round += 1) {
    const piece = { seed: round, length: 1 + round * 811 };
    laid.push(piece);
    await p.ok('write', 'f', piece);
    await p.ok(round % 2 === 0 ? 'fsync' : 'fdatasync', 'f');
  }
  assert.deepEqual(await p.ok('hash', p.at('log')), await p.ok('hash_of', laid));
});

both('an append by a new process each time', async (p) => {
  const laid = [];
  for (let round = 0; round < 12; round += 1) {
    const process = p.process();
    const piece = { seed: round, length: 700_001 };
    laid.push(piece);
    await process.ok('open', 'f', p.at('log'), ['O_WRONLY', 'O_CREAT', 'O_APPEND']);
    await process.ok('write', 'f', piece);
    await process.close();
  }
  assert.deepEqual(await p.ok('hash', p.at('log')), await p.ok('hash_of', laid));
});

both('writev appends as one record', async (p) => {
  await p.ok('open', 'f', p.at('log'), ['O_WRONLY', 'O_CREAT', 'O_APPEND']);
  const pieces = ['head', { seed: 1, length: 5_000 }, 'x', { seed: 2, length: 300_000 }];
  assert.equal(await p.ok('writev', 'f', pieces), 305_005);
  assert.deepEqual(await p.ok('hash', p.at('log')), await p.ok('hash_of', pieces));
});
