import { REGION_BYTES } from '../layout.ts';
import { REGION_EXTENTS_MAX } from '../limits.ts';
import { regionAt } from './content.ts';
import { ERRNO } from './errno.ts';
import { regionOf, regionsOf } from './keys.ts';
import { isDense, loadFile } from './regions.ts';
import type { Session } from './session.ts';
import type { ContentChange, Errno, Extent } from './types.ts';

/** A range of one file, and where a copy of it begins in another (or the same, apart). */
export interface CopiedRange {
  source: number;
  from: number;
  /** Bytes; both files are as long afterwards. */
  length: number;
  target: number;
  to: number;
}

/** Changes of one copy, but for those of its first region: with more it is cut, so that nobody waits long for its turn. */
const CHANGES_MAX = 4096;

/** Changes that make a copy, and the bytes that they copy: fewer than were asked for where there would be too many. */
export interface CopiedContent {
  changes: ContentChange[];
  length: number;
}

/**
 * What makes a range of one file the same as a range of another, without a byte being read: the target's range becomes
 * extents of the source's chunks. A range in very many pieces is cut at a region of the source.
 *
 * EOPNOTSUPP where the bytes themselves are in the tree (small files), or where a region would come to have more than
 * REGION_EXTENTS_MAX extents: they must be read and written. EIO when a value is damaged. Cost: the regions of both ranges
 * that exist.
 */
export function copiedContent(session: Session, range: CopiedRange): CopiedContent | Errno {
  const { source, from, to } = range;
  const inode = loadFile(session, source);
  if (typeof inode === 'number') return inode;
  if (keepsInline(session, range)) return ERRNO.EOPNOTSUPP;
  const changes: ContentChange[] = [];
  let end = from + range.length;
  const shift = to - from;
  let isInline = false;
  let copied = 0;
  const regions = regionsOf(source, regionAt(from), regionAt(end - 1) + 1);
  const errno = session.scanRegions(regions, (content, key) => {
    if (changes.length >= CHANGES_MAX) {
      end = Math.max(from, regionOf(key) * REGION_BYTES);
      return false;
    }
    isInline = 'inline' in content;
    if ('inline' in content) return false;
    for (const extent of content.extents) {
      copied += addMoved(changes, extent, { from, end, shift });
    }
    return true;
  });
  if (errno !== 0) return errno;
  if (isInline || isTooMany(session, range.target, changes)) return ERRNO.EOPNOTSUPP;
  const lacks = isDense(inode) && copied < Math.min(end, inode.size) - from;
  return lacks
    ? session.damaged(session.keys.inode(source), 'counts bytes that are not there')
    : {
        changes: [{ kind: 'discard', offset: to, length: end - from }, ...changes],
        length: end - from,
      };
}

/** Whether the target has bytes in the tree that would remain beside extents. */
function keepsInline(session: Session, { target, to, length }: CopiedRange): boolean {
  if (to >= REGION_BYTES) return false;
  const content = session.getRegion(session.keys.region(target, 0));
  if (content === undefined || typeof content === 'number') return false;
  if (!('inline' in content)) return false;
  return to > 0 || length < content.inline.length;
}

/** Whether a region of the target would come to have too many extents, with all that it has. */
function isTooMany(session: Session, target: number, changes: readonly ContentChange[]): boolean {
  const counts = new Map<number, number>();
  for (const change of changes) {
    if (change.kind !== 'extent') continue;
    const index = regionAt(change.extent.offset);
    counts.set(index, (counts.get(index) ?? 0) + 1);
  }
  for (const [index, count] of counts) {
    const stored = session.getRegion(session.keys.region(target, index));
    const isList = typeof stored === 'object' && 'extents' in stored;
    if (count + (isList ? stored.extents.length : 0) >= REGION_EXTENTS_MAX) return true;
  }
  return false;
}

/**
 * Adds the part of an extent that lies in the range, where it goes, cut at the borders of regions there. Yields its
 * bytes.
 */
function addMoved(
  changes: ContentChange[],
  extent: Extent,
  { from, end, shift }: { from: number; end: number; shift: number },
): number {
  const first = Math.max(extent.offset, from);
  const last = Math.min(extent.offset + extent.length, end);
  for (let at = first; at < last; ) {
    const offset = at + shift;
    const length = Math.min(last - at, REGION_BYTES - (offset % REGION_BYTES));
    const chunkOffset = extent.chunkOffset + at - extent.offset;
    changes.push({ kind: 'extent', extent: { ...extent, offset, length, chunkOffset } });
    at += length;
  }
  return Math.max(0, last - first);
}
