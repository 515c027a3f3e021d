/** When a mount collects garbage for want of room, and whom it lets wait. */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import { header } from '../../engine/layout.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import { Room } from '../../workers/tree/room.ts';
import type { CollectionOutcome } from '../../workers/task.ts';

const NOTHING = { used: 1, usedBytes: 1, young: 0, youngBytes: 0, deleted: 0, deletedBytes: 0 };

class Ground {
  readonly words = new Uint32Array(64);
  free = 1000;
  mayBeUseful = true;
  isUnderWay = false;
  isTreeShort = false;
  /** What is to happen outside of turns. */
  readonly tasks: (() => void)[] = [];
  readonly #ends: ((outcome: CollectionOutcome) => void)[] = [];
  readonly room: Room;

  constructor() {
    this.room = new Room({
      memory: { words: this.words } as unknown as SharedMemory,
      collector: this.#collector(),
      forgetting: this,
      freeBytes: () => this.free,
      isTreeShort: () => this.isTreeShort,
      later: (task) => this.tasks.push(task),
    });
  }

  #collector(): ConstructorParameters<typeof Room>[0]['collector'] {
    const mayBeUseful = (): boolean => this.mayBeUseful;
    return {
      get mayBeUseful() {
        return mayBeUseful();
      },
      collect: (order, done) => {
        assert.deepEqual(order, { graceSeconds: 0, dryRun: false });
        this.#ends.push(done);
      },
    };
  }

  /** Ends of the collections that were begun, those that wait for the end of a turn included. */
  get ends(): readonly ((outcome: CollectionOutcome) => void)[] {
    for (const task of this.tasks.splice(0)) task();
    return this.#ends;
  }

  refuse(errno: number): void {
    this.words[header.STORE_ERRNO >>> 2] = errno;
  }

  get storeErrno(): number {
    return this.words[header.STORE_ERRNO >>> 2];
  }

  get isMaking(): boolean {
    return this.words[header.MAKING_ROOM >>> 2] === 1;
  }

  end(deleted: number): void {
    this.ends.at(-1)?.({ swept: { ...NOTHING, deleted } });
  }
}

test('a quarter of what was free is a reason to collect, where there may be garbage', () => {
  const ground = new Ground();
  ground.room.look();
  ground.free = 751;
  ground.room.look();
  ground.mayBeUseful = false;
  ground.free = 700;
  ground.room.look();
  assert.equal(ground.ends.length, 0);
  ground.mayBeUseful = true;
  ground.room.look();
  ground.room.look();
  assert.equal(ground.ends.length, 1);
  assert.ok(!ground.isMaking);
});

test('a full store is cleaned at once, and who waits is told', () => {
  const ground = new Ground();
  const told: string[] = [];
  assert.ok(!ground.room.await(() => told.push('nobody is refused')));
  ground.refuse(constants.errno.EIO);
  assert.ok(!ground.room.await(() => told.push('another errno')));
  ground.refuse(constants.errno.ENOSPC);
  ground.room.notice();
  assert.ok(ground.isMaking);
  assert.ok(ground.room.await(() => told.push('first')));
  assert.ok(ground.room.await(() => told.push('second')));
  assert.equal(ground.ends.length, 1);
  assert.deepEqual(told, []);
  ground.end(3);
  assert.deepEqual(told, ['first', 'second']);
  assert.ok(!ground.isMaking);
  assert.equal(ground.storeErrno, 0);
});

test('a tree that is short of room has garbage collected, and nobody waits for it', () => {
  const ground = new Ground();
  ground.isTreeShort = true;
  ground.room.notice();
  ground.room.notice();
  assert.equal(ground.ends.length, 1);
  assert.ok(!ground.isMaking);
  assert.ok(!ground.room.await(() => assert.fail()));
  ground.end(0);
  ground.room.notice();
  assert.equal(ground.ends.length, 1, 'not at once again behind one in vain');
});

test('no collection begins in the turn that asks for it', () => {
  const ground = new Ground();
  ground.refuse(constants.errno.ENOSPC);
  ground.room.notice();
  assert.ok(ground.isMaking);
  assert.equal(ground.tasks.length, 1);
  assert.equal(ground.ends.length, 1);
});

test('a collection in vain leaves the errno, and is not followed by another at once', () => {
  const ground = new Ground();
  ground.refuse(constants.errno.ENOSPC);
  let told = 0;
  assert.ok(ground.room.await(() => told++));
  ground.end(0);
  assert.equal(told, 1);
  assert.equal(ground.storeErrno, constants.errno.ENOSPC);
  assert.ok(!ground.room.await(() => told++));
  assert.equal(ground.ends.length, 1);
});

test('one that failed lets go of who waits', () => {
  const ground = new Ground();
  ground.refuse(constants.errno.ENOSPC);
  let told = 0;
  assert.ok(ground.room.await(() => told++));
  ground.ends[0]({ failure: 'a damaged tree is kept' });
  assert.equal(told, 1);
  assert.ok(!ground.isMaking);
});

test('a store that fills while it is collected anyway has writers wait for that collection', () => {
  const ground = new Ground();
  ground.room.look();
  ground.free = 0;
  ground.room.look();
  assert.equal(ground.ends.length, 1);
  ground.mayBeUseful = false;
  ground.refuse(constants.errno.ENOSPC);
  let told = 0;
  assert.ok(ground.room.await(() => told++));
  ground.end(1);
  assert.equal(told, 1);
});

test('who waits too long is told what the store says, and the collection goes on', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const ground = new Ground();
  ground.refuse(constants.errno.ENOSPC);
  let told = 0;
  assert.ok(ground.room.await(() => told++));
  context.mock.timers.tick(29_000);
  assert.equal(told, 0);
  context.mock.timers.tick(2000);
  assert.equal(told, 1);
  assert.ok(!ground.isMaking);
  assert.equal(ground.storeErrno, constants.errno.ENOSPC);
  assert.ok(!ground.room.await(() => told++));
  ground.end(5);
  assert.equal(ground.storeErrno, 0);
  assert.equal(ground.ends.length, 1);
});

test('a mount that ends tells nobody', () => {
  const ground = new Ground();
  ground.refuse(constants.errno.ENOSPC);
  let told = 0;
  assert.ok(ground.room.await(() => told++));
  ground.room.stop();
  ground.end(3);
  assert.equal(told, 0);
  assert.ok(!ground.isMaking);
  ground.refuse(constants.errno.ENOSPC);
  assert.ok(!ground.room.await(() => told++));
});

test('files that are about to be deleted are garbage to come; without any, nobody waits', () => {
  const ground = new Ground();
  ground.mayBeUseful = false;
  ground.refuse(constants.errno.ENOSPC);
  assert.ok(!ground.room.await(() => {}));
  ground.isUnderWay = true;
  assert.ok(ground.room.await(() => {}));
  assert.equal(ground.ends.length, 1);
});
