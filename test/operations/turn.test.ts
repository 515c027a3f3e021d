/** What leaves a turn of the tree worker when: nothing that must survive is told before it does. */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import { MillraceError } from '../../engine/errors.ts';
import { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import { MemoryKv } from '../../engine/kv/memory-kv.ts';
import { command, descriptor, kind } from '../../engine/layout.ts';
import { Commands, Message } from '../../workers/commands.ts';
import { Clock } from '../../workers/tree/clock.ts';
import { Turn } from '../../workers/tree/turn.ts';
import { newFixture } from '../tree/fixture.ts';

/** More descriptors than fit into one buffer of commands: a region of an earlier version may take as many to tell. */
const DESCRIPTORS = 20_000;

/** A turn whose flushes a test has fail, and whose commands it reads. */
class Bench {
  /** Requests that were answered, and with what errno. */
  readonly answered: (readonly [request: number, errno: number])[] = [];
  pushed = 0;
  refuses = false;
  readonly turn: Turn;
  readonly commands: Commands;
  #commandWords: Uint32Array = new Uint32Array(0);

  constructor() {
    this.commands = new Commands(0, 0, {
      attach: (_engine, _worker, view) => {
        this.#commandWords = new Uint32Array(view.buffer);
      },
      poll: (_engine, _worker, _consumed, words) => {
        this.#execute(words);
        return 0;
      },
    });
    const kv = new BufferedKv(new MemoryKv());
    const { tree } = newFixture(kv);
    const clock = new Clock(0, () => {});
    this.turn = new Turn(this.commands, { kv, tree, clock, wake: () => {} });
    const flush = kv.flush.bind(kv);
    kv.flush = () => {
      if (this.refuses) throw new MillraceError('STORE_IO', 'refused');
      flush();
    };
  }

  /** A rename beside an answer that needs no flush and a region of many extents. */
  publish(): void {
    this.turn.begin();
    this.turn.transact(() => {
      this.turn.flushAtEnd();
      this.turn.finishFlushed(1, 0);
      this.turn.finish(2, 0);
      const message = new Message().begin(kind.KNOWN, 0, 0, 0);
      for (let i = 0; i < DESCRIPTORS; i++) this.commands.push(1, message.words);
      assert.ok(this.pushed > 0, 'commands are executed in the middle of the turn');
      assert.deepEqual(this.answered, [[2, 0]]);
      this.turn.finishFlushed(3, -constants.errno.ENOENT);
    });
    this.turn.end();
    this.commands.turn(0, 0);
    assert.equal(this.pushed, DESCRIPTORS);
  }

  #execute(length: number): void {
    const words = this.#commandWords;
    for (let i = 0; i < length; ) {
      if (words[i] === command.PUSH) {
        this.pushed += 1;
        i += 1 + descriptor.WORDS;
      } else {
        assert.equal(words[i], command.REPLY, `word ${i}`);
        this.answered.push([words[i + 1], words[i + 2]]);
        i += 5;
      }
    }
  }
}

test('a reply that must survive leaves after the flush, however much the turn has to say', () => {
  const bench = new Bench();
  bench.publish();
  assert.deepEqual(bench.answered, [
    [2, 0],
    [1, 0],
    [3, constants.errno.ENOENT],
  ]);
});

test('it is an error when the flush fails, and nothing else is', () => {
  const bench = new Bench();
  bench.refuses = true;
  bench.publish();
  const { EIO } = constants.errno;
  assert.deepEqual(bench.answered, [
    [2, 0],
    [1, EIO],
    [3, EIO],
  ]);
});

test('a command that is longer than its buffer is an error where it is written', () => {
  const { commands } = new Bench();
  commands.read(1, -1, 0, 1);
  assert.throws(() => {
    for (let i = 0; i < 1_000_000; i++) commands.word(0);
  }, RangeError);
});
