import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { REGION_BYTES } from '../../engine/layout.ts';
import { coversTo, isValidExtent, patchExtents } from '../../engine/tree/content.ts';
import type { Extent } from '../../engine/tree/types.ts';

/** Bytes that the properties look at: around a region's end, so that two regions meet. */
const SPAN = 64;
const START = REGION_BYTES - SPAN / 2;

/** A byte of a chunk, as one number; 0 is a hole. */
type Cell = number;

function extentOf(offset: number, length: number, chunk: number, chunkOffset: number): Extent {
  return { offset, length, chunkOffset, chunkLength: 4096, id: new Uint32Array(8).fill(chunk) };
}

const changeOf = fc.record({
  discard: fc.boolean(),
  at: fc.nat(SPAN - 1),
  length: fc.integer({ min: 0, max: SPAN }),
  chunk: fc.integer({ min: 1, max: 3 }),
  chunkOffset: fc.nat(40),
});

function cellsOf(list: readonly Extent[]): Cell[] {
  const cells = new Array<Cell>(SPAN).fill(0);
  for (const { offset, length, id, chunkOffset } of list) {
    for (let i = 0; i < length; i++) cells[offset - START + i] = id[0] * 4096 + chunkOffset + i;
  }
  return cells;
}

function assertWellFormed(list: readonly Extent[]): void {
  list.forEach((extent, index) => {
    assert.ok(isValidExtent(extent));
    const before = list[index - 1];
    if (before === undefined) return;
    assert.ok(before.offset + before.length <= extent.offset, 'overlap');
    const joins =
      before.offset + before.length === extent.offset &&
      before.chunkOffset + before.length === extent.chunkOffset &&
      before.id[0] === extent.id[0] &&
      extent.offset % REGION_BYTES !== 0;
    assert.ok(!joins, 'neighbours that are one');
  });
}

test('patching agrees with an array of bytes', () => {
  fc.assert(
    fc.property(fc.array(changeOf, { maxLength: 30 }), (changes) => {
      const cells = new Array<Cell>(SPAN).fill(0);
      let list: Extent[] = [];
      for (const { discard, at, length, chunk, chunkOffset } of changes) {
        const offset = START + at;
        const regionEnd = offset < REGION_BYTES ? REGION_BYTES : START + SPAN;
        const end = Math.min(offset + length, discard ? START + SPAN : regionEnd);
        for (let i = offset; i < end; i++) {
          cells[i - START] = discard ? 0 : chunk * 4096 + chunkOffset + i - offset;
        }
        const before = list.slice();
        const change = discard
          ? ({ kind: 'discard', offset, length: end - offset } as const)
          : ({
              kind: 'extent',
              extent: extentOf(offset, end - offset, chunk, chunkOffset),
            } as const);
        const patched = patchExtents(list, change);
        assert.deepEqual(list, before, 'the given list changed');
        list = patched;
        assertWellFormed(list);
        assert.deepEqual(cellsOf(list), cells);
      }
    }),
    { numRuns: 400 },
  );
});

test('appending what continues the last extent makes one extent', () => {
  let list: Extent[] = [];
  for (let i = 0; i < 100; i++) {
    list = patchExtents(list, { kind: 'extent', extent: extentOf(i * 8, 8, 1, i * 8) });
  }
  assert.deepEqual(list, [extentOf(0, 800, 1, 0)]);
  const other = { ...extentOf(800, 8, 1, 800), chunkLength: 8192 };
  assert.equal(patchExtents(list, { kind: 'extent', extent: other }).length, 2);
});

test('a discard without an end empties the rest', () => {
  const list = [extentOf(0, 10, 1, 0), extentOf(20, 10, 2, 0)];
  const rest = patchExtents(list, { kind: 'discard', offset: 5, length: Infinity });
  assert.deepEqual(rest, [extentOf(0, 5, 1, 0)]);
});

test('an extent must lie inside of its region and its chunk', () => {
  assert.ok(isValidExtent(extentOf(REGION_BYTES - 8, 8, 1, 0)));
  assert.ok(!isValidExtent(extentOf(REGION_BYTES - 8, 9, 1, 0)));
  assert.ok(!isValidExtent(extentOf(0, 10, 1, 4090)));
  assert.ok(!isValidExtent(extentOf(0, 0, 1, 0)));
  assert.ok(!isValidExtent(extentOf(-1, 1, 1, 0)));
});

test('coverage ends at the first hole', () => {
  const list = [extentOf(0, 10, 1, 0), extentOf(10, 5, 2, 0), extentOf(20, 5, 3, 0)];
  assert.ok(coversTo(list, 0, 15));
  assert.ok(!coversTo(list, 0, 16));
  assert.ok(coversTo([], 0, 0));
});
