/**
 * A region has a bounded number of extents, whatever its history; and one that has too many, as earlier versions have
 * made them, is read and joined. One worker, with a tree and movers that answer at once.
 */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import { descriptor, FRAME_BYTES, kind, REGION_BYTES, source } from '../../engine/layout.ts';
import { patchExtents } from '../../engine/tree/content.ts';
import type { Extent } from '../../engine/tree/types.ts';
import { doubleAt } from '../../workers/commands.ts';
import { Draws, testSeed } from '../support/random.ts';
import { behindSource, FakeEngine, FRAMES, type Sink } from './fake-engine.ts';

const SLOT = 3;
const REGION = 1;
const REQUEST = 7;
/** More than that no region may come to have: 2 * STRETCHES_MAX, and what one settle adds. */
const EXTENTS_BOUND = 1100;
/** Extents that a record of the tree can hold: 1 MiB, 48 bytes for each. */
const EXTENTS_STORED = 21_800;

/** One region of a file, byte by byte, with everything around its worker. */
class Rig implements Sink {
  readonly #engine = new FakeEngine();
  /** All frames; payloads are packed one behind the other. */
  readonly #slab: Buffer = Buffer.alloc(FRAMES * FRAME_BYTES);
  #landed = 0;
  readonly #chunks: Buffer[] = [Buffer.alloc(0)];
  /** What the region must hold; as far as it was written. */
  readonly content: Buffer = Buffer.alloc(REGION_BYTES);
  end = 0;
  extents: Extent[] = [];
  /** Chunks that cannot be read. */
  readonly unreadable: Set<number> = new Set();
  /** Plaintext that settles have stored. */
  storedBytes = 0;
  #jobs: { number: number; chunk: Buffer | undefined }[] = [];
  #queries: Extent[][] = [];
  #answer: Buffer | undefined;
  #syncs: number[] = [];
  #acknowledged = false;

  constructor() {
    this.#engine.listen(this);
    this.#open();
  }

  #open(): void {
    this.#engine.open(SLOT, (REGION + 1) * REGION_BYTES);
  }

  /** Puts `count` extents into the tree that cannot become one, of so many bytes each, behind what is there. */
  plant(count: number, bytes: number): void {
    const chunk = Buffer.alloc(count * bytes);
    for (let i = 0; i < chunk.length; i++) chunk[i] = (i * 31 + (i >>> 8)) & 0xff;
    const number = this.#chunks.push(chunk) - 1;
    for (let i = 0; i < count; i++) {
      const chunkOffset = (count - 1 - i) * bytes;
      chunk.copy(this.content, this.end, chunkOffset, chunkOffset + bytes);
      this.extents.push(this.#extent(this.end, bytes, number, chunkOffset));
      this.end += bytes;
    }
  }

  #extent(start: number, length: number, chunk: number, chunkOffset: number): Extent {
    const chunkLength = this.#chunks[chunk].length;
    const id = new Uint32Array(8).fill(chunk);
    return { offset: REGION * REGION_BYTES + start, length, chunkOffset, chunkLength, id };
  }

  write(start: number, bytes: Buffer): void {
    bytes.copy(this.content, start);
    this.end = Math.max(this.end, start + bytes.length);
    const room = FRAME_BYTES - (this.#landed % FRAME_BYTES);
    if (bytes.length > room) this.#landed += room;
    assert.ok(this.#landed + bytes.length <= this.#slab.length, 'the slab has room');
    bytes.copy(this.#slab, this.#landed);
    const word = this.#engine.begin(kind.PIECE, SLOT, REGION, start, bytes.length);
    this.#engine.memory.words[word + descriptor.A] = Math.floor(this.#landed / FRAME_BYTES);
    this.#engine.memory.words[word + descriptor.B] = this.#landed % FRAME_BYTES;
    this.#landed += bytes.length;
    this.#engine.handle();
  }

  append(bytes: Buffer): void {
    this.write(this.end, bytes);
  }

  /** What a SYNC ends with. */
  sync(): number {
    this.#syncs = [];
    const word = this.#engine.begin(kind.SYNC, SLOT, 0, 0, 0);
    this.#engine.memory.words[word + descriptor.A] = REQUEST;
    this.#engine.handle();
    this.#work();
    assert.equal(this.#syncs.length, 1, 'SYNC is answered once');
    return this.#syncs[0];
  }

  /** Has the worker forget the file, which must be stored. */
  drop(): void {
    this.#acknowledged = false;
    this.#engine.begin(kind.DROP, SLOT, 0, 0, 0);
    this.#engine.handle();
    this.#work();
    assert.ok(this.#acknowledged, 'the inode is forgotten');
    this.#open();
  }

  /** Has the worker free all frames that it can. */
  press(): void {
    this.#engine.pressure = true;
    this.#work();
    this.#engine.pressure = false;
  }

  readBack(start: number, bytes: number): Buffer {
    this.#answer = undefined;
    this.#engine.read(SLOT, REGION, start, bytes, REQUEST);
    this.#work();
    assert.ok(this.#answer !== undefined, 'READ is answered');
    return this.#answer;
  }

  /** Reads all of it as a kernel does, 1 MiB at a time. */
  check(): void {
    for (let at = 0; at < this.end; at += FRAME_BYTES) {
      const to = Math.min(at + FRAME_BYTES, this.end);
      assert.ok(
        this.readBack(at, to - at).equals(this.content.subarray(at, to)),
        `bytes from ${at}`,
      );
    }
  }

  /** Lets the tree and movers do all that they are asked for. */
  #work(): void {
    this.#engine.turn();
    while (this.#queries.length + this.#jobs.length > 0) {
      for (const extents of this.#queries.splice(0)) this.#tell(extents);
      for (const { number, chunk } of this.#jobs.splice(0)) {
        const id = chunk === undefined ? 0 : this.#chunks.push(chunk) - 1;
        this.#engine.settled(number, chunk === undefined ? constants.errno.EIO : 0, id);
      }
      this.#engine.turn();
    }
  }

  #tell(extents: readonly Extent[]): void {
    const { words } = this.#engine.memory;
    for (const extent of extents) {
      const start = extent.offset - REGION * REGION_BYTES;
      const word = this.#engine.begin(kind.KNOWN, SLOT, REGION, start, extent.length);
      words[word + descriptor.A] = extent.chunkLength;
      words[word + descriptor.B] = extent.chunkOffset;
      words.set(extent.id, word + descriptor.PAYLOAD);
      this.#engine.handle();
    }
    this.#engine.begin(kind.LOADED, SLOT, REGION, 0, 0);
    this.#engine.handle();
  }

  /** The bytes of a list of sources; undefined when one of them cannot be read. */
  #gather(words: Uint32Array, countAt: number): Buffer | undefined {
    const parts: Buffer[] = [];
    let at = countAt + 1;
    for (let i = 0; i < words[countAt]; i++) {
      if (words[at] === source.ZERO) parts.push(Buffer.alloc(words[at + 1]));
      else if (words[at] === source.FRAME) {
        const first = words[at + 1] * FRAME_BYTES + words[at + 2];
        parts.push(this.#slab.subarray(first, first + words[at + 3]));
      } else {
        const [offset, bytes, chunk] = [words[at + 1], words[at + 2], words[at + 3]];
        if (this.unreadable.has(chunk)) return undefined;
        parts.push(this.#chunks[chunk].subarray(offset, offset + bytes));
      }
      at = behindSource(words, at);
    }
    return Buffer.concat(parts);
  }

  settle(words: Uint32Array, at: number): void {
    const chunk = this.#gather(words, at + 3);
    if (chunk !== undefined) assert.equal(chunk.length, words[at + 2]);
    this.storedBytes += chunk?.length ?? 0;
    this.#jobs.push({ number: words[at], chunk });
  }

  read(words: Uint32Array, at: number): void {
    this.#answer = this.#gather(words, at + 5);
  }

  push(words: Uint32Array, at: number): void {
    const base = at - 1; // A descriptor's first word, its sequence, is not sent.
    const what = words[base + descriptor.KIND];
    if (what === kind.QUERY) {
      this.#queries.push(this.extents);
    } else if (what === kind.EXTENT) {
      const extent: Extent = {
        offset: doubleAt(words, base + descriptor.OFFSET),
        length: words[base + descriptor.LENGTH],
        chunkLength: words[base + descriptor.A],
        chunkOffset: words[base + descriptor.B],
        id: words.slice(base + descriptor.PAYLOAD, base + descriptor.WORDS),
      };
      this.extents = patchExtents(this.extents, { kind: 'extent', extent });
    } else {
      assert.equal(what, kind.ACK);
      this.#acknowledged = true;
    }
  }

  hold(): void {}
  free(): void {}

  inline(): void {
    assert.fail('nothing is inline here');
  }

  syncDone(_request: number, errno: number): void {
    this.#syncs.push(errno);
  }

  failed(request: number, errno: number): void {
    assert.fail(`READ ${request} failed with ${errno}`);
  }
}

/** A line of a log, of `bytes` bytes. */
function line(number: number, bytes: number): Buffer {
  return Buffer.from(`${number} `.padEnd(bytes - 1, '.').concat('\n'), 'latin1');
}

test('a log that is appended to line by line, and forgotten after each, has a bounded number of extents', (t) => {
  const rig = new Rig();
  let most = 0;
  const lines = 7000;
  for (let i = 0; i < lines; i++) {
    rig.append(line(i, 90));
    assert.equal(rig.sync(), 0);
    rig.drop();
    most = Math.max(most, rig.extents.length);
  }
  rig.check();
  rig.append(line(lines, 90));
  assert.equal(rig.sync(), 0);
  rig.check();
  const each = rig.storedBytes / lines;
  t.diagnostic(`${most} extents at most, ${each.toFixed(0)} bytes stored for each line`);
  assert.ok(most <= EXTENTS_BOUND, `${most} extents`);
  // A line must not store the whole log again: what was stored before is joined now and then.
  assert.ok(each < rig.end / 32, `${each} bytes for each line`);
});

test('so has one that stays open while frames are short', () => {
  const rig = new Rig();
  let most = 0;
  for (let i = 0; i < 3000; i++) {
    rig.append(line(i, 90));
    assert.equal(rig.sync(), 0);
    rig.press();
    most = Math.max(most, rig.extents.length);
  }
  rig.check();
  assert.ok(most <= EXTENTS_BOUND, `${most} extents`);
});

for (const isWhole of [true, false]) {
  const what = isWhole ? 'without a hole' : 'of holes';
  test(`random blocks of a region ${what} are stored without the others being stored each time`, (t) => {
    const seed = testSeed();
    const draws = new Draws(seed);
    const rig = new Rig();
    const block = 4096;
    if (isWhole) {
      for (let at = 0; at < REGION_BYTES; at += FRAME_BYTES)
        rig.write(at, Buffer.alloc(FRAME_BYTES, 1));
      assert.equal(rig.sync(), 0);
      rig.drop();
    }
    const before = rig.storedBytes;
    const writes = 2000;
    let most = 0;
    for (let i = 0; i < writes; i++) {
      rig.write(draws.below(REGION_BYTES / block) * block, Buffer.alloc(block, i));
      assert.equal(rig.sync(), 0);
      if (draws.below(8) === 0) rig.drop();
      most = Math.max(most, rig.extents.length);
    }
    rig.check();
    const each = (rig.storedBytes - before) / writes / block;
    t.diagnostic(
      `seed ${seed}: ${most} extents at most, ${each.toFixed(1)} blocks stored for each`,
    );
    assert.ok(most <= EXTENTS_BOUND, `${most} extents`);
    assert.ok(each < REGION_BYTES / block / 16, `${each} blocks for each`);
  });
}

for (const count of [3000, 6000, EXTENTS_STORED]) {
  test(`a region that has ${count} extents is read, and an append joins them`, () => {
    const rig = new Rig();
    rig.plant(count, 48);
    rig.check();
    rig.drop();
    rig.append(line(0, 90));
    assert.equal(rig.sync(), 0);
    assert.ok(rig.extents.length <= EXTENTS_BOUND, `${rig.extents.length} extents`);
    rig.check();
    rig.drop();
    rig.check();
  });

  test(`so is one that has ${count} extents when it is known already, and dirty`, () => {
    const rig = new Rig();
    rig.plant(count, 48);
    rig.check();
    rig.append(line(0, 90));
    rig.write(1000, line(1, 90));
    rig.check();
    assert.equal(rig.sync(), 0);
    assert.ok(rig.extents.length <= EXTENTS_BOUND, `${rig.extents.length} extents`);
    rig.check();
  });
}

test('where an extent cannot be read, what is written is stored all the same', () => {
  const rig = new Rig();
  rig.plant(80, 48);
  rig.unreadable.add(1);
  const first = rig.end;
  for (let i = 0; i < 500; i++) {
    rig.append(line(i, 90));
    assert.equal(rig.sync(), 0, `line ${i}`);
    if (i % 7 === 0) rig.drop();
  }
  assert.ok(rig.readBack(first, rig.end - first).equals(rig.content.subarray(first, rig.end)));
});
