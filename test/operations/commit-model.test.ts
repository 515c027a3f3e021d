/**
 * Random histories of a tree worker beside a model of what programs did: whatever the order in which a data worker, the
 * store's barriers, the clock and programs come, the tree has what was acknowledged, names no chunk before its barrier,
 * and in the end has all. MILLRACE_TEST_SEED repeats a history.
 */
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { descriptor, inode, kind, REGION_BYTES, TREE_WORKER } from '../../engine/layout.ts';
import { doubleAt } from '../../workers/commands.ts';
import { Draws, testSeed } from '../support/random.ts';
import { file } from '../tree/fixture.ts';
import { TreeBench } from './tree-bench.ts';

const FILES = 12;
const REGIONS = 4;
const STEPS = 8000;
/** Region 0 belongs to the tree worker's own half, which has no frames here. */
const FIRST_REGION = 1;

/** What programs made of a file; a chunk is a number, 0 none. */
interface Content {
  regions: number;
  readonly chunks: number[];
}

interface Modelled {
  readonly ino: number;
  now: Content;
  /** As it was when a FLUSH began that was answered: nothing older may be in the tree. */
  promised: Content;
  slot: number;
  openers: number;
  /** Chunks by region that the data worker holds and has not stored. */
  dirty: Map<number, number>;
  /** A request whose answer programs wait for; they touch the file no more until then. */
  waitsFor: number | undefined;
}

class Model {
  readonly #draws: Draws;
  readonly #bench = new TreeBench(1000);
  readonly #files: Modelled[] = [];
  /** What the data worker has to do, and what it has to say, in order. */
  readonly #inbox: (() => void)[] = [];
  readonly #outbox: (() => void)[] = [];
  /** Slots as the data worker knows them. */
  readonly #bySlot = new Map<number, Modelled>();
  readonly #promises = new Map<number, () => void>();
  #passed = 0;
  #chunk = 0;
  #request = 0;
  /** Chunks in the order in which the data worker told of them. */
  readonly #stored: number[] = [];
  /** How many there were when each barrier was asked for; those before the last that has passed may be named. */
  readonly #storedBefore: number[] = [];
  readonly #durable = new Set<number>([0]);

  constructor(seed: number) {
    this.#draws = new Draws(seed);
    for (let n = 0; n < FILES; n++) {
      const empty = (): Content => ({ regions: 0, chunks: [0, 0, 0, 0] });
      this.#files.push({
        ino: file(this.#bench.tree, 1, `f${n}`),
        now: empty(),
        promised: empty(),
        slot: -1,
        openers: 0,
        dirty: new Map(),
        waitsFor: undefined,
      });
    }
  }

  async run(): Promise<void> {
    for (let step = 0; step < STEPS; step++) {
      this.#step();
      this.#route();
      if (step % 8 === 0) await setImmediate();
      this.#checkPromises();
    }
    await this.#end();
  }

  #step(): void {
    const each = this.#draws.pick(this.#files);
    const isFree = each.waitsFor === undefined;
    const drawn = this.#draws.below(100);
    // Few are open at once, so that slots go from one to the other.
    if (drawn < 5 && isFree && each.openers < 2) this.#open(each);
    else if (drawn < 25 && isFree && each.openers > 0) this.#write(each);
    else if (drawn < 28 && isFree && each.openers > 0) this.#flush(each);
    else if (drawn < 50 && isFree && each.openers > 0) this.#close(each);
    else if (drawn < 51 && isFree) this.#truncate(each);
    else if (drawn < 57) this.#bench.tick();
    else if (drawn < 77) this.#work();
    else if (drawn < 97) this.#deliver();
    else this.#pass();
  }

  // ---- programs, and the front ----

  #nextRequest(): number {
    this.#request = (this.#request % 200) + 1;
    return this.#request;
  }

  #open(each: Modelled): void {
    each.slot = this.#bench.open(each.ino, this.#nextRequest());
    each.openers += 1;
    this.#bySlot.set(each.slot, each);
  }

  #close(each: Modelled): void {
    this.#bench.close(each.slot, this.#nextRequest());
    each.openers -= 1;
  }

  #write(each: Modelled): void {
    const region = FIRST_REGION + this.#draws.below(REGIONS - FIRST_REGION);
    this.#chunk += 1;
    each.now.chunks[region] = this.#chunk;
    each.now.regions = Math.max(each.now.regions, region + 1);
    each.dirty.set(region, this.#chunk);
    const { memory } = this.#bench;
    const size = memory.inodeWord(each.slot, inode.SIZE) >>> 1;
    memory.doubles[size] = Math.max(memory.doubles[size] as number, (region + 1) * REGION_BYTES);
    const writes = memory.inodeWord(each.slot, inode.WRITES);
    memory.words[writes] = (memory.words[writes] as number) + 1;
  }

  #flush(each: Modelled): void {
    const request = this.#nextRequest();
    const { slot } = each;
    const then = copyOf(each.now);
    each.waitsFor = request;
    this.#promises.set(request, () => {
      each.promised = then;
      each.waitsFor = undefined;
    });
    this.#inbox.push(() => {
      const stored = this.#settled([each]);
      this.#outbox.push(stored, () => this.#bench.flush(slot, request));
    });
  }

  #truncate(each: Modelled): void {
    const request = this.#nextRequest();
    const regions = this.#draws.below(REGIONS + 1);
    each.now.regions = regions;
    each.now.chunks.fill(0, regions);
    // It promises nothing of what was written before, but that it is gone.
    each.waitsFor = request;
    this.#promises.set(request, () => {
      each.promised.regions = regions;
      each.promised.chunks.fill(0, regions);
      each.waitsFor = undefined;
    });
    this.#bench.truncate(each.ino, regions * REGION_BYTES, request);
  }

  // ---- the data worker ----

  #work(): void {
    this.#inbox.shift()?.();
  }

  /** Stores what is dirty of files; what it says of that arrives when the result is called. */
  #settled(files: readonly Modelled[]): () => void {
    const stored = files.flatMap(({ slot, dirty }) => {
      const extents = [...dirty].map(([region, chunk]) => ({ slot, region, chunk }));
      dirty.clear();
      return extents;
    });
    return () => {
      for (const { slot, region, chunk } of stored) {
        this.#stored.push(chunk);
        this.#bench.extent(slot, region, chunk);
        this.#noteBarriers();
      }
    };
  }

  /** What the tree worker has told the data worker. */
  #told(words: Uint32Array): void {
    const what = words[descriptor.KIND];
    const each = this.#bySlot.get(words[descriptor.INODE] as number);
    const of = each === undefined ? [] : [each];
    if (what === kind.SETTLE_ALL) this.#outbox.push(this.#settled(this.#files));
    else if (what === kind.DROP) this.#outbox.push(this.#settled(of));
    else if (what === kind.DISCARD) {
      const from = doubleAt(words, descriptor.OFFSET) / REGION_BYTES;
      for (const { dirty } of of) {
        for (const region of dirty.keys()) if (region >= from) dirty.delete(region);
      }
    }
    this.#outbox.push(() => {
      this.#bench.turn(kind.ACK, 0, (into, word) => {
        into[word + descriptor.A] = words[descriptor.A] as number;
      });
    });
  }

  #deliver(): void {
    this.#outbox.shift()?.();
  }

  #pass(): void {
    const { barriers } = this.#bench;
    if (this.#passed === barriers.length) return;
    const before = this.#storedBefore[this.#passed];
    for (const chunk of this.#stored.slice(0, before)) this.#durable.add(chunk);
    this.#bench.pass(barriers[this.#passed++]);
  }

  #noteBarriers(): void {
    const { barriers } = this.#bench;
    while (this.#storedBefore.length < barriers.length)
      this.#storedBefore.push(this.#stored.length);
  }

  /** Hands on what the tree worker has told: to the data worker, and to its own half. */
  #route(): void {
    this.#noteBarriers();
    while (this.#bench.told.length > 0) {
      for (const { worker, words } of this.#bench.told.splice(0)) {
        if (worker !== TREE_WORKER) this.#inbox.push(() => this.#told(words));
        else {
          this.#bench.turn(words[descriptor.KIND] as number, 0, (into, word) => {
            into.set(words.subarray(1), word + 1);
          });
          this.#noteBarriers();
        }
      }
    }
  }

  // ---- what must hold ----

  #checkPromises(): void {
    for (const request of this.#bench.answered.splice(0)) {
      this.#promises.get(request)?.();
      this.#promises.delete(request);
    }
    for (const each of this.#files) {
      if (each.waitsFor === undefined) this.#check(each);
    }
  }

  /** The tree has the size and, of each region, the content that was promised, or what was written since. */
  #check({ ino, promised, now }: Modelled): void {
    const attributes = this.#bench.tree.getattr(ino);
    assert.ok(typeof attributes !== 'number');
    const regions = attributes.size / REGION_BYTES;
    assert.ok(
      regions >= promised.regions,
      `file ${ino}: ${regions} of ${promised.regions} regions`,
    );
    for (let region = FIRST_REGION; region < REGIONS; region++) {
      const chunk = this.#inTree(ino, region);
      const oldest = promised.chunks[region] as number;
      const isOld = chunk < oldest && now.chunks[region] !== 0;
      assert.ok(!isOld, `file ${ino}: region ${region} has ${chunk}, promised ${oldest}`);
    }
  }

  #inTree(ino: number, region: number): number {
    const content = this.#bench.tree.region(ino, region);
    assert.ok(typeof content !== 'number' && 'extents' in content, `region ${region} of ${ino}`);
    const chunk = content.extents[0]?.id[0] ?? 0;
    assert.ok(this.#durable.has(chunk), `chunk ${chunk} is named before its barrier`);
    return chunk;
  }

  async #end(): Promise<void> {
    for (const each of this.#files) {
      while (each.openers > 0) this.#close(each);
    }
    for (let round = 0; round < 40; round++) {
      this.#bench.tick();
      for (let turn = 0; turn < 40; turn++) {
        this.#route();
        this.#work();
        this.#deliver();
        this.#pass();
        await setImmediate();
      }
    }
    this.#checkPromises();
    for (const each of this.#files) {
      assert.equal(each.waitsFor, undefined, `request ${each.waitsFor} was never answered`);
      const attributes = this.#bench.tree.getattr(each.ino);
      assert.ok(typeof attributes !== 'number');
      assert.equal(attributes.size, each.now.regions * REGION_BYTES, `size of ${each.ino}`);
      const chunks = each.now.chunks.map((_, at) => (at === 0 ? 0 : this.#inTree(each.ino, at)));
      assert.deepEqual(chunks, each.now.chunks, `content of ${each.ino}`);
    }
    this.#bench.worker.stop();
  }
}

function copyOf({ regions, chunks }: Content): Content {
  return { regions, chunks: [...chunks] };
}

const first = testSeed();
for (let n = 0; n < 8; n++) {
  const seed = first + n;
  test(`the tree has what programs did, seed ${seed}`, async (context) => {
    mock.timers.enable({ apis: ['setTimeout'] });
    context.after(() => mock.timers.reset());
    await new Model(seed).run();
  });
}
