import { Buffer } from 'node:buffer';
import { randomFillSync } from 'node:crypto';
import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { MillraceError } from '../errors.ts';
import { pass } from '../kill-points.ts';
import { BOOT_ID_BYTES, readBootId } from './boot-id.ts';

/*
 * Changes that a Kv has promised but not written yet, in a file of the page cache.
 *
 * ```text
 * header (64 bytes)   magic[8] | boot id[36] | generation u32 | name of the file[16]
 * record              mark | changes | mark
 * mark                generation u32 | sequence u32 | bytes of the changes u32
 * change              key bytes u16 | value bytes u32 (2^32 - 1: removed) | key | value
 * ```
 *
 * Numbers are little-endian. A record counts when both marks are the expected ones. The kernel
 * copies what is written front to back, so that a process which was killed in the middle leaves no
 * second mark; and what lies there from before has another generation. Generation and name
 * together are unlike those of every other set of records. Whether a value is authentic
 * is seen by the layer above, which sealed it.
 */

const MAGIC = Buffer.from('MRWAL001');
const GENERATION_AT = MAGIC.length + BOOT_ID_BYTES;
const NAME_AT = GENERATION_AT + 4;
const HEADER_BYTES = 64;
const MARK_BYTES = 12;
const CHANGE_HEAD_BYTES = 6;
const REMOVED = 0xffff_ffff;
/** Bytes of the file beyond which it takes no more records until it is reset. */
const LOG_BYTES_MAX = 4 << 20;
/** Longest record; a larger transaction is better written where it belongs at once. */
const RECORD_BYTES_MAX = 1 << 20;

/** Told of one change: the value that a key has now, or undefined when it was removed. */
export type OnChange = (key: Uint8Array, value: Uint8Array | undefined) => void;

/**
 * A write-ahead log: what is appended survives the end of this process, however it ends, at the
 * price of one write to the page cache. It does not survive the end of the machine: a log of
 * another boot is ignored, for the store below it is then back at its last sync.
 *
 * **Bounds:** 4 MiB; `append` says when there is no room. Threads: one thread uses one log.
 */
export class WriteAheadLog {
  readonly #path: string;
  readonly #bootId: string;
  readonly #record: Buffer = Buffer.allocUnsafeSlow(RECORD_BYTES_MAX);
  readonly #header: Buffer = Buffer.alloc(HEADER_BYTES);
  #file: number | undefined;
  #generation = 0;
  #sequence = 0;
  /** Where the next record begins in the file. */
  #position = HEADER_BYTES;
  /** Bytes of the record that is being made; more than fit: it is given up. */
  #used = MARK_BYTES;

  /** A log in the file `path`, made at the first use. `bootId` is the kernel's own unless given. */
  constructor(path: string, bootId: string = readBootId()) {
    this.#path = path;
    this.#bootId = bootId.slice(0, BOOT_ID_BYTES).padEnd(BOOT_ID_BYTES);
  }

  /**
   * What tells the records since the last `reset` from all others, undefined when there are none.
   * Whoever writes them where they belong can store it with them, for `replay`.
   */
  get mark(): Uint8Array | undefined {
    return this.#position === HEADER_BYTES ? undefined : this.#header.subarray(GENERATION_AT);
  }

  /**
   * Visits the changes of every whole record that an earlier process of this boot left, in their
   * order, and says how many there were; none when their mark is `written`. Whoever has them
   * written where they belong must `reset`.
   */
  replay(visit: OnChange, written?: Uint8Array): number {
    const bytes = readIfThere(this.#path);
    if (bytes === undefined || bytes.length < HEADER_BYTES) return 0;
    const bootId = bytes.toString('latin1', MAGIC.length, GENERATION_AT);
    if (!bytes.subarray(0, MAGIC.length).equals(MAGIC) || bootId !== this.#bootId) return 0;
    this.#generation = bytes.readUInt32LE(GENERATION_AT);
    if (written !== undefined && bytes.subarray(GENERATION_AT, HEADER_BYTES).equals(written)) {
      return 0;
    }
    return replayRecords(bytes, this.#generation, visit);
  }

  /** Starts a record. */
  begin(): void {
    this.#used = MARK_BYTES;
  }

  /** Adds a change to the record that was begun. */
  add(key: Uint8Array, value: Uint8Array | undefined): void {
    const valueBytes = value?.length ?? 0;
    const at = this.#used;
    this.#used += CHANGE_HEAD_BYTES + key.length + valueBytes;
    if (this.#used + MARK_BYTES > RECORD_BYTES_MAX) return;
    const record = this.#record;
    record[at] = key.length & 0xff;
    record[at + 1] = key.length >>> 8;
    record.writeUInt32LE(value === undefined ? REMOVED : valueBytes, at + 2);
    const keyAt = at + CHANGE_HEAD_BYTES;
    for (let i = 0; i < key.length; i++) record[keyAt + i] = key[i];
    if (value !== undefined) record.set(value, keyAt + key.length);
  }

  /**
   * Writes the record. False: there is no room for it, and nothing was written. Throws STORE_IO
   * when the file cannot be written; the record does not count then.
   */
  append(): boolean {
    const end = this.#used + MARK_BYTES;
    if (end > RECORD_BYTES_MAX || this.#position + end > LOG_BYTES_MAX) return false;
    try {
      if (this.#file === undefined) this.#create();
      this.#mark(0, this.#used - MARK_BYTES);
      this.#mark(this.#used, this.#used - MARK_BYTES);
      pass('log-append');
      this.#write(this.#record, end, this.#position);
      pass('log-appended');
    } catch (cause) {
      throw logError(cause);
    }
    this.#position += end;
    this.#sequence += 1;
    return true;
  }

  /** Forgets every record: what they say is written where it belongs. Throws STORE_IO. */
  reset(): void {
    if (this.#position === HEADER_BYTES && this.#file !== undefined) return;
    try {
      if (this.#file === undefined) this.#create();
      else this.#renew();
    } catch (cause) {
      throw logError(cause);
    }
  }

  /** Lets go of the file. `remove` deletes it: everything in it is written where it belongs. */
  close(remove: boolean): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
    if (remove) rmSync(this.#path, { force: true });
  }

  #create(): void {
    this.#file = openSync(this.#path, 'w', 0o600);
    pass('log-emptied');
    MAGIC.copy(this.#header);
    this.#header.write(this.#bootId, MAGIC.length, BOOT_ID_BYTES, 'latin1');
    randomFillSync(this.#header, NAME_AT);
    this.#renew();
  }

  #renew(): void {
    const generation = (this.#generation + 1) >>> 0;
    const header = Buffer.from(this.#header);
    header.writeUInt32LE(generation, GENERATION_AT);
    this.#write(header, HEADER_BYTES, 0);
    pass('log-reset');
    header.copy(this.#header);
    this.#generation = generation;
    this.#sequence = 0;
    this.#position = HEADER_BYTES;
  }

  #mark(at: number, bytes: number): void {
    this.#record.writeUInt32LE(this.#generation, at);
    this.#record.writeUInt32LE(this.#sequence, at + 4);
    this.#record.writeUInt32LE(bytes, at + 8);
  }

  #write(bytes: Buffer, length: number, position: number): void {
    const file = this.#file as number;
    let done = 0;
    while (done < length) done += writeSync(file, bytes, done, length - done, position + done);
  }
}

function replayRecords(bytes: Buffer, generation: number, visit: OnChange): number {
  let changes = 0;
  let at = HEADER_BYTES;
  for (let sequence = 0; ; sequence++) {
    const body = bodyAt(bytes, at, generation, sequence);
    if (body === undefined) return changes;
    changes += visitChanges(body, visit);
    at += body.length + 2 * MARK_BYTES;
  }
}

/** The changes of the record at `at`; undefined when it does not count. */
function bodyAt(
  bytes: Buffer,
  at: number,
  generation: number,
  sequence: number,
): Buffer | undefined {
  const start = at + MARK_BYTES;
  if (start > bytes.length) return undefined;
  const length = bytes.readUInt32LE(at + 8);
  const end = start + length;
  if (end + MARK_BYTES > bytes.length) return undefined;
  const mark = bytes.subarray(at, start);
  const isExpected = mark.readUInt32LE(0) === generation && mark.readUInt32LE(4) === sequence;
  return isExpected && mark.equals(bytes.subarray(end, end + MARK_BYTES))
    ? bytes.subarray(start, end)
    : undefined;
}

function visitChanges(body: Buffer, visit: OnChange): number {
  let changes = 0;
  for (let at = 0; at < body.length; changes++) {
    if (at + CHANGE_HEAD_BYTES > body.length) throw damaged();
    const valueBytes = body.readUInt32LE(at + 2);
    const keyAt = at + CHANGE_HEAD_BYTES;
    const valueAt = keyAt + body.readUInt16LE(at);
    const end = valueAt + (valueBytes === REMOVED ? 0 : valueBytes);
    if (end > body.length) throw damaged();
    const value = valueBytes === REMOVED ? undefined : body.subarray(valueAt, end);
    visit(body.subarray(keyAt, valueAt), value);
    at = end;
  }
  return changes;
}

function damaged(): MillraceError {
  return new MillraceError('STORE_DAMAGED', 'the write-ahead log of the tree is damaged', {
    hint: 'Move the file that ends in -log away: changes since the last fsync may then be lost.',
  });
}

function logError(cause: unknown): MillraceError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new MillraceError('STORE_IO', `the write-ahead log cannot be written: ${reason}`, {
    hint: 'Check free space and the health of the disk that holds the store.',
    cause,
  });
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
