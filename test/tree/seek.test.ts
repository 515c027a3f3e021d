import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ERRNO } from '../../engine/tree/errno.ts';
import { ROOT_INO } from '../../engine/tree/tree.ts';
import type { ContentChange } from '../../engine/tree/types.ts';
import { extent, file, newFixture, ok, T0 } from './fixture.ts';

const REGION = 4_194_304;
/** Bytes that the model counts as one. */
const UNIT = 524_288;
const UNITS = 40;

/** Lays units of content, or takes them out, in one commit. */
type Step = { from: number; count: number; discards: boolean; cut: boolean };

const step: fc.Arbitrary<Step> = fc.record({
  from: fc.nat(UNITS - 1),
  count: fc.integer({ min: 1, max: 20 }),
  discards: fc.boolean(),
  cut: fc.boolean(),
});

/** The changes of a step: extents end where their region does. */
function changesOf({ from, count, discards }: Step): ContentChange[] {
  const start = from * UNIT;
  const end = Math.min(from + count, UNITS) * UNIT;
  if (discards) return [{ kind: 'discard', offset: start, length: end - start }];
  const changes: ContentChange[] = [];
  for (let at = start; at < end; ) {
    const length = Math.min(end, (Math.floor(at / REGION) + 1) * REGION) - at;
    changes.push({ kind: 'extent', extent: extent(at, length, 1, at % REGION) });
    at += length;
  }
  return changes;
}

test('what is allocated, and where data and holes begin, is as in a plain array', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), (steps) => {
      const { tree, reopen } = newFixture();
      const ino = file(tree, ROOT_INO, 'f');
      const model: boolean[] = new Array(UNITS).fill(false);
      let units = UNITS;
      for (const each of steps) {
        const changes = changesOf(each);
        model.fill(!each.discards, each.from, Math.min(each.from + each.count, UNITS));
        units = UNITS;
        if (each.cut) {
          units = each.from;
          model.fill(false, units);
          changes.push({ kind: 'discard', offset: units * UNIT, length: Infinity });
        }
        ok(tree.applyContent(ino, changes, { size: units * UNIT, mtime: T0 }));
      }
      const again = reopen();
      const held = model.filter((unit) => unit).length;
      assert.equal(ok(again.getattr(ino)).allocated, held * UNIT);
      const beyond = (unit: number): number => unit * UNIT + 1;
      for (let unit = 0; unit < units; unit++) {
        const isThere = (wanted: boolean) => (at: boolean, index: number) =>
          index > unit && index < units && at === wanted;
        const data = model.findIndex(isThere(true));
        const expected = model[unit] ? beyond(unit) : data < 0 ? ERRNO.ENXIO : data * UNIT;
        const found = again.seek(ino, beyond(unit), 'data');
        assert.equal(typeof found === 'number' ? found : found.offset, expected);
        const hole = model.findIndex(isThere(false));
        const end = hole < 0 ? units * UNIT : hole * UNIT;
        const next = ok(again.seek(ino, beyond(unit), 'hole')).offset;
        assert.equal(next, model[unit] ? end : beyond(unit));
      }
    }),
  );
});

test('inline bytes are allocated until extents take their place', () => {
  const { tree } = newFixture();
  const ino = file(tree, ROOT_INO, 'f');
  const inline = { kind: 'inline', bytes: new Uint8Array(100) } as const;
  ok(tree.applyContent(ino, [inline], { size: 100, mtime: T0 }));
  assert.equal(ok(tree.getattr(ino)).allocated, 100);
  ok(tree.applyContent(ino, [{ ...inline, bytes: new Uint8Array(40) }], { size: 40, mtime: T0 }));
  assert.equal(ok(tree.getattr(ino)).allocated, 40);
  const whole = { kind: 'extent', extent: extent(0, 5_000, 1) } as const;
  ok(tree.applyContent(ino, [whole], { size: 5_000, mtime: T0 }));
  assert.equal(ok(tree.getattr(ino)).allocated, 5_000);
  ok(tree.setattr(ino, { size: 1_000 }));
  assert.equal(ok(tree.getattr(ino)).allocated, 1_000);
  ok(tree.setattr(ino, { size: 9_000 }));
  assert.equal(ok(tree.getattr(ino)).allocated, 1_000);
  assert.deepEqual(tree.seek(ino, 500, 'hole'), { offset: 1_000 });
  assert.equal(tree.seek(ROOT_INO, 0, 'data'), ERRNO.EISDIR);
  assert.equal(tree.seek(ino, 9_000, 'hole'), ERRNO.ENXIO);
});
