import { INLINE_BYTES, REGION_BYTES } from '../layout.ts';
import { REGION_EXTENTS_MAX } from '../limits.ts';
import { coversTo, isValidExtent, patchExtents, regionAt } from './content.ts';
import { ERRNO } from './errno.ts';
import { regionOf, regionsOf } from './keys.ts';
import { isDirectory, isRegular } from './mode.ts';
import type { Inode } from './records.ts';
import type { Session } from './session.ts';
import { compareTimes } from './time.ts';
import type { ContentChange, Errno, Extent, RegionContent, Result, Time } from './types.ts';

/**
 * Extents beyond which a record may not grow: sealed, it must fit into what a sealer takes (1 MiB, 48 bytes each). Twice
 * what anybody should make of a region: it is a bound for what must not happen.
 */
const RECORD_EXTENTS_MAX = 2 * REGION_EXTENTS_MAX;

/** A region while changes are applied: extents lie on top of the inline bytes, if there are any. */
interface Draft {
  /** Extents that the tree has. */
  readonly stored: number;
  inline: Uint8Array | undefined;
  extents: Extent[];
}

/** New size and time of a file whose content changed. */
export interface ContentUpdate {
  size: number;
  mtime: Time;
}

/**
 * What a region of a file holds; a region that was never written holds no extents. EIO where it
 * lacks bytes of a file that counts no hole: they would read as zeros.
 */
export function region(session: Session, ino: number, index: number): Result<RegionContent> {
  const inode = loadFile(session, ino);
  if (typeof inode === 'number') return inode;
  const key = session.keys.region(ino, index);
  const content = session.getRegion(key) ?? { extents: [] };
  if (typeof content === 'number' || !isDense(inode)) return content;
  const start = index * REGION_BYTES;
  const length = Math.min(inode.size - start, REGION_BYTES);
  const isWhole =
    'inline' in content
      ? content.inline.length >= length
      : length <= 0 || coversTo(content.extents, start, length);
  return isWhole ? content : session.damaged(key, 'lacks bytes that its file counts');
}

/** Whether a file counts no hole: whatever of it is missing is lost. */
export function isDense(file: Inode): boolean {
  return file.allocated === file.size;
}

export function loadFile(session: Session, ino: number): Inode | Errno {
  const inode = session.load(ino);
  if (typeof inode === 'number' || isRegular(inode)) return inode;
  return isDirectory(inode) ? ERRNO.EISDIR : ERRNO.EINVAL;
}

/**
 * Applies changes of content in their order, then sets size and times.
 *
 * EINVAL when a change makes no sense: an extent that crosses a region or leaves its chunk, inline
 * bytes beyond INLINE_BYTES, or an extent that would lie beside inline bytes rather than replace
 * them (a region is one or the other; inline zeros may become a hole). EFBIG when a region would
 * come to have more extents than a record may. Nothing is changed then.
 */
export function applyContent(
  session: Session,
  { ino, changes }: { ino: number; changes: readonly ContentChange[] },
  { size, mtime }: ContentUpdate,
): Result<Inode> {
  const inode = loadFile(session, ino);
  if (typeof inode === 'number') return inode;
  if (!Number.isSafeInteger(size) || size < 0) return ERRNO.EINVAL;
  const drafts = new Drafts(session, inode);
  for (const change of changes) {
    const errno = drafts.apply(change);
    if (errno !== 0) return errno;
  }
  const errno = drafts.settle();
  if (errno !== 0) return errno;
  drafts.write();
  const allocated = drafts.allocated;
  const changed: Inode = { ...inode, size, allocated, mtime, ctime: changedAt(inode, mtime) };
  session.save(changed);
  return changed;
}

/**
 * The ctime behind a change of content at `mtime`: the moment of the change, not of the commit, for programs take a ctime
 * that moves for a change.
 */
function changedAt(inode: Inode, mtime: Time): Time {
  const isWritten = compareTimes(mtime, inode.mtime) !== 0;
  return isWritten && compareTimes(mtime, inode.ctime) > 0 ? mtime : inode.ctime;
}

/** The regions that one call touches, before any of them is written. */
class Drafts {
  readonly #session: Session;
  readonly #ino: number;
  readonly #inode: Inode;
  /** Regions by index; undefined: the region is to be removed. */
  readonly #regions = new Map<number, Draft | undefined>();
  /** Bytes that the changed regions held before. */
  #heldBefore = 0;
  /** Everything was discarded: no region holds anything that is not in `#regions`. */
  #emptied = false;

  constructor(session: Session, inode: Inode) {
    this.#session = session;
    this.#inode = inode;
    this.#ino = inode.ino;
  }

  /** Bytes of the file that lie in no hole, after all changes. */
  get allocated(): number {
    let held = this.#emptied ? 0 : this.#inode.allocated - this.#heldBefore;
    for (const draft of this.#regions.values()) {
      if (draft !== undefined) held += draft.inline?.length ?? bytesOf(draft.extents);
    }
    return Math.max(0, held);
  }

  apply(change: ContentChange): Errno {
    if (change.kind === 'extent') return this.#extent(change.extent);
    if (change.kind === 'discard') return this.#discard(change.offset, change.length);
    if (change.bytes.length > INLINE_BYTES) return ERRNO.EINVAL;
    if (!this.#regions.has(0)) {
      // Nothing need be read where all that the file holds lies in this region.
      if (this.#inode.size <= REGION_BYTES) this.#heldBefore += this.#inode.allocated;
      else this.#draft(0);
    }
    // No copy: what is put is copied, and what trims makes new bytes.
    this.#regions.set(0, { stored: 0, inline: change.bytes, extents: [] });
    return 0;
  }

  /** Makes each region one thing, inline or extents; EINVAL where it would have to be both, EFBIG where it is too much. */
  settle(): Errno {
    for (const [index, draft] of this.#regions) {
      if (draft === undefined || draft.extents.length === 0) continue;
      const { length } = draft.extents;
      if (length > RECORD_EXTENTS_MAX && length > draft.stored) return ERRNO.EFBIG;
      if (draft.inline === undefined) continue;
      if (!isReplaced(draft.inline, draft.extents, index)) return ERRNO.EINVAL;
      draft.inline = undefined;
    }
    return 0;
  }

  write(): void {
    const { keys, codec } = this.#session;
    for (const [index, draft] of this.#regions) {
      const key = keys.region(this.#ino, index);
      if (draft?.inline !== undefined && draft.inline.length > 0) {
        this.#session.put(key, codec.encodeRegion({ inline: draft.inline }, index));
      } else if (draft !== undefined && draft.extents.length > 0) {
        this.#session.put(key, codec.encodeRegion({ extents: draft.extents }, index));
      } else {
        this.#session.remove(key);
      }
    }
  }

  #extent(extent: Extent): Errno {
    if (!isValidExtent(extent)) return ERRNO.EINVAL;
    const draft = this.#draft(regionAt(extent.offset));
    if (typeof draft === 'number') return draft;
    const before = draft.extents.length;
    draft.extents = patchExtents(draft.extents, { kind: 'extent', extent });
    if (draft.extents.length <= before) this.#session.released += 1;
    return 0;
  }

  #discard(offset: number, length: number): Errno {
    if (!(offset >= 0) || !(length >= 0)) return ERRNO.EINVAL;
    if (length === 0) return 0;
    if (offset === 0 && length === Infinity) this.#emptied = true;
    const end = offset + length;
    const first = regionAt(offset);
    const firstWhole = Math.ceil(offset / REGION_BYTES);
    const endWhole = end === Infinity ? Infinity : regionAt(end);
    if (firstWhole !== first) {
      const errno = this.#trim(first, offset, end);
      if (errno !== 0) return errno;
    }
    if (endWhole > firstWhole) this.#drop(firstWhole, endWhole);
    const endsInside = end !== Infinity && end % REGION_BYTES !== 0;
    if (endsInside && (endWhole !== first || firstWhole === first)) {
      return this.#trim(endWhole, offset, end);
    }
    return 0;
  }

  /** Takes the bytes from `from` to `to` of the file out of one region. */
  #trim(index: number, from: number, to: number): Errno {
    const draft = this.#draft(index);
    if (typeof draft === 'number') return draft;
    const change = { kind: 'discard', offset: from, length: to - from } as const;
    draft.extents = patchExtents(draft.extents, change);
    if (draft.inline !== undefined) {
      const start = index * REGION_BYTES;
      draft.inline = trimInline(draft.inline, from - start, to - start);
    }
    return 0;
  }

  /**
   * Removes whole regions from `first` (inclusive) to `end` (exclusive). Cost: the regions that
   * exist.
   */
  #drop(first: number, end: number): void {
    for (const index of this.#regions.keys()) {
      if (index >= first && index < end) this.#regions.set(index, undefined);
    }
    this.#session.scan(regionsOf(this.#ino, first, end), (key, sealed) => {
      const index = regionOf(key);
      if (!this.#regions.has(index) && !this.#emptied) this.#heldBefore += this.#held(key, sealed);
      this.#regions.set(index, undefined);
      return true;
    });
  }

  /** Bytes that a stored region holds; none when it is damaged, since it will be gone. */
  #held(key: Uint8Array, sealed: Uint8Array): number {
    const content = this.#session.openRegion(key, sealed);
    return typeof content === 'number' ? 0 : bytesIn(content);
  }

  #draft(index: number): Draft | Errno {
    const known = this.#regions.get(index);
    if (known !== undefined) return known;
    const stored = this.#regions.has(index)
      ? undefined
      : this.#session.getRegion(this.#session.keys.region(this.#ino, index));
    if (typeof stored === 'number') return stored;
    if (stored !== undefined && !this.#emptied) {
      this.#heldBefore += bytesIn(stored);
    }
    if (stored !== undefined && 'extents' in stored) this.#session.released += 1;
    const draft: Draft =
      stored !== undefined && 'inline' in stored
        ? { stored: 0, inline: stored.inline, extents: [] }
        : {
            stored: stored?.extents.length ?? 0,
            inline: undefined,
            extents: stored?.extents ?? [],
          };
    this.#regions.set(index, draft);
    return draft;
  }
}

/** Bytes that a region holds. */
function bytesIn(content: RegionContent): number {
  return 'inline' in content ? content.inline.length : bytesOf(content.extents);
}

/** Bytes that the extents hold. */
function bytesOf(extents: readonly Extent[]): number {
  let bytes = 0;
  for (const extent of extents) bytes += extent.length;
  return bytes;
}

/** Inline bytes without those from `from` on, or with zeros in their place where others follow. */
function trimInline(inline: Uint8Array, from: number, to: number): Uint8Array {
  if (from >= inline.length) return inline;
  if (to >= inline.length) return new Uint8Array(inline.subarray(0, Math.max(0, from)));
  return new Uint8Array(inline).fill(0, Math.max(0, from), to);
}

/** Whether the extents hold everything of the inline bytes that is not zero. */
function isReplaced(inline: Uint8Array, extents: readonly Extent[], index: number): boolean {
  const start = index * REGION_BYTES;
  if (coversTo(extents, start, inline.length)) return true;
  return inline.every(
    (byte, at) =>
      byte === 0 ||
      extents.some(({ offset, length }) => start + at >= offset && start + at < offset + length),
  );
}
