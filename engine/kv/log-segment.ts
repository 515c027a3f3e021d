import { Buffer } from 'node:buffer';
import {
  closeSync,
  fdatasync,
  ftruncateSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import { MillraceError } from '../errors.ts';
import { pass } from '../kill-points.ts';
import { BOOT_ID_BYTES } from './boot-id.ts';

/*
 * One of the two files of a write-ahead log.
 *
 * ```text
 * header (64 bytes)   magic[8] | generation u32 | after: generation u32, sequence u32 | boot id[36] | crc u32 | 0 u32
 * record              generation u32 | sequence u32 | synced u32 | bytes u32 | crc u32 | changes[bytes]
 * change              key bytes u16 | value bytes u32 (2^32 - 1: removed) | key | value
 * ```
 *
 * Numbers are little-endian. Records lie behind one another from byte 64 on, and are numbered by sequence from 0. A crc is
 * CRC-32 (that of zlib) of everything of the header before it, or of the record's first 16 bytes and its changes. What
 * lies behind the last record is of an earlier generation, or zeros. *Synced* is how many records of this file were
 * known to be on the disk when this one was written. Values are sealed by the layer above, which sees whether they
 * are authentic; the crc finds what a loss of power has torn, and what a disk has damaged.
 */

const MAGIC = Buffer.from('MRWAL002');
const GENERATION_AT = MAGIC.length;
const AFTER_AT = GENERATION_AT + 4;
const BOOT_AT = AFTER_AT + 8;
const HEADER_CRC_AT = BOOT_AT + BOOT_ID_BYTES;
const HEADER_BYTES = 64;
const HEAD_BYTES = 20;
const RECORD_CRC_AT = 16;
const CHANGE_HEAD_BYTES = 6;
const REMOVED = 0xffff_ffff;
/** Bytes of a file beyond which it takes no more records. */
const SEGMENT_BYTES_MAX = 8 << 20;
/** Bytes beyond which the next one should begin: what is collected meanwhile still fits. */
const SEGMENT_BYTES_FULL = SEGMENT_BYTES_MAX / 2;
/** Longest record; a larger transaction is better written where it belongs at once. */
const RECORD_BYTES_MAX = 1 << 20;

const flushFile = promisify(fdatasync);

/** A place in the log: behind so many records of a generation, and behind all earlier generations. */
export interface LogPosition {
  readonly generation: number;
  readonly sequence: number;
}

/** Told of one change: the value that a key has now, or undefined when it was removed. */
export type OnChange = (key: Uint8Array, value: Uint8Array | undefined) => void;

/** A record in the making: one buffer for all records of a log, filled anew for each. */
export class LogRecord {
  readonly bytes: Buffer = Buffer.allocUnsafeSlow(RECORD_BYTES_MAX);
  #used = HEAD_BYTES;

  /** Bytes of the record so far; more than fit: it is given up. */
  get length(): number {
    return this.#used;
  }

  get fits(): boolean {
    return this.#used <= RECORD_BYTES_MAX;
  }

  /** Starts another record. */
  begin(): void {
    this.#used = HEAD_BYTES;
  }

  /** Adds a change. */
  add(key: Uint8Array, value: Uint8Array | undefined): void {
    const valueBytes = value?.length ?? 0;
    const at = this.#used;
    this.#used += CHANGE_HEAD_BYTES + key.length + valueBytes;
    if (!this.fits) return;
    const { bytes } = this;
    bytes[at] = key.length & 0xff;
    bytes[at + 1] = key.length >>> 8;
    bytes.writeUInt32LE(value === undefined ? REMOVED : valueBytes, at + 2);
    const keyAt = at + CHANGE_HEAD_BYTES;
    for (let i = 0; i < key.length; i++) bytes[keyAt + i] = key[i];
    if (value !== undefined) bytes.set(value, keyAt + key.length);
  }

  /** Writes the head: nothing may be added any more. */
  end({ generation, sequence }: LogPosition, synced: number): void {
    const { bytes } = this;
    bytes.writeUInt32LE(generation, 0);
    bytes.writeUInt32LE(sequence, 4);
    bytes.writeUInt32LE(synced, 8);
    bytes.writeUInt32LE(this.#used - HEAD_BYTES, 12);
    bytes.writeUInt32LE(recordCrc(bytes, 0, this.#used), RECORD_CRC_AT);
  }
}

/** One file of a log, as its writer sees it. Threads: the log's own. */
export class LogSegment {
  readonly #path: string;
  /** Whether a flush of the file takes time: then it is made as long as it can get, so that flushes write data only. */
  readonly #isOnDisk: boolean;
  #file: number | undefined;
  #generation = 0;
  #sequence = 0;
  #synced = 0;
  /** Where the next record begins. */
  #end = HEADER_BYTES;

  constructor(path: string, isOnDisk: boolean) {
    this.#path = path;
    this.#isOnDisk = isOnDisk;
  }

  /** Generation of its records; 0 while it has none that matter. */
  get generation(): number {
    return this.#generation;
  }

  /** Records that were appended. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Whether records are not known to be on the disk. */
  get isDirty(): boolean {
    return this.#generation !== 0 && this.#synced < this.#sequence;
  }

  /** Whether the next one should begin. */
  get isNearlyFull(): boolean {
    return this.#end > SEGMENT_BYTES_FULL;
  }

  /** Nothing in it matters any more. */
  free(): void {
    this.#generation = 0;
  }

  /**
   * Makes it the empty file of a generation whose records follow `after`; whether the file's name is new. Throws what
   * the file system throws.
   */
  begin(generation: number, after: LogPosition, bootId: string): boolean {
    const isNew = this.#file === undefined;
    if (isNew) this.#create();
    const header = Buffer.alloc(HEADER_BYTES);
    MAGIC.copy(header);
    header.writeUInt32LE(generation, GENERATION_AT);
    header.writeUInt32LE(after.generation, AFTER_AT);
    header.writeUInt32LE(after.sequence, AFTER_AT + 4);
    header.write(bootId, BOOT_AT, BOOT_ID_BYTES, 'latin1');
    header.writeUInt32LE(crc32(header.subarray(0, HEADER_CRC_AT)), HEADER_CRC_AT);
    this.#write(header, HEADER_BYTES, 0);
    pass('log-reset');
    this.#generation = generation;
    this.#sequence = 0;
    this.#synced = 0;
    this.#end = HEADER_BYTES;
    return isNew;
  }

  #create(): void {
    this.#file = openSync(this.#path, 'w', 0o600);
    pass('log-emptied');
    if (!this.#isOnDisk) return;
    try {
      this.#fill();
    } catch (error) {
      // What is left of a disk is for the store below.
      this.#giveUp();
      throw error;
    }
  }

  #giveUp(): void {
    try {
      ftruncateSync(this.#file as number);
    } catch {
      // It keeps what it has.
    }
    this.close(false);
  }

  #fill(): void {
    const zeros = Buffer.alloc(RECORD_BYTES_MAX);
    for (let at = 0; at < SEGMENT_BYTES_MAX; at += zeros.length)
      this.#write(zeros, zeros.length, at);
  }

  /** Writes a record; false when there is no room for it. Throws what the file system throws; it does not count then. */
  append(record: LogRecord): boolean {
    if (!record.fits || this.#end + record.length > SEGMENT_BYTES_MAX) return false;
    record.end({ generation: this.#generation, sequence: this.#sequence }, this.#synced);
    pass('log-append');
    this.#write(record.bytes, record.length, this.#end);
    pass('log-appended');
    this.#end += record.length;
    this.#sequence += 1;
    return true;
  }

  /** Resolves when what was appended before the call is on the disk. */
  async sync(): Promise<void> {
    const { generation, sequence } = this;
    await flushFile(this.#file as number);
    if (generation === this.#generation) this.#synced = sequence;
  }

  /** Lets go of the file; `remove` deletes it. */
  close(remove: boolean): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
    if (remove) rmSync(this.#path, { force: true });
  }

  #write(bytes: Buffer, length: number, position: number): void {
    const file = this.#file as number;
    let done = 0;
    while (done < length) done += writeSync(file, bytes, done, length - done, position + done);
  }
}

/** What an earlier process left in one file of its log. */
export class FoundSegment {
  readonly generation: number;
  /** What must be known before its first record counts. */
  readonly after: LogPosition;
  /** Boot in which it was written. */
  readonly bootId: string;
  readonly #bytes: Buffer;

  private constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.generation = bytes.readUInt32LE(GENERATION_AT);
    this.after = {
      generation: bytes.readUInt32LE(AFTER_AT),
      sequence: bytes.readUInt32LE(AFTER_AT + 4),
    };
    this.bootId = bytes.toString('latin1', BOOT_AT, HEADER_CRC_AT);
  }

  /**
   * The segment in a file; undefined when there is none, or it was never begun. Throws STORE_DAMAGED when its header is
   * neither whole nor missing: a sector is written whole.
   */
  static read(path: string): FoundSegment | undefined {
    const bytes = readIfThere(path);
    return bytes === undefined ? undefined : FoundSegment.parse(bytes);
  }

  /** The same of its bytes. */
  static parse(bytes: Buffer): FoundSegment | undefined {
    if (bytes.length < HEADER_BYTES) return undefined;
    const header = bytes.subarray(0, HEADER_BYTES);
    if (header.every((byte) => byte === 0)) return undefined;
    const isWhole =
      header.subarray(0, MAGIC.length).equals(MAGIC) &&
      header.readUInt32LE(HEADER_CRC_AT) === crc32(header.subarray(0, HEADER_CRC_AT)) &&
      header.readUInt32LE(HEADER_CRC_AT + 4) === 0;
    if (!isWhole) throw damagedLog();
    return new FoundSegment(bytes);
  }

  /**
   * Visits the changes of its records from number `first` on, and says how many whole records there are. Throws
   * STORE_DAMAGED when a record is not whole that must be: one that was on the disk, or in `isSameBoot`, in which nothing
   * is torn but the last one, one with others behind it.
   */
  replay(first: number, isSameBoot: boolean, visit: OnChange): number {
    let at = HEADER_BYTES;
    for (let sequence = 0; ; sequence++) {
      const end = this.#endOf(at, sequence);
      if (end === undefined) {
        // What the store below has already may be torn.
        if (this.#isPromised(at, Math.max(sequence, first), isSameBoot)) throw damagedLog();
        return sequence;
      }
      if (sequence >= first) visitChanges(this.#bytes.subarray(at + HEAD_BYTES, end), visit);
      at = end;
    }
  }

  /** Whether it has records that must not be given up: see `replay`. */
  isPromised(isSameBoot: boolean): boolean {
    return this.#isPromised(HEADER_BYTES, 0, isSameBoot);
  }

  /** Whether something at or behind `at` says that record `sequence` was written whole. */
  #isPromised(at: number, sequence: number, isSameBoot: boolean): boolean {
    const bytes = this.#bytes;
    let looked = 0;
    for (let other = at; other + HEAD_BYTES <= bytes.length; other++) {
      if (bytes.readUInt32LE(other) !== this.generation) continue;
      const found = bytes.readUInt32LE(other + 4);
      if (found < sequence) continue;
      const length = HEAD_BYTES + bytes.readUInt32LE(other + 12);
      const isHead = bytes.readUInt32LE(other + 8) <= found && length <= RECORD_BYTES_MAX;
      if (!isHead || other + length > bytes.length) continue;
      // Records do not lie in one another: what looks like so many was made to keep its reader busy.
      looked += length;
      if (looked > 2 * bytes.length + RECORD_BYTES_MAX) return true;
      if (this.#endOf(other, found) === undefined) continue;
      if (isSameBoot || bytes.readUInt32LE(other + 8) > sequence) return true;
    }
    return false;
  }

  /** Where the record at `at` ends; undefined when it is not whole, or not that one. */
  #endOf(at: number, sequence: number): number | undefined {
    const bytes = this.#bytes;
    if (at + HEAD_BYTES > bytes.length) return undefined;
    if (bytes.readUInt32LE(at) !== this.generation) return undefined;
    if (bytes.readUInt32LE(at + 4) !== sequence) return undefined;
    const end = at + HEAD_BYTES + bytes.readUInt32LE(at + 12);
    if (end > bytes.length || end - at > RECORD_BYTES_MAX) return undefined;
    return recordCrc(bytes, at, end) === bytes.readUInt32LE(at + RECORD_CRC_AT) ? end : undefined;
  }
}

/** What is thrown for a log that has lost what it promised. */
export function damagedLog(): MillraceError {
  return new MillraceError('STORE_DAMAGED', 'the write-ahead log of the tree is damaged', {
    hint: 'Move the files that end in -log0 and -log1 away: changes since the last write-back are lost then.',
  });
}

function recordCrc(bytes: Buffer, at: number, end: number): number {
  const head = crc32(bytes.subarray(at, at + RECORD_CRC_AT));
  return crc32(bytes.subarray(at + HEAD_BYTES, end), head);
}

function visitChanges(body: Buffer, visit: OnChange): void {
  for (let at = 0; at < body.length; ) {
    if (at + CHANGE_HEAD_BYTES > body.length) throw damagedLog();
    const valueBytes = body.readUInt32LE(at + 2);
    const keyAt = at + CHANGE_HEAD_BYTES;
    const valueAt = keyAt + body.readUInt16LE(at);
    const end = valueAt + (valueBytes === REMOVED ? 0 : valueBytes);
    if (end > body.length) throw damagedLog();
    const value = valueBytes === REMOVED ? undefined : body.subarray(valueAt, end);
    visit(body.subarray(keyAt, valueAt), value);
    at = end;
  }
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
