import assert from 'node:assert/strict';
import { constants } from 'node:fs';
import { mock, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { OPCODE } from '../../engine/fuse-protocol.ts';
import { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import { MemoryKv } from '../../engine/kv/memory-kv.ts';
import {
  command,
  descriptor,
  inode,
  kind,
  NONE,
  REGION_BYTES,
  request as requestCell,
  TREE_WORKER,
} from '../../engine/layout.ts';
import { allocateBuffers, SharedMemory } from '../../engine/shared-memory.ts';
import { Commands } from '../../workers/commands.ts';
import { HANDLE_WRITE } from '../../workers/tree/file-handle.ts';
import { TreeWorker } from '../../workers/tree/tree-worker.ts';
import { file, newFixture } from '../tree/fixture.ts';

/** Bytes of the chunk that each region gets. */
const CHUNK_BYTES = REGION_BYTES;
/** Milliseconds between two ticks of the clock. */
const INTERVAL_MS = 1000;

/** Counts how often it was made durable. */
class CountedKv extends MemoryKv {
  syncs = 0;

  override sync(): Promise<void> {
    this.syncs += 1;
    return super.sync();
  }
}

/** A tree worker whose descriptors a test writes, and whose commands it reads. */
class Bench {
  readonly memory = new SharedMemory(
    allocateBuffers({ frames: 64, dataWorkers: 1, skip: () => 0 }),
  );
  readonly below = new CountedKv();
  readonly kv = new BufferedKv(this.below);
  readonly tree = newFixture(this.kv).tree;
  /** Tokens of the barriers that were asked for. */
  readonly barriers: number[] = [];
  /** Requests that were answered. */
  readonly answered: number[] = [];
  /** Tokens of what workers were told and have not acknowledged, by kind. */
  readonly told = new Map<number, number[]>();
  readonly worker: TreeWorker;
  #commandWords: Uint32Array = new Uint32Array(0);
  #ticket = 0;

  constructor(commitIntervalMs = 0) {
    const commands = new Commands(0, TREE_WORKER, {
      attach: (_engine, _worker, view) => {
        this.#commandWords = new Uint32Array(view.buffer);
      },
      poll: (_engine, _worker, _consumed, words) => {
        this.#execute(words);
        return 0;
      },
    });
    this.worker = new TreeWorker({
      memory: this.memory,
      commands,
      kv: this.kv,
      tree: this.tree,
      ttlMs: 0,
      commitIntervalMs,
      storeNeedsSync: true,
      statfs: () => assert.fail('nobody asks'),
      wake: () => {},
    });
  }

  /** One turn with one descriptor. */
  turn(what: number, slot: number, fill: (words: Uint32Array, word: number) => void): void {
    const { words } = this.memory;
    const word = this.memory.descriptorWord(TREE_WORKER, this.#ticket);
    words.fill(0, word, word + descriptor.WORDS);
    words[word + descriptor.KIND] = what;
    words[word + descriptor.INODE] = slot;
    fill(words, word);
    assert.equal(this.worker.serve(this.#ticket, 1), 1);
    this.#ticket += 1;
    this.worker.commands.turn(0, 0);
  }

  /** A chunk was stored for a region. */
  extent(slot: number, region: number): void {
    this.turn(kind.EXTENT, slot, (words, word) => {
      this.memory.doubles[(word + descriptor.OFFSET) >>> 1] = region * REGION_BYTES;
      words[word + descriptor.LENGTH] = CHUNK_BYTES;
      words[word + descriptor.A] = CHUNK_BYTES;
      words.fill(region, word + descriptor.PAYLOAD, word + descriptor.WORDS);
    });
  }

  /** Opens a file for writing: its inode slot. */
  open(ino: number, request: number): number {
    const { control, doubles, words } = this.memory;
    words[this.memory.requestWord(request, requestCell.OPCODE)] = OPCODE.OPEN;
    words[this.memory.requestWord(request, requestCell.BODY_LENGTH)] = 8;
    doubles[this.memory.requestWord(request, requestCell.NODE) >>> 1] = ino;
    control.fill(0, this.memory.bodyByte(request), this.memory.bodyByte(request) + 8);
    control[this.memory.bodyByte(request)] = constants.O_WRONLY;
    this.turn(kind.REQUEST, NONE, (_, word) => {
      words[word + descriptor.A] = request;
    });
    assert.equal(this.answered.pop(), request);
    return new DataView(this.worker.commands.out.buffer).getUint32(0, true);
  }

  /** A FLUSH whose data is settled. */
  flush(slot: number, request: number): void {
    const { words } = this.memory;
    words[this.memory.requestWord(request, requestCell.OPCODE)] = OPCODE.FLUSH;
    this.turn(kind.COMMIT, slot, (_, word) => {
      words[word + descriptor.A] = request;
    });
  }

  /** Somebody closes the file. */
  close(slot: number, request: number): void {
    const { control, doubles, words } = this.memory;
    doubles[this.memory.requestWord(request, requestCell.NODE) >>> 1] = 1;
    words[this.memory.requestWord(request, requestCell.OPCODE)] = OPCODE.RELEASE;
    words[this.memory.requestWord(request, requestCell.BODY_LENGTH)] = 24;
    const body = this.memory.bodyByte(request);
    control.fill(0, body, body + 24);
    const view = new DataView(control.buffer, control.byteOffset + body);
    view.setUint32(0, slot, true);
    view.setUint32(4, HANDLE_WRITE, true);
    this.turn(kind.REQUEST, NONE, (_, word) => {
      words[word + descriptor.A] = request;
    });
    this.answered.pop();
  }

  /** All workers acknowledge what they were told of such a kind, the oldest first. */
  acknowledge(what: number): void {
    const tokens = this.told.get(what) ?? [];
    assert.ok(tokens.length > 0, `no worker was told ${what}`);
    const [first] = tokens;
    for (const token of tokens.filter((each) => each === first)) {
      this.turn(kind.ACK, 0, (words, word) => {
        words[word + descriptor.A] = token;
      });
    }
    this.told.set(
      what,
      tokens.filter((each) => each !== first),
    );
  }

  /** A barrier that was asked for has ended, the last one unless it is told which. */
  pass(token = this.barriers.at(-1) as number): void {
    this.turn(kind.SYNCED, 0, (words, word) => {
      words[word + descriptor.A] = token;
    });
  }

  /** Regions that have content in the tree. */
  stored(ino: number): number[] {
    const found: number[] = [];
    for (let region = 0; region < 4; region++) {
      const content = this.tree.region(ino, region);
      if (typeof content !== 'number' && 'extents' in content && content.extents.length > 0) {
        found.push(region);
      }
    }
    return found;
  }

  /** As when the clock ticks. */
  tick(): void {
    mock.timers.tick(INTERVAL_MS);
    this.worker.commands.turn(0, 0);
  }

  #note(words: Uint32Array, at: number): void {
    const what = words[at + descriptor.KIND];
    const tokens = this.told.get(what) ?? [];
    this.told.set(what, [...tokens, words[at + descriptor.A]]);
  }

  #execute(length: number): void {
    const words = this.#commandWords;
    for (let i = 0; i < length; ) {
      const what = words[i];
      if (what === command.SYNC_STORE) this.barriers.push(words[i + 1]);
      if (what === command.REPLY) this.answered.push(words[i + 1]);
      if (what === command.PUSH) this.#note(words, i + 1);
      const lengths = {
        [command.SYNC_STORE]: 1,
        [command.REPLY]: 4,
        [command.PUSH]: descriptor.WORDS,
      };
      const arguments_ = lengths[what as keyof typeof lengths];
      assert.ok(arguments_ !== undefined, `command ${what} was not expected`);
      i += 1 + arguments_;
    }
  }
}

test("the slot of a file that is being committed becomes nobody else's", (context) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  context.after(() => mock.timers.reset());
  const bench = new Bench(INTERVAL_MS);
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
  const bench = new Bench(INTERVAL_MS);
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
  const bench = new Bench();
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
