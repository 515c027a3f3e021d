import { Packr } from 'msgpackr';
import { REGION_BYTES } from '../layout.ts';
import { isRegular } from './mode.ts';
import type { Attributes, Extent, RegionContent } from './types.ts';

/**
 * How the tree's values look before they are sealed: msgpack arrays whose first field is the
 * record's version. README.md lists the fields.
 *
 * Every decoder returns undefined for what it does not understand; nothing of the given bytes is
 * kept.
 */

/**
 * An inode as the tree keeps it. Never changed in place: a change makes a new object, so callers
 * may hold on to it.
 */
export interface Inode extends Attributes {
  /**
   * The directory that a directory lies in (a root's is itself). For everything else the directory
   * of one of its names, or 0 when that is not known: only a hint, and the name may be gone.
   */
  readonly parent: number;
  /** Target of a symbolic link; empty for everything else. */
  readonly target: Uint8Array;
  /** Root directory of the namespace that it belongs to, for good. */
  readonly namespace: number;
  /** Extended attributes; 0 also where an older version did not count them. */
  readonly xattrs: number;
}

/** A name in a directory. */
export interface NameRecord {
  readonly name: Uint8Array;
  readonly ino: number;
  /** Type bits of the inode's mode (S_IFMT). */
  readonly type: number;
}

/** An extended attribute. */
export interface XattrRecord {
  readonly name: Uint8Array;
  readonly value: Uint8Array;
}

/** What the tree counts. */
export interface Counters {
  /** Inode numbers from here on were never given to anything. */
  readonly nextIno: number;
  /** Inodes, orphans included; a kill leaves it wrong by those that were made or removed since it was written. */
  readonly inodes: number;
}

/** Nothing: the target of what is no symbolic link. */
export const NO_BYTES: Uint8Array = new Uint8Array(0);

/** Inode number of the root directory of the default namespace. */
export const ROOT_INO: 1 = 1;

const VERSION = 1;
const INODE_FIELDS = 16;
/** The fields of an inode that may be negative: seconds of its four times. */
const SECONDS: ReadonlySet<number> = new Set([7, 9, 11, 13]);
const REGION_INLINE = 0;
const REGION_EXTENTS = 1;
/** Bytes of one packed extent: four u32 and the chunk's id. */
const EXTENT_BYTES = 48;
const ID_WORDS = 8;

/**
 * Turns records into bytes and back. Encoded bytes are valid until the next `encode…`. Threads:
 * one.
 */
export class RecordCodec {
  readonly #packr = new Packr({ useRecords: false, copyBuffers: true });

  encodeInode(inode: Inode): Uint8Array {
    const { atime, mtime, ctime, btime } = inode;
    const fields: unknown[] = [
      VERSION,
      inode.mode,
      inode.nlink,
      inode.uid,
      inode.gid,
      inode.rdev,
      inode.size,
      atime.seconds,
      atime.nanoseconds,
      mtime.seconds,
      mtime.nanoseconds,
      ctime.seconds,
      ctime.nanoseconds,
      btime.seconds,
      btime.nanoseconds,
      inode.parent,
    ];
    const sparse = inode.allocated !== wholeOf(inode);
    const counted = inode.xattrs !== 0;
    const named = inode.namespace !== ROOT_INO || counted;
    if (inode.target.length > 0 || sparse || named) fields.push(inode.target);
    if (sparse || named) fields.push(inode.allocated);
    if (named) fields.push(inode.namespace);
    if (counted) fields.push(inode.xattrs);
    return this.#encode(fields);
  }

  decodeInode(bytes: Uint8Array, ino: number): Inode | undefined {
    const fields = this.#decode(bytes, INODE_FIELDS);
    if (fields === undefined) return undefined;
    for (let i = 1; i < INODE_FIELDS; i++) {
      if (!(SECONDS.has(i) ? Number.isSafeInteger(fields[i]) : isCount(fields[i])))
        return undefined;
    }
    const numbers = fields as number[];
    const target = fields[INODE_FIELDS] ?? NO_BYTES;
    if (!(target instanceof Uint8Array)) return undefined;
    const allocated = fields[INODE_FIELDS + 1] ?? wholeOf({ mode: numbers[1], size: numbers[6] });
    const namespace = fields[INODE_FIELDS + 2] ?? ROOT_INO;
    const xattrs = fields[INODE_FIELDS + 3] ?? 0;
    if (!isCount(allocated) || !isCount(namespace) || !isCount(xattrs)) return undefined;
    return {
      ino,
      mode: numbers[1],
      nlink: numbers[2],
      uid: numbers[3],
      gid: numbers[4],
      rdev: numbers[5],
      size: numbers[6],
      allocated,
      atime: { seconds: numbers[7], nanoseconds: numbers[8] },
      mtime: { seconds: numbers[9], nanoseconds: numbers[10] },
      ctime: { seconds: numbers[11], nanoseconds: numbers[12] },
      btime: { seconds: numbers[13], nanoseconds: numbers[14] },
      parent: numbers[15],
      target,
      namespace,
      xattrs,
    };
  }

  encodeName(record: NameRecord): Uint8Array {
    return this.#encode([VERSION, record.name, record.ino, record.type]);
  }

  decodeName(bytes: Uint8Array): NameRecord | undefined {
    const fields = this.#decode(bytes, 4);
    if (fields === undefined) return undefined;
    const [, name, ino, type] = fields;
    if (!(name instanceof Uint8Array) || !isCount(ino) || !isCount(type)) return undefined;
    return { name, ino, type };
  }

  encodeXattr(record: XattrRecord): Uint8Array {
    return this.#encode([VERSION, record.name, record.value]);
  }

  decodeXattr(bytes: Uint8Array): XattrRecord | undefined {
    const fields = this.#decode(bytes, 3);
    if (fields === undefined) return undefined;
    const [, name, value] = fields;
    if (!(name instanceof Uint8Array) || !(value instanceof Uint8Array)) return undefined;
    return { name, value };
  }

  encodeRegion(content: RegionContent, region: number): Uint8Array {
    if ('inline' in content) return this.#encode([VERSION, REGION_INLINE, content.inline]);
    return this.#encode([VERSION, REGION_EXTENTS, packExtents(content.extents, region)]);
  }

  decodeRegion(bytes: Uint8Array, region: number): RegionContent | undefined {
    const fields = this.#decode(bytes, 3);
    if (fields === undefined) return undefined;
    const [, kind, content] = fields;
    if (!(content instanceof Uint8Array)) return undefined;
    if (kind === REGION_INLINE) return { inline: content };
    if (kind !== REGION_EXTENTS || content.length % EXTENT_BYTES !== 0) return undefined;
    return { extents: unpackExtents(content, region) };
  }

  encodeCounters(counters: Counters): Uint8Array {
    return this.#encode([VERSION, counters.nextIno, counters.inodes]);
  }

  decodeCounters(bytes: Uint8Array): Counters | undefined {
    const fields = this.#decode(bytes, 3);
    if (fields === undefined) return undefined;
    const [, nextIno, inodes] = fields;
    if (!isCount(nextIno) || !Number.isSafeInteger(inodes)) return undefined;
    // Earlier versions kept what a kill had made of the count as it was.
    return { nextIno, inodes: Math.max(0, inodes as number) };
  }

  encodeFeatures(features: readonly string[]): Uint8Array {
    return this.#encode([VERSION, features]);
  }

  decodeFeatures(bytes: Uint8Array): string[] | undefined {
    const [, features] = this.#decode(bytes, 2) ?? [];
    if (!Array.isArray(features)) return undefined;
    return features.every((feature) => typeof feature === 'string') ? features : undefined;
  }

  /** The value of an orphan: that it is there says all. */
  encodeOrphan(): Uint8Array {
    return this.#encode([VERSION]);
  }

  #encode(fields: unknown[]): Uint8Array {
    return this.#packr.encode(fields);
  }

  /** The fields of a record of our version with at least `count` of them. */
  #decode(bytes: Uint8Array, count: number): unknown[] | undefined {
    let fields: unknown;
    try {
      fields = this.#packr.decode(bytes);
    } catch {
      return undefined;
    }
    if (!Array.isArray(fields) || fields.length < count || fields[0] !== VERSION) return undefined;
    return fields;
  }
}

/** Whether a field is what a record keeps of numbers, inode numbers and bits: an integer, not negative. */
function isCount(field: unknown): field is number {
  return Number.isSafeInteger(field) && (field as number) >= 0;
}

/** Bytes that lie behind an inode of which no hole was made. */
function wholeOf(inode: { readonly mode: number; readonly size: number }): number {
  return isRegular(inode) ? inode.size : 0;
}

/**
 * Extents as 48 bytes each: offset in the region, length, chunk offset, chunk length (u32), id;
 * little-endian.
 */
function packExtents(extents: readonly Extent[], region: number): Uint8Array {
  const bytes = new Uint8Array(extents.length * EXTENT_BYTES);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const extent of extents) {
    view.setUint32(at, extent.offset - region * REGION_BYTES, true);
    view.setUint32(at + 4, extent.length, true);
    view.setUint32(at + 8, extent.chunkOffset, true);
    view.setUint32(at + 12, extent.chunkLength, true);
    for (let word = 0; word < ID_WORDS; word++) {
      view.setUint32(at + 16 + word * 4, extent.id[word], true);
    }
    at += EXTENT_BYTES;
  }
  return bytes;
}

function unpackExtents(bytes: Uint8Array, region: number): Extent[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const extents: Extent[] = [];
  for (let at = 0; at < bytes.length; at += EXTENT_BYTES) {
    const id = new Uint32Array(ID_WORDS);
    for (let word = 0; word < ID_WORDS; word++) id[word] = view.getUint32(at + 16 + word * 4, true);
    extents.push({
      offset: region * REGION_BYTES + view.getUint32(at, true),
      length: view.getUint32(at + 4, true),
      chunkOffset: view.getUint32(at + 8, true),
      chunkLength: view.getUint32(at + 12, true),
      id,
    });
  }
  return extents;
}
