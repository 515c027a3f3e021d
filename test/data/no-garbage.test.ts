/** WRITE, READ and the storing of whole regions allocate nothing: what a collector does not find it need not collect. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { FRAME_BYTES, REGION_BYTES } from '../../engine/layout.ts';
import { FakeEngine, type Sink } from './fake-engine.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const SLOT = 7;
/** Regions of the file; its first lies behind 4 GiB, where offsets are no small integers of V8 any more. */
const REGIONS = 64;
const FIRST = 1024;
const FRAMES_PER_REGION = REGION_BYTES / FRAME_BYTES;
/** Rounds of which one must be lean: until then the compiler may be at work, and on a busy machine it takes its time. */
const ROUNDS = 400;
const REQUESTS_PER_ROUND = 10_000;

/** Keeps what the worker asked for in fields and arrays of fixed length. */
class Counter implements Sink {
  readonly jobs: Int32Array = new Int32Array(1024);
  jobCount = 0;
  reads = 0;
  extents = 0;

  settle(words: Uint32Array, at: number): void {
    this.jobs[this.jobCount++] = words[at];
  }

  read(): void {
    this.reads += 1;
  }

  push(): void {
    this.extents += 1;
  }

  hold(): void {}
  free(): void {}
  inline(): void {}
  syncDone(): void {}
  failed(): void {}
}

class Stream {
  readonly #engine = new FakeEngine();
  readonly counter: Counter = new Counter();
  /** Bytes of one READ and of one WRITE. */
  readonly #bytes: number;
  #chunk = 1;

  constructor(bytes: number) {
    this.#bytes = bytes;
    this.#engine.listen(this.counter);
    this.#engine.open(SLOT, 0);
  }

  /** Writes regions whole, one after the other, each turn one request; has them stored while the next is written. */
  write(requests: number): void {
    const perRegion = REGION_BYTES / this.#bytes;
    for (let i = 0; i < requests; i++) {
      const region = Math.floor(i / perRegion) % REGIONS;
      const within = (i % perRegion) * this.#bytes;
      const frame = (region % 2) * FRAMES_PER_REGION + Math.floor(within / FRAME_BYTES);
      this.#engine.piece(SLOT, FIRST + region, within, this.#bytes, frame);
      this.#engine.turn();
      if (i % perRegion === 0) this.#reportJobs();
    }
    this.#reportJobs();
  }

  #reportJobs(): void {
    for (let j = 0; j < this.counter.jobCount; j++) {
      this.#engine.settled(this.counter.jobs[j], 0, this.#chunk++ & 0xff);
    }
    this.counter.jobCount = 0;
    this.#engine.turn();
  }

  /** Reads the file from its beginning on, again and again. */
  read(requests: number): void {
    const perRegion = REGION_BYTES / this.#bytes;
    for (let i = 0; i < requests; i++) {
      const region = Math.floor(i / perRegion) % REGIONS;
      const within = (i % perRegion) * this.#bytes;
      this.#engine.read(SLOT, FIRST + region, within, this.#bytes, 5);
      this.#engine.turn();
    }
  }

  /** Writes to a region and reads from it while it is stored, so that READs wait for that. */
  readWhileStored(requests: number): void {
    for (let i = 0; i < requests; i += 2 * FRAMES_PER_REGION) {
      for (let k = 0; k < FRAMES_PER_REGION; k++) {
        this.#engine.piece(SLOT, FIRST, k * FRAME_BYTES, FRAME_BYTES, k);
      }
      for (let k = 0; k < FRAMES_PER_REGION; k++) {
        this.#engine.read(SLOT, FIRST, k * FRAME_BYTES, FRAME_BYTES, k);
      }
      this.#engine.turn();
      this.#reportJobs();
    }
  }
}

/** The smallest object of V8 has 16 bytes: one for each whole region that is stored would be 4 bytes for a WRITE of 1 MiB. */
const LIMIT_BYTES = 1;

/** Bytes that one request leaves on the heap, in the first lean round, or else in the leanest. */
function bytesPerRequest(round: (requests: number) => void): number {
  let leanest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < ROUNDS && leanest >= LIMIT_BYTES; i++) {
    collect();
    const before = process.memoryUsage().heapUsed;
    round(REQUESTS_PER_ROUND);
    const each = (process.memoryUsage().heapUsed - before) / REQUESTS_PER_ROUND;
    // Less than before: it was collected meanwhile, so that the difference tells nothing.
    if (each >= 0) leanest = Math.min(leanest, each);
  }
  return leanest;
}

function assertLean(name: string, bytes: number): void {
  assert.ok(bytes < LIMIT_BYTES, `${name}: ${bytes.toFixed(1)} bytes for each request`);
}

test('what is measured is seen', () => {
  const kept: object[] = [];
  const bytes = bytesPerRequest((requests) => {
    kept.length = 0;
    for (let i = 0; i < requests; i++) kept.push({ i });
  });
  assert.ok(bytes >= 16, `${bytes} bytes for each object`);
});

for (const bytes of [FRAME_BYTES, 128 * 1024]) {
  const kib = `${bytes / 1024} KiB`;
  test(`a stream of writes of ${kib} leaves no garbage`, (t) => {
    const stream = new Stream(bytes);
    const each = bytesPerRequest((requests) => stream.write(requests));
    t.diagnostic(`${each.toFixed(2)} bytes for each request`);
    assert.ok(stream.counter.extents > 0, 'regions were stored');
    assertLean('writes', each);
  });

  test(`a stream of reads of ${kib} leaves no garbage`, (t) => {
    const stream = new Stream(bytes);
    stream.write((REGIONS * REGION_BYTES) / bytes);
    const each = bytesPerRequest((requests) => stream.read(requests));
    t.diagnostic(`${each.toFixed(2)} bytes for each request`);
    assert.ok(stream.counter.reads > 0, 'READs were answered');
    assertLean('reads', each);
  });
}

test('reads that wait for a chunk leave no garbage', (t) => {
  const stream = new Stream(FRAME_BYTES);
  const each = bytesPerRequest((requests) => stream.readWhileStored(requests));
  t.diagnostic(`${each.toFixed(2)} bytes for each request`);
  assert.ok(stream.counter.reads > 0, 'READs were answered');
  assertLean('reads', each);
});
