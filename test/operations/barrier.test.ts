import assert from 'node:assert/strict';
import { constants } from 'node:fs';
import { test } from 'node:test';
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
import { TreeWorker } from '../../workers/tree/tree-worker.ts';
import { file, newFixture } from '../tree/fixture.ts';

/** Bytes of the chunk that each region gets. */
const CHUNK_BYTES = REGION_BYTES;

/** A tree worker whose descriptors a test writes, and whose commands it reads. */
class Bench {
  readonly memory = new SharedMemory(
    allocateBuffers({ frames: 64, dataWorkers: 1, skip: () => 0 }),
  );
  readonly kv = new BufferedKv(new MemoryKv());
  readonly tree = newFixture(this.kv).tree;
  /** Tokens of the barriers that were asked for. */
  readonly barriers: number[] = [];
  /** Requests that were answered. */
  readonly answered: number[] = [];
  readonly worker: TreeWorker;
  #commandWords: Uint32Array = new Uint32Array(0);
  #ticket = 0;

  constructor() {
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
      commitIntervalMs: 0,
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

  /** The barrier that was asked for last has ended. */
  pass(): void {
    const token = this.barriers.at(-1) as number;
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

  #execute(length: number): void {
    const words = this.#commandWords;
    for (let i = 0; i < length; ) {
      const what = words[i];
      if (what === command.SYNC_STORE) this.barriers.push(words[i + 1]);
      if (what === command.REPLY) this.answered.push(words[i + 1]);
      const arguments_ = { [command.SYNC_STORE]: 1, [command.REPLY]: 4 }[what];
      assert.ok(arguments_ !== undefined, `command ${what} was not expected`);
      i += 1 + arguments_;
    }
  }
}

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
