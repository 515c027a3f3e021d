import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as breath } from 'node:timers/promises';
import { REGION_BYTES } from '../../engine/layout.ts';
import type { ChunkCollection, SweepReport } from '../../engine/native.ts';
import type { ContentChange, Extent } from '../../engine/tree/types.ts';
import { Collection } from '../../workers/collection.ts';
import type { CollectionOutcome } from '../../workers/task.ts';
import { GarbageCollector } from '../../workers/tree/garbage-collector.ts';
import type { OpenInode } from '../../workers/tree/slots.ts';
import { file, newFixture, ok } from './fixture.ts';

const SWEPT: SweepReport = {
  used: 0,
  usedBytes: 0,
  young: 0,
  youngBytes: 0,
  deleted: 0,
  deletedBytes: 0,
};
/** Regions that the shortest step reads. */
const STEP_REGIONS = 64;
const ORDER = { graceSeconds: 0, dryRun: false };

/** An extent that is all of a region, of the chunk whose id begins with a number. */
function extent(region: number, chunk: number): Extent {
  const id = new Uint32Array(8).fill(chunk);
  const offset = region * REGION_BYTES;
  return { offset, length: REGION_BYTES, chunkOffset: 0, chunkLength: REGION_BYTES, id };
}

/** A collector whose surroundings do what a test says; what it does is told in order. */
class Bench {
  readonly fixture = newFixture();
  readonly told: string[] = [];
  readonly kept = new Set<number>();
  readonly pending: ContentChange[] = [];
  readonly collector: GarbageCollector;
  /** What is waited for, oldest first. */
  readonly waiting: (() => void)[] = [];
  sweep: () => Promise<SweepReport> = () => Promise.resolve(SWEPT);
  #reclaims = 2;

  constructor() {
    const chunks: ChunkCollection = {
      keep: (words) => {
        for (let at = 0; at < words.length; at += 8) this.kept.add(words[at] as number);
      },
      sweep: () => {
        this.told.push('sweep');
        return this.sweep();
      },
      cancel: () => this.told.push('cancel'),
      end: () => this.told.push('end'),
    };
    const later =
      (what: string) =>
      (done: () => void): void => {
        this.told.push(what);
        this.waiting.push(done);
      };
    const open = { pending: this.pending } as unknown as OpenInode;
    const { tree, kv } = this.fixture;
    let quiesced: () => void = () => {};
    this.collector = new GarbageCollector({
      tree,
      kv: {
        sync: () => {
          this.told.push('sync');
          return kv.sync();
        },
      },
      slots: { all: () => [open].values() },
      barriers: {
        open: (_, done) => {
          quiesced = () => done(0);
          return 7;
        },
      },
      commands: {
        quiesce: (token) => {
          assert.equal(token, 7);
          later('quiesce')(() => quiesced());
        },
      },
      owners: {
        expect: (_, done) => {
          later('fence')(() => done(0));
          return 8;
        },
        tell: () => {},
      },
      afterCopies: later('copies'),
      dropForgotten: () => this.told.push('forget'),
      reclaimSome: () => {
        this.told.push('reclaim');
        this.#reclaims -= 1;
        return this.#reclaims > 0;
      },
      begin: () => {
        this.told.push('begin');
        return new Collection(chunks);
      },
      wake: () => {},
    });
  }

  collect(): Promise<CollectionOutcome> {
    return new Promise((resolve) => this.collector.collect(ORDER, resolve));
  }

  /** What is waited for has come to pass. */
  go(): void {
    const done = this.waiting.shift();
    assert.ok(done !== undefined, `nothing is waited for after ${this.told.join(', ')}`);
    done();
  }

  /** Until the mark is about to begin. */
  clear(): void {
    this.go();
    while (this.collector.step(1));
    this.go();
    this.go();
    assert.ok(this.collector.hasWork);
  }

  /** From the end of the mark to that of the collection. */
  async finish(): Promise<void> {
    while (this.collector.step(100));
    await breath();
    for (let waits = 0; waits < 3; waits++) this.go();
    await breath();
  }
}

test('a collection takes its steps in order, each when the one before has ended', async () => {
  const bench = new Bench();
  const { tree } = bench.fixture;
  const ino = file(tree, 1, 'file');
  const changes: ContentChange[] = [{ kind: 'extent', extent: extent(0, 1) }];
  ok(
    tree.applyContent(ino, changes, { size: REGION_BYTES, mtime: { seconds: 0, nanoseconds: 0 } }),
  );
  bench.pending.push(
    { kind: 'extent', extent: extent(1, 2) },
    { kind: 'discard', offset: 0, length: 1 },
  );
  const [first, second] = [bench.collect(), bench.collect()];
  assert.ok(bench.collector.mayBeUseful);
  bench.clear();
  assert.deepEqual(bench.told.splice(0), [
    'forget',
    'fence',
    'reclaim',
    'reclaim',
    'begin',
    'quiesce',
    'fence',
  ]);
  await bench.finish();
  assert.deepEqual(bench.told.splice(0, 6), ['sync', 'copies', 'fence', 'quiesce', 'sweep', 'end']);
  assert.deepEqual(await first, { swept: SWEPT });
  assert.deepEqual([...bench.kept].sort(), [1, 2]);
  assert.equal(bench.collector.mayBeUseful, false);
  // The second one begins when the first one has ended.
  assert.deepEqual(bench.told.splice(0), ['forget', 'fence']);
  bench.clear();
  await bench.finish();
  assert.deepEqual(await second, { swept: SWEPT });
});

test('a copy keeps what the mark would miss', async () => {
  const bench = new Bench();
  const { tree } = bench.fixture;
  const [low, high] = [file(tree, 1, 'low'), file(tree, 1, 'high')];
  const regions = 2 * STEP_REGIONS;
  const mtime = { seconds: 0, nanoseconds: 0 };
  const content = Array.from({ length: regions }, (_, region): ContentChange => {
    return { kind: 'extent', extent: extent(region, 100 + region) };
  });
  ok(tree.applyContent(high, content, { size: regions * REGION_BYTES, mtime }));
  const collected = bench.collect();
  bench.clear();
  // The low file, and a part of the high one, are behind then.
  assert.ok(bench.collector.step(0));
  const last = regions - 1;
  const range = {
    source: high,
    from: last * REGION_BYTES,
    length: REGION_BYTES,
    target: low,
    to: 0,
  };
  const copied = tree.copiedContent(range);
  assert.ok(typeof copied !== 'number');
  bench.collector.keep(copied.changes);
  ok(tree.applyContent(low, copied.changes, { size: REGION_BYTES, mtime }));
  ok(tree.setattr(high, { size: 0 }));
  await bench.finish();
  assert.deepEqual(await collected, { swept: SWEPT });
  assert.ok(bench.kept.has(100 + last));
  assert.ok(!bench.kept.has(100 + last - 1), 'the mark has seen all: this proves nothing');
});

test('what fails ends the collection, and not the next one', async () => {
  const bench = new Bench();
  bench.sweep = () => Promise.reject(new Error('the disk is gone'));
  const first = bench.collect();
  bench.clear();
  await bench.finish();
  assert.deepEqual(await first, { failure: 'the disk is gone' });
  assert.ok(bench.collector.mayBeUseful);
  assert.equal(bench.told.at(-1), 'end');
  bench.sweep = () => Promise.resolve({ ...SWEPT, young: 1 });
  const second = bench.collect();
  bench.clear();
  await bench.finish();
  assert.ok('swept' in (await second));
  assert.ok(bench.collector.mayBeUseful, 'what was too young is garbage still');
});

test('an end waits for the sweep alone, and whoever asks then is refused', async () => {
  const bench = new Bench();
  let stop: (error: Error) => void = () => {};
  bench.sweep = () =>
    new Promise((_, reject) => {
      stop = reject;
    });
  const outcomes = [bench.collect(), bench.collect()];
  bench.clear();
  while (bench.collector.step(100));
  await breath();
  for (let waits = 0; waits < 3; waits++) bench.go();
  assert.equal(bench.told.at(-1), 'sweep');
  const closed = bench.collector.close();
  assert.equal(bench.told.at(-1), 'cancel');
  stop(new Error('cancelled'));
  await closed;
  assert.equal(bench.told.at(-1), 'end');
  for (const outcome of [...outcomes, bench.collect()]) assert.ok('failure' in (await outcome));
  const other = new Bench();
  const waits = other.collect();
  await other.collector.close();
  assert.deepEqual(await waits, { failure: 'the mount ends' });
  other.go();
  assert.deepEqual(other.told, ['forget', 'fence'], 'what arrives late goes on with nothing');
});
