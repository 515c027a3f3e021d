import assert from 'node:assert/strict';
import { constants } from 'node:fs';
import { mock } from 'node:test';
import { FATTR, IN_STRUCT_BYTES, OPCODE, SETATTR_AT } from '../../engine/fuse-protocol.ts';
import { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import { MemoryKv } from '../../engine/kv/memory-kv.ts';
import {
  command,
  descriptor,
  kind,
  NONE,
  REGION_BYTES,
  request as requestCell,
  TREE_WORKER,
} from '../../engine/layout.ts';
import type { Tree } from '../../engine/tree/tree.ts';
import { allocateBuffers, SharedMemory } from '../../engine/shared-memory.ts';
import { Commands } from '../../workers/commands.ts';
import { HANDLE_WRITE } from '../../workers/tree/file-handle.ts';
import { TreeWorker } from '../../workers/tree/tree-worker.ts';
import { newFixture } from '../tree/fixture.ts';

/** Milliseconds between two ticks of the clock. */
export const INTERVAL_MS = 1000;

/** Counts how often it was made durable. */
export class CountedKv extends MemoryKv {
  syncs = 0;

  override sync(): Promise<void> {
    this.syncs += 1;
    return super.sync();
  }
}

/** A descriptor for a worker: its words from the first on. */
export interface Told {
  readonly worker: number;
  readonly words: Uint32Array;
}

/** A tree worker whose descriptors a test writes, and whose commands it reads. */
export class TreeBench {
  readonly memory: SharedMemory = new SharedMemory(
    allocateBuffers({ frames: 64, dataWorkers: 1, skip: () => 0 }),
  );
  readonly below: CountedKv = new CountedKv();
  readonly kv: BufferedKv = new BufferedKv(this.below);
  readonly tree: Tree = newFixture(this.kv).tree;
  /** Tokens of the barriers that were asked for. */
  readonly barriers: number[] = [];
  /** Requests that were answered. */
  readonly answered: number[] = [];
  /** What workers were told, the tree worker's own half among them, until the test takes it out. */
  told: Told[] = [];
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

  /** A chunk was stored for a region, whose id is all the same number. */
  extent(slot: number, region: number, chunk: number = region): void {
    this.turn(kind.EXTENT, slot, (words, word) => {
      this.memory.doubles[(word + descriptor.OFFSET) >>> 1] = region * REGION_BYTES;
      words[word + descriptor.LENGTH] = REGION_BYTES;
      words[word + descriptor.A] = REGION_BYTES;
      words.fill(chunk, word + descriptor.PAYLOAD, word + descriptor.WORDS);
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
    assert.equal(this.answered.pop(), request, 'an OPEN is answered at once');
    return new DataView(this.worker.commands.out.buffer).getUint32(0, true);
  }

  /** Somebody truncates the file by its name. */
  truncate(ino: number, size: number, request: number): void {
    const { control, doubles, words } = this.memory;
    doubles[this.memory.requestWord(request, requestCell.NODE) >>> 1] = ino;
    words[this.memory.requestWord(request, requestCell.OPCODE)] = OPCODE.SETATTR;
    words[this.memory.requestWord(request, requestCell.BODY_LENGTH)] = IN_STRUCT_BYTES.SETATTR;
    const body = this.memory.bodyByte(request);
    control.fill(0, body, body + IN_STRUCT_BYTES.SETATTR);
    const view = new DataView(control.buffer, control.byteOffset + body);
    view.setUint32(SETATTR_AT.VALID, FATTR.SIZE, true);
    view.setBigUint64(SETATTR_AT.SIZE, BigInt(size), true);
    this.turn(kind.REQUEST, NONE, (_, word) => {
      words[word + descriptor.A] = request;
    });
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
    const oldest = this.told.find(({ words }) => words[descriptor.KIND] === what);
    assert.ok(oldest !== undefined, `no worker was told ${what}`);
    const token = oldest.words[descriptor.A];
    const isSame = ({ words }: Told): boolean =>
      words[descriptor.KIND] === what && words[descriptor.A] === token;
    for (const _ of this.told.filter(isSame)) {
      this.turn(kind.ACK, 0, (words, word) => {
        words[word + descriptor.A] = token;
      });
    }
    this.told = this.told.filter((each) => !isSame(each));
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

  #execute(length: number): void {
    const words = this.#commandWords;
    for (let i = 0; i < length; ) {
      const what = words[i];
      if (what === command.SYNC_STORE) this.barriers.push(words[i + 1]);
      if (what === command.REPLY) this.answered.push(words[i + 1]);
      if (what === command.PUSH) {
        const pushed = words.slice(i + 1, i + 1 + descriptor.WORDS);
        this.told.push({ worker: pushed[0] as number, words: pushed });
      }
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
