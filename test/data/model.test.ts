/**
 * Random histories of one data worker beside an oracle: what is read was written, no frame is used after it was given
 * back or kept for ever, and what the tree is told is the file. Movers and the tree answer late and in any order; some
 * settles fail. MILLRACE_TEST_SEED repeats a history.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { descriptor, FRAME_BYTES, kind, NONE, REGION_BYTES, source } from '../../engine/layout.ts';
import { patchExtents } from '../../engine/tree/content.ts';
import type { Extent } from '../../engine/tree/types.ts';
import { doubleAt } from '../../workers/commands.ts';
import { Draws, testSeed } from '../support/random.ts';
import { behindSource, FakeEngine, FRAMES, type Sink } from './fake-engine.ts';

const SLOT = 3;
const BLOCK = 65_536;
const BLOCKS_PER_FRAME = FRAME_BYTES / BLOCK;
const BLOCKS_PER_REGION = REGION_BYTES / BLOCK;
const REGIONS = 3;
const BLOCKS = REGIONS * BLOCKS_PER_REGION;
/** How often the file is opened, and what happens in between until it is closed and forgotten. */
const LIVES = 8;
const STEPS = 400;
/** The token of a DROP of a file that is used on. */
const REOPENED = 0xfffe_0000;
/** What a frame that nobody owns holds. */
const POISON = -1;

/** A settle job that the movers have. */
interface Job {
  number: number;
  inPlace: boolean;
  bytes: number;
  /** Copy of its sources: count, then the words. */
  sources: Uint32Array;
}

/** A file of one block in 64 KiB, whose blocks hold the number of the write that they came with; 0 is a hole. */
class Model implements Sink {
  readonly #draws: Draws;
  readonly #engine = new FakeEngine();
  readonly #counts = new Int32Array(FRAMES);
  readonly #frames = new Int32Array(FRAMES * BLOCKS_PER_FRAME).fill(POISON);
  readonly #chunks: number[][] = [[]];
  /** What the tree was told. */
  #extents: Extent[] = [];
  /** All values that each block has had. */
  readonly #history: number[][] = Array.from({ length: BLOCKS }, () => [0]);
  /** READs: where they begin, and how long the histories of their blocks were then. */
  readonly #reads: { block: number; since: number[] }[] = [];
  #answered = 0;
  #jobs: Job[] = [];
  /** What the tree will tell, as it was when it was asked. */
  #queries: { region: number; extents: Extent[] }[] = [];
  readonly #discards = new Map<number, { offset: number; length: number }>();
  #syncs = 0;
  #dropped = false;
  #writes = 0;
  /** The frame that payloads are packed into, and how much of it is used. */
  #packed = NONE;
  #used = 0;

  constructor(seed: number) {
    this.#draws = new Draws(seed);
    this.#engine.listen(this);
    this.#engine.open(SLOT, BLOCKS * BLOCK);
  }

  run(): void {
    for (let life = 0; life < LIVES; life++) {
      for (let step = 0; step < STEPS; step++) {
        this.#step();
        if (this.#draws.below(3) > 0) this.#turn();
      }
      this.#close();
    }
  }

  #step(): void {
    const drawn = this.#draws.below(100);
    if (drawn < 45) this.#write();
    else if (drawn < 65) this.#read();
    else if (drawn < 68) this.#discard();
    else if (drawn < 70) this.#sync();
    else if (drawn < 90) this.#endJob(this.#draws.below(10) > 0 ? 0 : 28);
    else if (drawn < 93) this.#answerQuery();
    else if (drawn < 94) this.#drop(REOPENED);
  }

  #turn(): void {
    this.#engine.turn();
  }

  // ---- what fronts and the tree send ----

  #write(): void {
    const region = this.#draws.below(REGIONS);
    // Mostly whole frames, one behind the other, so that regions become full.
    const isStream = this.#draws.below(4) > 0;
    const start = isStream
      ? this.#draws.below(BLOCKS_PER_REGION / BLOCKS_PER_FRAME) * BLOCKS_PER_FRAME
      : this.#draws.below(BLOCKS_PER_REGION);
    const room = Math.min(BLOCKS_PER_FRAME, BLOCKS_PER_REGION - start);
    const blocks = isStream ? room : 1 + this.#draws.below(room);
    const frame = this.#land(blocks);
    const at = this.#used - blocks;
    for (let i = 0; i < blocks; i++) {
      this.#writes += 1;
      this.#frames[frame * BLOCKS_PER_FRAME + at + i] = this.#writes;
      this.#history[region * BLOCKS_PER_REGION + start + i].push(this.#writes);
    }
    const word = this.#engine.begin(kind.PIECE, SLOT, region, start * BLOCK, blocks * BLOCK);
    this.#engine.memory.words[word + descriptor.A] = frame;
    this.#engine.memory.words[word + descriptor.B] = at * BLOCK;
    this.#engine.handle();
  }

  /** A frame with room for a payload behind what is packed, with one count for it. */
  #land(blocks: number): number {
    if (this.#packed === NONE || this.#used + blocks > BLOCKS_PER_FRAME) {
      this.#unpack();
      this.#packed = this.#freeFrame();
      this.#counts[this.#packed] += 1;
      this.#used = 0;
    }
    this.#used += blocks;
    this.#counts[this.#packed] += 1;
    return this.#packed;
  }

  /** The front holds the frame that it packs payloads into, too. */
  #unpack(): void {
    if (this.#packed !== NONE) this.free(this.#packed);
    this.#packed = NONE;
  }

  #freeFrame(): number {
    for (let tries = 0; tries < 100; tries++) {
      const frame = this.#counts.indexOf(0);
      if (frame >= 0) return frame;
      this.#engine.pressure = true;
      this.#turn();
      this.#engine.pressure = false;
      this.#sync();
      while (this.#queries.length > 0) this.#answerQuery();
      while (this.#jobs.length > 0) this.#endJob(0);
      this.#turn();
    }
    throw new Error('frames do not come free');
  }

  #read(): void {
    const region = this.#draws.below(REGIONS);
    const start = this.#draws.below(BLOCKS_PER_REGION);
    const blocks = 1 + this.#draws.below(Math.min(BLOCKS_PER_FRAME, BLOCKS_PER_REGION - start));
    const block = region * BLOCKS_PER_REGION + start;
    const since = this.#history.slice(block, block + blocks).map((values) => values.length - 1);
    const request = this.#reads.push({ block, since }) - 1;
    this.#engine.read(SLOT, region, start * BLOCK, blocks * BLOCK, request);
  }

  #discard(): void {
    const block = this.#draws.below(BLOCKS);
    const blocks = 1 + this.#draws.below(BLOCKS - block);
    for (let i = 0; i < blocks; i++) this.#history[block + i].push(0);
    const token = this.#discards.size + 1;
    this.#discards.set(token, { offset: block * BLOCK, length: blocks * BLOCK });
    const word = this.#engine.begin(kind.DISCARD, SLOT, 0, block * BLOCK, 0);
    this.#engine.memory.words[word + descriptor.A] = token;
    this.#engine.setDouble(word + descriptor.PAYLOAD, blocks * BLOCK);
    this.#engine.handle();
  }

  #sync(): void {
    this.#syncs += 1;
    const word = this.#engine.begin(kind.SYNC, SLOT, 0, 0, 0);
    this.#engine.memory.words[word + descriptor.A] = this.#syncs;
    this.#engine.handle();
  }

  /** As when the file is closed; where somebody opens it again before it is forgotten, the tree does not mind. */
  #drop(token: number): void {
    this.#engine.open(SLOT, Number.POSITIVE_INFINITY);
    const word = this.#engine.begin(kind.DROP, SLOT, 0, 0, 0);
    this.#engine.memory.words[word + descriptor.A] = token;
    this.#engine.handle();
  }

  #answerQuery(): void {
    const query = this.#queries.shift();
    if (query === undefined) return;
    const { words } = this.#engine.memory;
    const { region, extents } = query;
    for (const extent of extents) {
      const start = extent.offset % REGION_BYTES;
      const word = this.#engine.begin(kind.KNOWN, SLOT, region, start, extent.length);
      words[word + descriptor.A] = extent.chunkLength;
      words[word + descriptor.B] = extent.chunkOffset;
      words.set(extent.id, word + descriptor.PAYLOAD);
      this.#engine.handle();
    }
    this.#engine.begin(kind.LOADED, SLOT, region, 0, 0);
    this.#engine.handle();
  }

  #endJob(errno: number): void {
    if (this.#jobs.length === 0) return;
    const [job] = this.#jobs.splice(this.#draws.below(this.#jobs.length), 1);
    const blocks = this.#resolve(job.sources, 0);
    assert.equal(blocks.length * BLOCK, job.bytes);
    let id = 0;
    if (errno === 0) {
      id = this.#chunks.push(blocks) - 1;
      if (job.inPlace) this.#freeSources(job.sources);
    }
    this.#engine.settled(job.number, errno, id);
  }

  /** What a list of sources yields, block by block. */
  #resolve(words: Uint32Array, countAt: number): number[] {
    const blocks: number[] = [];
    let at = countAt + 1;
    for (let i = 0; i < words[countAt]; i++) {
      blocks.push(...this.#resolveOne(words, at));
      at = behindSource(words, at);
    }
    return blocks;
  }

  #resolveOne(words: Uint32Array, at: number): number[] {
    if (words[at] === source.ZERO) return new Array<number>(words[at + 1] / BLOCK).fill(0);
    if (words[at] === source.CHUNK) {
      const first = words[at + 1] / BLOCK;
      return this.#chunks[words[at + 3]].slice(first, first + words[at + 2] / BLOCK);
    }
    assert.equal(words[at], source.FRAME, 'nothing is inline here');
    assert.ok(this.#counts[words[at + 1]] > 0, 'a frame is used that nobody owns');
    const first = words[at + 1] * BLOCKS_PER_FRAME + words[at + 2] / BLOCK;
    return [...this.#frames.subarray(first, first + words[at + 3] / BLOCK)];
  }

  /** Movers give back what they have sealed in place. */
  #freeSources(words: Uint32Array): void {
    let at = 1;
    for (let i = 0; i < words[0]; i++) {
      this.free(words[at + 1]);
      at = behindSource(words, at);
    }
  }

  // ---- what the worker commands ----

  settle(words: Uint32Array, at: number): void {
    const sources = words.slice(at + 3, at + 4 + 11 * words[at + 3]);
    this.#jobs.push({
      number: words[at],
      inPlace: words[at + 1] === 1,
      bytes: words[at + 2],
      sources,
    });
  }

  read(words: Uint32Array, at: number): void {
    const { block, since } = this.#reads[words[at]];
    const blocks = this.#resolve(words, at + 5);
    assert.equal(blocks.length, since.length);
    for (const [i, value] of blocks.entries()) {
      const was = this.#history[block + i].indexOf(value, since[i]);
      assert.ok(was >= 0, `block ${block + i} of READ ${words[at]} holds ${value}`);
    }
    this.#answered += 1;
  }

  push(words: Uint32Array, at: number): void {
    const base = at - 1; // A descriptor's first word, its sequence, is not sent.
    const offset = doubleAt(words, base + descriptor.OFFSET);
    const what = words[base + descriptor.KIND];
    if (what === kind.QUERY) {
      const end = offset + REGION_BYTES;
      const extents = this.#extents.filter((each) => each.offset >= offset && each.offset < end);
      this.#queries.push({ region: offset / REGION_BYTES, extents });
    } else if (what === kind.EXTENT) {
      const extent: Extent = {
        offset,
        length: words[base + descriptor.LENGTH],
        chunkLength: words[base + descriptor.A],
        chunkOffset: words[base + descriptor.B],
        id: words.slice(base + descriptor.PAYLOAD, base + descriptor.WORDS),
      };
      this.#extents = patchExtents(this.#extents, { kind: 'extent', extent });
    } else {
      assert.equal(what, kind.ACK);
      const discard = this.#discards.get(words[base + descriptor.A]);
      if (words[base + descriptor.A] === REOPENED) return;
      if (discard === undefined) this.#dropped = true;
      else this.#extents = patchExtents(this.#extents, { kind: 'discard', ...discard });
    }
  }

  hold(frame: number): void {
    assert.ok(this.#counts[frame] > 0, 'a frame is held that nobody owns');
    this.#counts[frame] += 1;
  }

  free(frame: number): void {
    assert.ok(this.#counts[frame] > 0, 'a frame is freed twice');
    this.#counts[frame] -= 1;
    if (this.#counts[frame] > 0) return;
    this.#frames.fill(POISON, frame * BLOCKS_PER_FRAME, (frame + 1) * BLOCKS_PER_FRAME);
  }

  inline(): void {
    assert.fail('nothing is inline here');
  }

  syncDone(): void {
    this.#syncs -= 1;
  }

  failed(request: number, errno: number): void {
    assert.fail(`READ ${request} failed with ${errno}`);
  }

  // ---- the end ----

  #close(): void {
    this.#unpack();
    this.#until(() => this.#answered === this.#reads.length, 'every READ is answered');
    this.#dropped = false;
    this.#drop(NONE);
    this.#until(() => this.#dropped, 'the inode is forgotten');
    this.#turn();
    assert.equal(this.#syncs, 0, 'every SYNC is answered');
    assert.ok(
      this.#counts.every((count) => count === 0),
      'no frame is kept',
    );
    assert.deepEqual(
      this.#stored(),
      this.#history.map((values) => values.at(-1)),
    );
  }

  /** Lets movers and the tree work until something has come true. */
  #until(isTrue: () => boolean, what: string): void {
    for (let tries = 0; tries < 100; tries++) {
      this.#turn();
      if (isTrue()) return;
      this.#answerQuery();
      this.#endJob(0);
      if (tries % 10 === 9) this.#sync();
    }
    assert.fail(`it never happens that ${what}`);
  }

  /** The file as the tree was told. */
  #stored(): number[] {
    const blocks = new Array<number>(BLOCKS).fill(0);
    for (const { offset, length, chunkOffset, id } of this.#extents) {
      for (let i = 0; i < length / BLOCK; i++) {
        blocks[offset / BLOCK + i] = this.#chunks[id[0]][chunkOffset / BLOCK + i];
      }
    }
    return blocks;
  }
}

const first = testSeed();
for (let i = 0; i < 8; i++) {
  const seed = first + i;
  test(`a data worker agrees with the oracle, seed ${seed}`, () => new Model(seed).run());
}
