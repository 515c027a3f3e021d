/**
 * How a recovery journal looks, byte by byte: see FORMAT.md beside this file. Pure: bytes in,
 * values or flaws out, whatever the bytes are. Numbers are little-endian.
 */
import { Buffer } from 'node:buffer';

/** Bytes of the header, with which a journal begins. */
export const HEADER_BYTES: 64 = 64;
/** Bytes before the body of each record. */
export const RECORD_HEAD_BYTES: 16 = 16;
/** Bytes of a chunk's id, with which the body of an object's record begins. */
export const ID_BYTES: 32 = 32;
/** Bytes that stand for the value that a key had. */
export const FINGERPRINT_BYTES: 16 = 16;

/** What a record is. */
export const RECORD = {
  /** A chunk: id, then its object as a store would have it. */
  OBJECT: 1,
  /** Changes of the tree, sealed. */
  CHANGES: 2,
  /** The last record: what was sealed, when and why; sealed itself. */
  END: 3,
} as const;

/** The largest object: 64 MiB of plaintext, its head and padding. */
export const OBJECT_BYTES_MAX: number = 64 * 2 ** 20 + 2 ** 17;
/** The largest sealed body: what the vault's scratch memory takes. */
export const SEALED_BYTES_MAX: number = 2 ** 20;
/** The smallest object: a header and one byte. */
const OBJECT_BYTES_MIN = 65;
/** The smallest sealed body: version, epoch, salt and tag. */
const SEALED_BYTES_MIN = 45;

const MAGIC = Buffer.from('MRJRNL01');
const VERSION = 1;
const VERSION_AT = 8;
const RESERVED_AT = 12;
const STORE_AT = 16;
const ID_AT = 32;
const KEY_CHECK_AT = 48;
const NAME_BYTES = 16;

const CHANGE_HEAD_BYTES = 8;
const BASES_MAX = 2;
const KEY_BYTES_MAX = 511;
const REMOVED = 1;

const END_HEAD_BYTES = 36;
const CAUSE_BYTES_MAX = 1024;
/** Inodes that are named as lost, at most. */
export const LOST_MAX: 4096 = 4096;

/** Why bytes are no journal. */
export interface Flaw {
  readonly flaw: string;
}

/** What a journal begins with. Each is 16 bytes. */
export interface JournalHeader {
  /** The store's uuid. */
  readonly store: Uint8Array;
  /** Tells this journal from all others. */
  readonly id: Uint8Array;
  /** The first bytes of the check of the key that it is sealed with. */
  readonly keyCheck: Uint8Array;
}

/** What stands before each record's body. */
export interface RecordHead {
  readonly kind: number;
  /** Of the body. */
  readonly bytes: number;
}

/** What one key of the tree is to become. */
export interface JournalChange {
  readonly key: Uint8Array;
  /** Sealed as the tree stores it; undefined: the key is removed. */
  readonly value: Uint8Array | undefined;
  /** Fingerprints of what the store may have under the key: one or two. */
  readonly bases: readonly Uint8Array[];
}

/** What a journal ends with. */
export interface JournalEnd {
  /** Milliseconds since the epoch. */
  readonly createdMs: number;
  /** errno of the store, or 0. */
  readonly errno: number;
  /** Why the store did not take it, for people. */
  readonly cause: string;
  readonly objects: number;
  readonly objectBytes: number;
  readonly changes: number;
  /** Inodes with data that could not be sealed either. */
  readonly lost: readonly number[];
}

/** Whether a decoder has refused its bytes. */
export function isFlaw<T extends object>(decoded: T | Flaw): decoded is Flaw {
  return 'flaw' in decoded;
}

function flawed(flaw: string): Flaw {
  return { flaw };
}

// ---- header ----

/** The first bytes of a journal. */
export function encodeHeader({ store, id, keyCheck }: JournalHeader): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(bytes);
  bytes.writeUInt32LE(VERSION, VERSION_AT);
  bytes.set(store.subarray(0, NAME_BYTES), STORE_AT);
  bytes.set(id.subarray(0, NAME_BYTES), ID_AT);
  bytes.set(keyCheck.subarray(0, NAME_BYTES), KEY_CHECK_AT);
  return bytes;
}

/** What the first bytes of a file say; its views lie in `bytes`. */
export function decodeHeader(bytes: Uint8Array): JournalHeader | Flaw {
  if (bytes.length < HEADER_BYTES)
    return flawed(`it ends within its header of ${HEADER_BYTES} bytes`);
  const header = asBuffer(bytes);
  if (!header.subarray(0, MAGIC.length).equals(MAGIC)) return flawed('it is no journal');
  const version = header.readUInt32LE(VERSION_AT);
  if (version !== VERSION)
    return flawed(`it has version ${version}, this program reads ${VERSION}`);
  if (header.readUInt32LE(RESERVED_AT) !== 0)
    return flawed('reserved bytes of its header are not 0');
  return {
    store: bytes.subarray(STORE_AT, ID_AT),
    id: bytes.subarray(ID_AT, KEY_CHECK_AT),
    keyCheck: bytes.subarray(KEY_CHECK_AT, HEADER_BYTES),
  };
}

// ---- records ----

/** What stands before a body. */
export function encodeRecordHead({ kind, bytes }: RecordHead): Buffer {
  const head = Buffer.alloc(RECORD_HEAD_BYTES);
  head.writeUInt32LE(kind, 0);
  head.writeBigUInt64LE(BigInt(bytes), 8);
  return head;
}

/** What a record's first bytes say, when `left` bytes of the file lie behind them. */
export function decodeRecordHead(bytes: Uint8Array, left: number): RecordHead | Flaw {
  if (bytes.length < RECORD_HEAD_BYTES) return flawed('the file ends within the head of a record');
  const head = asBuffer(bytes);
  const kind = head.readUInt32LE(0);
  if (head.readUInt32LE(4) !== 0) return flawed('reserved bytes of a record are not 0');
  const [low, high] = [head.readUInt32LE(8), head.readUInt32LE(12)];
  const isObject = kind === RECORD.OBJECT;
  if (!isObject && kind !== RECORD.CHANGES && kind !== RECORD.END) {
    return flawed(`a record has the unknown kind ${kind}`);
  }
  const least = isObject ? ID_BYTES + OBJECT_BYTES_MIN : SEALED_BYTES_MIN;
  const most = isObject ? ID_BYTES + OBJECT_BYTES_MAX : SEALED_BYTES_MAX;
  if (high !== 0 || low < least || low > most) return flawed('a record has an impossible length');
  if (low > left) return flawed('the file ends within a record');
  return { kind, bytes: low };
}

/**
 * The key that a sealed body is bound to: the header, its kind, and its number among the sealed
 * ones, so that none can be exchanged, left out, or moved to another journal.
 */
export function sealingKey(header: Uint8Array, kind: number, number: number): Buffer {
  const name = Buffer.from('journal');
  const key = Buffer.alloc(name.length + HEADER_BYTES + 8);
  name.copy(key);
  key.set(header.subarray(0, HEADER_BYTES), name.length);
  key.writeUInt32LE(kind, name.length + HEADER_BYTES);
  key.writeUInt32LE(number, name.length + HEADER_BYTES + 4);
  return key;
}

// ---- changes ----

/** Bytes of a change within a body. */
export function changeBytes({ key, value, bases }: JournalChange): number {
  return CHANGE_HEAD_BYTES + bases.length * FINGERPRINT_BYTES + key.length + (value?.length ?? 0);
}

/** Writes a change to `out` from `at` on; where it ends. */
export function putChange(out: Buffer, at: number, change: JournalChange): number {
  const { key, value, bases } = change;
  out.writeUInt16LE(key.length, at);
  out.writeUInt8(value === undefined ? REMOVED : 0, at + 2);
  out.writeUInt8(bases.length, at + 3);
  out.writeUInt32LE(value?.length ?? 0, at + 4);
  let end = at + CHANGE_HEAD_BYTES;
  for (const part of [...bases, key, ...(value === undefined ? [] : [value])]) {
    out.set(part, end);
    end += part.length;
  }
  return end;
}

/** The changes of an opened body, in order; their views lie in `plain`. */
export function decodeChanges(plain: Uint8Array): JournalChange[] | Flaw {
  const bytes = asBuffer(plain);
  const changes: JournalChange[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (bytes.length - at < CHANGE_HEAD_BYTES) return flawed('changes end within a change');
    const keyBytes = bytes.readUInt16LE(at);
    const flags = bytes.readUInt8(at + 2);
    const count = bytes.readUInt8(at + 3);
    const valueBytes = bytes.readUInt32LE(at + 4);
    const isRemoved = flags === REMOVED;
    if (flags > REMOVED || (isRemoved && valueBytes > 0)) return flawed('a change has wrong flags');
    if (keyBytes === 0 || keyBytes > KEY_BYTES_MAX) return flawed('a change has no possible key');
    if (count === 0 || count > BASES_MAX) return flawed('a change has no possible base');
    const basesAt = at + CHANGE_HEAD_BYTES;
    const keyAt = basesAt + count * FINGERPRINT_BYTES;
    const valueAt = keyAt + keyBytes;
    const end = valueAt + valueBytes;
    if (end > bytes.length) return flawed('changes end within a change');
    const bases: Uint8Array[] = [];
    for (let base = basesAt; base < keyAt; base += FINGERPRINT_BYTES) {
      bases.push(plain.subarray(base, base + FINGERPRINT_BYTES));
    }
    const value = isRemoved ? undefined : plain.subarray(valueAt, end);
    changes.push({ key: plain.subarray(keyAt, valueAt), value, bases });
    at = end;
  }
  return changes;
}

// ---- end ----

/** The last body, before it is sealed. Names LOST_MAX inodes at most. */
export function encodeEnd(end: JournalEnd): Buffer {
  const cause = Buffer.from(end.cause).subarray(0, CAUSE_BYTES_MAX);
  const lost = end.lost.slice(0, LOST_MAX);
  const bytes = Buffer.alloc(END_HEAD_BYTES + cause.length + lost.length * 8);
  bytes.writeDoubleLE(end.createdMs, 0);
  bytes.writeInt32LE(end.errno, 8);
  bytes.writeUInt32LE(end.objects, 12);
  bytes.writeDoubleLE(end.objectBytes, 16);
  bytes.writeUInt32LE(end.changes, 24);
  bytes.writeUInt32LE(cause.length, 28);
  bytes.writeUInt32LE(lost.length, 32);
  cause.copy(bytes, END_HEAD_BYTES);
  for (const [index, ino] of lost.entries()) {
    bytes.writeDoubleLE(ino, END_HEAD_BYTES + cause.length + index * 8);
  }
  return bytes;
}

/** What the opened last body says. */
export function decodeEnd(plain: Uint8Array): JournalEnd | Flaw {
  if (plain.length < END_HEAD_BYTES) return flawed('its end is cut off');
  const bytes = asBuffer(plain);
  const causeBytes = bytes.readUInt32LE(28);
  const count = bytes.readUInt32LE(32);
  if (causeBytes > CAUSE_BYTES_MAX || count > LOST_MAX) return flawed('its end is malformed');
  if (bytes.length !== END_HEAD_BYTES + causeBytes + count * 8)
    return flawed('its end is malformed');
  const [createdMs, objectBytes] = [bytes.readDoubleLE(0), bytes.readDoubleLE(16)];
  if (!isCount(createdMs) || !isCount(objectBytes)) return flawed('its end is malformed');
  const lost: number[] = [];
  const lostAt = END_HEAD_BYTES + causeBytes;
  for (let index = 0; index < count; index++) {
    const ino = bytes.readDoubleLE(lostAt + index * 8);
    if (!isCount(ino)) return flawed('its end is malformed');
    lost.push(ino);
  }
  return {
    createdMs,
    errno: bytes.readInt32LE(8),
    cause: bytes.toString('utf8', END_HEAD_BYTES, lostAt),
    objects: bytes.readUInt32LE(12),
    objectBytes,
    changes: bytes.readUInt32LE(24),
    lost,
  };
}

function isCount(number: number): boolean {
  return Number.isSafeInteger(number) && number >= 0;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
