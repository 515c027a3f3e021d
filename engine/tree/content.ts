import { REGION_BYTES } from '../layout.ts';
import type { ContentChange, Extent } from './types.ts';

/**
 * How changes alter the extents of a region: pure functions that the tree and the data workers
 * share, so that both see the same file.
 *
 * A list of extents is in order of offset, nothing in it overlaps, and no extent crosses a region.
 */

/** A change that concerns extents; inline bytes replace a region as a whole. */
export type ExtentChange = Exclude<ContentChange, { kind: 'inline' }>;

/** The region that a byte of a file lies in. */
export function regionAt(offset: number): number {
  return Math.floor(offset / REGION_BYTES);
}

/**
 * The list after `change`: a later extent overrides the bytes before it, a discard leaves a hole.
 *
 * The given list stays as it is; extents that do not change are shared with the result. Neighbours
 * that continue each other in the same chunk become one extent. Cost: the length of the list.
 */
export function patchExtents(list: readonly Extent[], change: ExtentChange): Extent[] {
  if (change.kind === 'discard') return cut(list, change.offset, change.offset + change.length);
  const { extent } = change;
  if (extent.length === 0) return list.slice();
  const last = list.at(-1);
  if (last === undefined || last.offset + last.length <= extent.offset) {
    const appended = list.slice();
    push(appended, extent);
    return appended;
  }
  return insert(cut(list, extent.offset, extent.offset + extent.length), extent);
}

/**
 * Whether the extents leave no hole in the bytes from 0 to `length` of a region that starts at
 * `start`.
 */
export function coversTo(list: readonly Extent[], start: number, length: number): boolean {
  let covered = start;
  for (const extent of list) {
    if (extent.offset > covered) break;
    covered = extent.offset + extent.length;
  }
  return covered >= start + length;
}

/**
 * Whether an extent lies inside of one region and inside of its chunk, with no number that cannot
 * be stored.
 */
export function isValidExtent(extent: Extent): boolean {
  const { offset, length, chunkOffset, chunkLength } = extent;
  return (
    Number.isSafeInteger(offset) &&
    offset >= 0 &&
    Number.isInteger(length) &&
    length > 0 &&
    Number.isInteger(chunkOffset) &&
    chunkOffset >= 0 &&
    Number.isInteger(chunkLength) &&
    chunkLength < 2 ** 32 &&
    chunkOffset + length <= chunkLength &&
    extent.id.length === 8 &&
    (offset % REGION_BYTES) + length <= REGION_BYTES
  );
}

/** The list without the bytes from `from` to `to`. */
function cut(list: readonly Extent[], from: number, to: number): Extent[] {
  if (to <= from) return list.slice();
  const kept: Extent[] = [];
  for (const extent of list) {
    const end = extent.offset + extent.length;
    if (end <= from || extent.offset >= to) {
      kept.push(extent);
      continue;
    }
    if (extent.offset < from) kept.push({ ...extent, length: from - extent.offset });
    if (end > to) kept.push(tail(extent, to));
  }
  return kept;
}

/** The part of an extent from the byte `offset` of the file on. */
function tail(extent: Extent, offset: number): Extent {
  const skipped = offset - extent.offset;
  return {
    ...extent,
    offset,
    length: extent.length - skipped,
    chunkOffset: extent.chunkOffset + skipped,
  };
}

/** Puts an extent where the list has a hole for it. */
function insert(list: Extent[], extent: Extent): Extent[] {
  const result: Extent[] = [];
  let pending = true;
  for (const other of list) {
    if (pending && other.offset > extent.offset) {
      push(result, extent);
      pending = false;
    }
    push(result, other);
  }
  if (pending) push(result, extent);
  return result;
}

/** Appends an extent, joining it with the last one where it continues it. */
function push(list: Extent[], extent: Extent): void {
  const last = list.at(-1);
  if (last !== undefined && continues(last, extent)) {
    list[list.length - 1] = { ...last, length: last.length + extent.length };
  } else {
    list.push(extent);
  }
}

function continues(before: Extent, after: Extent): boolean {
  return (
    before.offset + before.length === after.offset &&
    before.chunkOffset + before.length === after.chunkOffset &&
    before.chunkLength === after.chunkLength &&
    regionAt(before.offset) === regionAt(after.offset) &&
    before.id.every((word, index) => word === after.id[index])
  );
}
