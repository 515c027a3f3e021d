import { ATTR_OUT_AT, ENTRY_AT, OUT_STRUCT_BYTES } from '../../engine/fuse-protocol.ts';
import { S_IFMT, S_IFREG } from '../../engine/tree/mode.ts';
import type { Attributes, DirectoryEntry, Time } from '../../engine/tree/types.ts';
import { NO_SLOT } from './file-handle.ts';
import type { FileSystemStatistics } from './statistics.ts';

/**
 * Bytes that an answer must have room for at least: the longest link target, or any one fixed
 * structure.
 */
export const ANSWER_BYTES_MIN = 4096;

/** Bytes in which st_blocks counts, whatever the block size. */
const STAT_BLOCK_BYTES = 512;
/**
 * st_blksize of a regular file: Python, coreutils and others take it as the size of their buffers,
 * so it is the largest payload of one request.
 */
const FILE_BLOCK_BYTES = 1 << 20;
/**
 * st_blksize of everything else: opendir(3) would take a buffer of a whole MiB for each directory.
 */
const OTHER_BLOCK_BYTES = 4096;
/** STATX_BASIC_STATS and STATX_BTIME (linux/stat.h). */
const STATX_BASIC_AND_BIRTH = 0xfff;
const WORD = 0x1_0000_0000;
/** Directory records start at multiples of this. */
const RECORD_BYTES = 8;

/** Bytes of a directory record with a name of that many bytes, padded. */
export function direntBytes(nameBytes: number): number {
  return Math.ceil((OUT_STRUCT_BYTES.DIRENT + nameBytes) / RECORD_BYTES) * RECORD_BYTES;
}

/**
 * Writes the structures of an answer, without fuse_out_header, one behind the other into a
 * preallocated buffer.
 *
 * **Bounds**: what has a fixed size always fits (`begin` sees to that); what has not says whether
 * it fits.
 * **Ownership**: the buffer is the worker's and is used again, so that every byte is written,
 * padding too.
 */
export class Answer {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #start = 0;
  #end = 0;
  #cursor = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.begin(0, bytes.byteLength);
  }

  /**
   * Starts an answer at a byte offset of the buffer, before `end` at most.
   * Throws a RangeError when that is not `ANSWER_BYTES_MIN` at least: the worker must flush its
   * answers first.
   */
  begin(start: number, end: number): this {
    if (!(start >= 0 && end <= this.#bytes.length && end - start >= ANSWER_BYTES_MIN)) {
      throw new RangeError(`no room for an answer between ${start} and ${end}`);
    }
    this.#start = start;
    this.#end = end;
    this.#cursor = start;
    return this;
  }

  /** Byte offset of this answer in the buffer. */
  get start(): number {
    return this.#start;
  }

  /** Bytes written since `begin`: the outcome of a handler that succeeded. */
  get length(): number {
    return this.#cursor - this.#start;
  }

  /** Bytes that still fit. */
  get room(): number {
    return this.#end - this.#cursor;
  }

  /** struct fuse_entry_out: a name's inode, valid for so long. */
  entry(attributes: Attributes, validity: Time): void {
    this.entryAt(this.reserveEntry(), attributes, validity);
  }

  /** Has the struct fuse_entry_out that begins at `start` name another node than its inode. */
  setNode(start: number, node: number): void {
    this.#u64(this.#start + start, node);
  }

  /** struct fuse_entry_out without an inode: "there is no such name", valid for so long. */
  negativeEntry(validity: Time): void {
    const at = this.reserveEntry();
    this.entryAt(at, undefined, validity);
  }

  /**
   * Leaves room for a struct fuse_entry_out and returns where; every such place must be given to
   * `entryAt`.
   */
  reserveEntry(): number {
    return this.#take(OUT_STRUCT_BYTES.ENTRY);
  }

  /** Fills in a struct fuse_entry_out; without attributes it names no inode. */
  entryAt(at: number, attributes: Attributes | undefined, validity: Time): void {
    if (attributes === undefined) this.#bytes.fill(0, at, at + OUT_STRUCT_BYTES.ENTRY);
    const view = this.#view;
    this.#u64(at + ENTRY_AT.ENTRY_SECONDS, validity.seconds);
    this.#u64(at + ENTRY_AT.ATTR_SECONDS, validity.seconds);
    view.setUint32(at + ENTRY_AT.ENTRY_NANOSECONDS, validity.nanoseconds, true);
    view.setUint32(at + ENTRY_AT.ATTR_NANOSECONDS, validity.nanoseconds, true);
    if (attributes === undefined) return;
    this.#u64(at + ENTRY_AT.NODE, attributes.ino);
    // Inode numbers are never used again, so there is but one generation.
    this.#u64(at + ENTRY_AT.GENERATION, 0);
    this.#attr(at + ENTRY_AT.ATTR, attributes);
  }

  /** struct fuse_attr_out: attributes, valid for so long. */
  attributes(attributes: Attributes, validity: Time): void {
    const at = this.#take(OUT_STRUCT_BYTES.ATTR_OUT);
    this.#u64(at + ATTR_OUT_AT.SECONDS, validity.seconds);
    this.#view.setUint32(at + ATTR_OUT_AT.NANOSECONDS, validity.nanoseconds, true);
    this.#view.setUint32(at + ATTR_OUT_AT.PADDING, 0, true);
    this.#attr(at + ATTR_OUT_AT.ATTR, attributes);
  }

  /** struct fuse_statx_out: attributes with the time of birth, valid for so long. */
  statx(attributes: Attributes, validity: Time): void {
    const { mode, rdev } = attributes;
    const at = this.#take(OUT_STRUCT_BYTES.STATX_OUT);
    const view = this.#view;
    this.#bytes.fill(0, at, at + OUT_STRUCT_BYTES.STATX_OUT);
    this.#u64(at, validity.seconds);
    view.setUint32(at + 8, validity.nanoseconds, true);
    const stat = at + 32;
    const regular = (mode & S_IFMT) === S_IFREG;
    view.setUint32(stat, STATX_BASIC_AND_BIRTH, true);
    view.setUint32(stat + 4, regular ? FILE_BLOCK_BYTES : OTHER_BLOCK_BYTES, true);
    view.setUint32(stat + 16, attributes.nlink, true);
    view.setUint32(stat + 20, attributes.uid, true);
    view.setUint32(stat + 24, attributes.gid, true);
    view.setUint16(stat + 28, mode, true);
    this.#u64(stat + 32, attributes.ino);
    this.#u64(stat + 40, attributes.size);
    this.#u64(stat + 48, Math.ceil(attributes.allocated / STAT_BLOCK_BYTES));
    this.#time(stat + 64, attributes.atime);
    this.#time(stat + 80, attributes.btime);
    this.#time(stat + 96, attributes.ctime);
    this.#time(stat + 112, attributes.mtime);
    // The kernel's 32-bit encoding: 8 bits of the minor number, 12 of the major, 12 of the minor.
    view.setUint32(stat + 128, (rdev >>> 8) & 0xfff, true);
    view.setUint32(stat + 132, (rdev & 0xff) | ((rdev >>> 12) & 0xfff00), true);
  }

  /** struct fuse_lseek_out. */
  offset(offset: number): void {
    this.#u64(this.#take(OUT_STRUCT_BYTES.LSEEK), offset);
  }

  /**
   * struct fuse_open_out: slot and flags become the file handle (see file-handle.ts), `fopen` are
   * FOPEN flags.
   */
  open(slot: number, handleFlags: number, fopen: number): void {
    const at = this.#take(OUT_STRUCT_BYTES.OPEN);
    this.#view.setUint32(at, slot, true);
    this.#view.setUint32(at + 4, handleFlags, true);
    this.#view.setUint32(at + 8, fopen, true);
    this.#view.setUint32(at + 12, 0, true);
  }

  /** struct fuse_open_out of a directory: no slot, nothing is cached. */
  openDirectory(): void {
    this.open(NO_SLOT, 0, 0);
  }

  /** struct fuse_statfs_out. */
  statistics(statistics: FileSystemStatistics): void {
    const at = this.#take(OUT_STRUCT_BYTES.STATFS);
    this.#u64(at, statistics.blocks);
    this.#u64(at + 8, statistics.bfree);
    this.#u64(at + 16, statistics.bavail);
    this.#u64(at + 24, statistics.files);
    this.#u64(at + 32, statistics.ffree);
    this.#view.setUint32(at + 40, statistics.bsize, true);
    this.#view.setUint32(at + 44, statistics.namelen, true);
    this.#view.setUint32(at + 48, statistics.frsize, true);
    this.#bytes.fill(0, at + 52, at + OUT_STRUCT_BYTES.STATFS);
  }

  /** struct fuse_write_out: how many bytes were written or copied. */
  written(bytes: number): void {
    const at = this.#take(OUT_STRUCT_BYTES.WRITE);
    this.#view.setUint32(at, bytes, true);
    this.#view.setUint32(at + 4, 0, true);
  }

  /** struct fuse_getxattr_out: how many bytes a value or list has. */
  xattrSize(bytes: number): void {
    const at = this.#take(OUT_STRUCT_BYTES.GETXATTR);
    this.#view.setUint32(at, bytes, true);
    this.#view.setUint32(at + 4, 0, true);
  }

  /** Bytes as they are; false, and nothing written, when they do not fit. */
  raw(bytes: Uint8Array): boolean {
    if (bytes.length > this.room) return false;
    this.#bytes.set(bytes, this.#take(bytes.length));
    return true;
  }

  /**
   * struct fuse_dirent, padded. `shift` is added to the entry's cookie, exactly even where the sum
   * passes 2^53. The caller has checked that `direntBytes` fit.
   */
  dirent(entry: DirectoryEntry, shift: number): void {
    const { name, cookie } = entry;
    const bytes = direntBytes(name.length);
    const at = this.#take(bytes);
    const view = this.#view;
    const low = (cookie >>> 0) + shift;
    const nameAt = at + OUT_STRUCT_BYTES.DIRENT;
    this.#u64(at, entry.ino);
    view.setUint32(at + 8, low, true);
    view.setUint32(at + 12, Math.floor(cookie / WORD) + (low >= WORD ? 1 : 0), true);
    view.setUint32(at + 16, name.length, true);
    view.setUint32(at + 20, entry.type >>> 12, true);
    this.#bytes.set(name, nameAt);
    this.#bytes.fill(0, nameAt + name.length, at + bytes);
  }

  #take(bytes: number): number {
    const at = this.#cursor;
    this.#cursor += bytes;
    return at;
  }

  /** struct fuse_attr. */
  #attr(at: number, attributes: Attributes): void {
    const { mode, size, atime, mtime, ctime } = attributes;
    const view = this.#view;
    const regular = (mode & S_IFMT) === S_IFREG;
    this.#u64(at, attributes.ino);
    this.#u64(at + 8, size);
    this.#u64(at + 16, Math.ceil(attributes.allocated / STAT_BLOCK_BYTES));
    this.#u64(at + 24, atime.seconds);
    this.#u64(at + 32, mtime.seconds);
    this.#u64(at + 40, ctime.seconds);
    view.setUint32(at + 48, atime.nanoseconds, true);
    view.setUint32(at + 52, mtime.nanoseconds, true);
    view.setUint32(at + 56, ctime.nanoseconds, true);
    view.setUint32(at + 60, mode, true);
    view.setUint32(at + 64, attributes.nlink, true);
    view.setUint32(at + 68, attributes.uid, true);
    view.setUint32(at + 72, attributes.gid, true);
    view.setUint32(at + 76, attributes.rdev, true);
    view.setUint32(at + 80, regular ? FILE_BLOCK_BYTES : OTHER_BLOCK_BYTES, true);
    view.setUint32(at + 84, 0, true);
  }

  /** struct fuse_sx_time. */
  #time(at: number, time: Time): void {
    this.#u64(at, time.seconds);
    this.#view.setUint32(at + 8, time.nanoseconds, true);
  }

  /** A 64-bit number, two's complement when it is negative: setUint32 takes values modulo 2^32. */
  #u64(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
    this.#view.setUint32(at + 4, Math.floor(value / WORD), true);
  }
}
