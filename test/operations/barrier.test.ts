import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { inode, kind, REGION_BYTES } from '../../engine/layout.ts';
import { file } from '../tree/fixture.ts';
import { INTERVAL_MS, TreeBench } from './tree-bench.ts';

test("the slot of a file that is being committed becomes nobody else's", (context) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  context.after(() => mock.timers.reset());
  const bench = new TreeBench(INTERVAL_MS);
  const first = file(bench.tree, 1, 'first');
  const slot = bench.open(first, 9);
  bench.memory.doubles[bench.memory.inodeWord(slot, inode.SIZE) >>> 1] = 2 * REGION_BYTES;
  bench.memory.words[bench.memory.inodeWord(slot, inode.WRITES)] = 1;
  bench.extent(slot, 1);
  bench.close(slot, 8);
  // What a tick does: closed files are dropped, and everything is committed.
  bench.tick();
  bench.acknowledge(kind.DROP);
  const [drop] = bench.barriers;
  bench.acknowledge(kind.SETTLE_ALL);
  bench.pass(drop);
  const second = file(bench.tree, 1, 'second');
  bench.open(second, 9);
  if (bench.barriers.length > 1) bench.pass();
  const attributes = bench.tree.getattr(first);
  assert.ok(typeof attributes !== 'number');
  assert.equal(attributes.size, 2 * REGION_BYTES);
  assert.deepEqual(bench.stored(first), [1]);
  // Once nothing is under way, the slot is given back: the next file gets it.
  bench.tick();
  bench.acknowledge(kind.DROP);
  assert.equal(bench.open(file(bench.tree, 1, 'third'), 9), slot);
  bench.worker.stop();
});

test('a close of many regions is made durable by the next tick, though it was written back at once', async (context) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  context.after(() => mock.timers.reset());
  const bench = new TreeBench(INTERVAL_MS);
  const slot = bench.open(file(bench.tree, 1, 'large'), 9);
  const regions = 300;
  bench.memory.doubles[bench.memory.inodeWord(slot, inode.SIZE) >>> 1] = regions * REGION_BYTES;
  bench.memory.words[bench.memory.inodeWord(slot, inode.WRITES)] = 1;
  bench.tick();
  bench.acknowledge(kind.SETTLE_ALL);
  await setImmediate();
  const before = bench.below.syncs;
  for (let region = 0; region < regions; region++) bench.extent(slot, region);
  bench.flush(slot, 1);
  bench.pass();
  assert.equal(bench.kv.isUnflushed, false, 'nothing was written back: this shows nothing');
  bench.close(slot, 8);
  bench.tick();
  bench.acknowledge(kind.SETTLE_ALL);
  assert.equal(bench.below.syncs, before + 1);
  bench.worker.stop();
});

test('two commits behind one barrier name only chunks that were stored before it', () => {
  const bench = new TreeBench();
  const ino = file(bench.tree, 1, 'file');
  const slot = bench.open(ino, 9);
  bench.memory.doubles[bench.memory.inodeWord(slot, inode.SIZE) >>> 1] = 4 * REGION_BYTES;
  bench.extent(slot, 1);
  bench.flush(slot, 1);
  bench.extent(slot, 2);
  bench.flush(slot, 2);
  bench.flush(slot, 3);
  bench.pass();
  assert.deepEqual([bench.stored(ino), bench.answered], [[1], [1]]);
  assert.equal(bench.barriers.length, 2);
  // This chunk's name may not be durable when the second barrier ends.
  bench.extent(slot, 3);
  bench.pass();
  assert.deepEqual(
    [bench.stored(ino), bench.answered],
    [
      [1, 2],
      [1, 2, 3],
    ],
  );
  bench.flush(slot, 4);
  bench.pass();
  assert.deepEqual(
    [bench.stored(ino), bench.answered],
    [
      [1, 2, 3],
      [1, 2, 3, 4],
    ],
  );
  bench.worker.stop();
});
