/** What the front remembers of names: never more than its bound, never too long, and every look-up given back once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Names } from '../../engine/front/fuse-native/names.ts';

const A: Uint8Array = Uint8Array.of(0x61);

interface Ground {
  names: Names;
  forgotten: Map<number, number>;
  clock: { now: number };
}

function ground(capacity = 4): Ground {
  const forgotten = new Map<number, number>();
  const clock = { now: 0 };
  const names = new Names({
    capacity,
    now: () => clock.now,
    forget: (node, lookups) => forgotten.set(node, (forgotten.get(node) ?? 0) + lookups),
  });
  return { names, forgotten, clock };
}

/** One LOOKUP as the front makes it: held while it runs, counted, entered. */
function lookup(
  { names }: Ground,
  parent: number,
  name: Uint8Array,
  node: number,
  ttl = 100,
): void {
  names.hold(node);
  names.counted(node);
  names.enter(parent, name, node, ttl);
  names.release(node);
}

test('a name is known until its time is over', () => {
  const all = ground();
  lookup(all, 1, A, 7, 100);
  all.clock.now = 99;
  assert.equal(all.names.find(1, A), 7);
  assert.equal(all.names.find(2, A), 0);
  all.clock.now = 100;
  assert.equal(all.names.find(1, A), 0);
  assert.deepEqual([...all.forgotten], [[7, 1]]);
});

test('names are bytes: none is taken for another', () => {
  const all = ground();
  lookup(all, 1, Uint8Array.of(0xff), 7);
  lookup(all, 1, Uint8Array.of(0xc3, 0xbf), 8);
  assert.equal(all.names.find(1, Uint8Array.of(0xff)), 7);
  assert.equal(all.names.find(1, Uint8Array.of(0xc3, 0xbf)), 8);
});

test('an inode that is open is forgotten behind its close, with all its look-ups', () => {
  const all = ground();
  lookup(all, 1, A, 7);
  lookup(all, 1, A, 7);
  all.names.hold(7);
  all.names.drop(1, A);
  assert.equal(all.forgotten.size, 0);
  all.names.release(7);
  assert.deepEqual([...all.forgotten], [[7, 2]]);
});

test('what was looked up before a name was taken away is recognised as old', () => {
  const { names } = ground();
  const { changes } = names;
  names.drop(1, A);
  assert.notEqual(names.changes, changes);
});

const step = fc.record({
  what: fc.constantFrom('lookup', 'drop', 'open', 'close', 'clear', 'wait'),
  parent: fc.integer({ min: 1, max: 2 }),
  name: fc.integer({ min: 0x61, max: 0x66 }),
  node: fc.integer({ min: 2, max: 6 }),
});

test('in any history, counts are given back once and exactly, and the bound holds', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const all = ground(4);
      const counted = new Map<number, number>();
      const open: number[] = [];
      for (const { what, parent, name, node } of steps) {
        if (what === 'lookup') {
          lookup(all, parent, Uint8Array.of(name), node);
          counted.set(node, (counted.get(node) ?? 0) + 1);
        } else if (what === 'drop') all.names.drop(parent, Uint8Array.of(name));
        else if (what === 'open') open.push(node);
        else if (what === 'clear') all.names.clear();
        else if (what === 'wait') all.clock.now += 60;
        if (what === 'open') all.names.hold(node);
        const closed = what === 'close' ? open.pop() : undefined;
        if (closed !== undefined) all.names.release(closed);
        assert.ok(all.names.size <= 4);
        for (const each of open) {
          const given = all.forgotten.get(each) ?? 0;
          assert.ok(given <= (counted.get(each) ?? 0), 'more was given back than was counted');
        }
      }
      all.names.clear();
      for (const node of open) all.names.release(node);
      assert.deepEqual(sorted(all.forgotten), sorted(counted));
    }),
  );
});

function sorted(map: Map<number, number>): [number, number][] {
  return [...map].sort(([a], [b]) => a - b);
}
