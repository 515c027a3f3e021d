/**
 * How the tree's keys look. Numbers are big-endian, so that byte order is number order.
 *
 * ```text
 * 'i' inode u64                  an inode
 * 'd' parent u64 name-hash[16]   a name in a directory
 * 'x' inode u64 region u32       content of one region of a file
 * 'a' inode u64 name-hash[16]    an extended attribute
 * 'o' inode u64                  an inode that no name leads to
 * 'n' name-hash[16]              a namespace
 * 's'                            counters
 * 'f'                            features
 * ```
 *
 * 'h' and 'p' are set aside: see "Snapshots" in ARCHITECTURE.md.
 */

/** First byte of each kind of key. */
export const KEY = {
  INODE: 0x69,
  NAME: 0x64,
  REGION: 0x78,
  XATTR: 0x61,
  ORPHAN: 0x6f,
  NAMESPACE: 0x6e,
  COUNTERS: 0x73,
  FEATURES: 0x66,
} as const;

/** Bytes of a keyed hash of a name. */
export const NAME_HASH_BYTES: 16 = 16;

const TWO_32 = 2 ** 32;
const PREFIX_BYTES = 9;
const HASHED_BYTES = PREFIX_BYTES + NAME_HASH_BYTES;
const REGION_KEY_BYTES = PREFIX_BYTES + 4;

/** Cookies 0 to 2 belong to the start of a directory, '.' and '..'. */
const COOKIE_FIRST = 3;
/** Bits of a name's hash that its cookie keeps: a cookie stays below 2^53. */
const COOKIE_BITS = 52;
const COOKIE_LOW_BITS = COOKIE_BITS - 32;

/** A number as it lies in a key. */
function putU64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, Math.floor(value / TWO_32));
  view.setUint32(offset + 4, value >>> 0);
}

/** The number at `offset` of a key. */
function u64At(key: Uint8Array, offset: number): number {
  const high =
    key[offset] * 2 ** 24 + (key[offset + 1] << 16) + (key[offset + 2] << 8) + key[offset + 3];
  const low =
    key[offset + 4] * 2 ** 24 + (key[offset + 5] << 16) + (key[offset + 6] << 8) + key[offset + 7];
  return high * TWO_32 + low;
}

/** The number that follows the first byte of each key but those of namespaces, counters and features. */
export function inodeOf(key: Uint8Array): number {
  return u64At(key, 1);
}

/** The region of a region's key. */
export function regionOf(key: Uint8Array): number {
  return (
    key[PREFIX_BYTES] * 2 ** 24 +
    (key[PREFIX_BYTES + 1] << 16) +
    (key[PREFIX_BYTES + 2] << 8) +
    key[PREFIX_BYTES + 3]
  );
}

/**
 * The cookie of a name: the leading bits of its hash, so it stays what it is while other names
 * come and go.
 */
export function cookieOf(nameKey: Uint8Array): number {
  const high = nameKey[9] * 2 ** 24 + (nameKey[10] << 16) + (nameKey[11] << 8) + nameKey[12];
  const low = ((nameKey[13] << 16) | (nameKey[14] << 8) | nameKey[15]) >>> (24 - COOKIE_LOW_BITS);
  return high * 2 ** COOKIE_LOW_BITS + low + COOKIE_FIRST;
}

/** Two keys that enclose a range: `from` is inside, `to` is not. */
export interface KeyRange {
  from: Uint8Array;
  to: Uint8Array;
}

/** One reusable buffer for keys of one kind. */
class KeyBuffer {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  constructor(kind: number, length: number) {
    this.bytes = new Uint8Array(length);
    this.view = new DataView(this.bytes.buffer);
    this.bytes[0] = kind;
  }
}

/**
 * Makes keys without allocating: each method returns the same buffer again, so a key is valid
 * until the next call of the same method. Threads: one.
 */
export class KeyMaker {
  readonly #inode = new KeyBuffer(KEY.INODE, PREFIX_BYTES);
  readonly #orphan = new KeyBuffer(KEY.ORPHAN, PREFIX_BYTES);
  readonly #name = new KeyBuffer(KEY.NAME, HASHED_BYTES);
  readonly #xattr = new KeyBuffer(KEY.XATTR, HASHED_BYTES);
  readonly #namespace = new KeyBuffer(KEY.NAMESPACE, 1 + NAME_HASH_BYTES);
  readonly #region = new KeyBuffer(KEY.REGION, REGION_KEY_BYTES);

  inode(ino: number): Uint8Array {
    putU64(this.#inode.view, 1, ino);
    return this.#inode.bytes;
  }

  orphan(ino: number): Uint8Array {
    putU64(this.#orphan.view, 1, ino);
    return this.#orphan.bytes;
  }

  name(parent: number, hash: Uint8Array): Uint8Array {
    putU64(this.#name.view, 1, parent);
    this.#name.bytes.set(hash, PREFIX_BYTES);
    return this.#name.bytes;
  }

  xattr(ino: number, hash: Uint8Array): Uint8Array {
    putU64(this.#xattr.view, 1, ino);
    this.#xattr.bytes.set(hash, PREFIX_BYTES);
    return this.#xattr.bytes;
  }

  namespace(hash: Uint8Array): Uint8Array {
    this.#namespace.bytes.set(hash, 1);
    return this.#namespace.bytes;
  }

  region(ino: number, region: number): Uint8Array {
    putU64(this.#region.view, 1, ino);
    this.#region.view.setUint32(PREFIX_BYTES, region);
    return this.#region.bytes;
  }
}

/** The key of the counters. */
export const COUNTERS_KEY: Uint8Array = Uint8Array.of(KEY.COUNTERS);

/** The key of the features. */
export const FEATURES_KEY: Uint8Array = Uint8Array.of(KEY.FEATURES);

/** All keys of one kind. */
export function allOf(kind: number): KeyRange {
  return { from: Uint8Array.of(kind), to: Uint8Array.of(kind + 1) };
}

/** All keys of one kind that belong to an inode. */
export function allOfInode(kind: number, ino: number): KeyRange {
  const from = new KeyBuffer(kind, PREFIX_BYTES);
  const to = new KeyBuffer(kind, PREFIX_BYTES);
  putU64(from.view, 1, ino);
  putU64(to.view, 1, ino + 1);
  return { from: from.bytes, to: to.bytes };
}

/** All keys of one kind that belong to an inode and lie behind `key`. */
export function allBehind(key: Uint8Array): KeyRange {
  const from = new Uint8Array(key.length + 1);
  from.set(key);
  return { from, to: allOfInode(key[0], inodeOf(key)).to };
}

/** The names of a directory whose cookies are larger than `cookie`. */
export function namesBehind(parent: number, cookie: number): KeyRange {
  const range = allOfInode(KEY.NAME, parent);
  if (cookie < COOKIE_FIRST) return range;
  const next = cookie - COOKIE_FIRST + 1;
  if (next >= 2 ** COOKIE_BITS) return { from: range.to, to: range.to };
  const from = new KeyBuffer(KEY.NAME, PREFIX_BYTES + 8);
  putU64(from.view, 1, parent);
  from.view.setUint32(PREFIX_BYTES, Math.floor(next / 2 ** COOKIE_LOW_BITS));
  from.view.setUint32(
    PREFIX_BYTES + 4,
    (next % 2 ** COOKIE_LOW_BITS) * 2 ** (32 - COOKIE_LOW_BITS),
  );
  return { from: from.bytes, to: range.to };
}

/** The regions of a file from `first` (inclusive) to `end` (exclusive; Infinity: to the last). */
export function regionsOf(ino: number, first: number, end: number): KeyRange {
  const all = allOfInode(KEY.REGION, ino);
  const from = regionKey(ino, Math.min(first, TWO_32 - 1));
  return { from, to: end >= TWO_32 ? all.to : regionKey(ino, end) };
}

function regionKey(ino: number, region: number): Uint8Array {
  const key = new KeyBuffer(KEY.REGION, REGION_KEY_BYTES);
  putU64(key.view, 1, ino);
  key.view.setUint32(PREFIX_BYTES, region);
  return key.bytes;
}
