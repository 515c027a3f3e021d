import type { Kv, Transaction } from '../kv/kv.ts';
import { ERRNO } from './errno.ts';
import {
  COUNTERS_KEY,
  KEY,
  type KeyMaker,
  type KeyRange,
  NAME_HASH_BYTES,
  regionOf,
} from './keys.ts';
import type { Counters, Inode, NameRecord, RecordCodec, XattrRecord } from './records.ts';
import type { Errno, RegionContent, Sealer } from './types.ts';

/** Decoded inodes that stay in memory, in each of two generations. */
const CACHE_GENERATION_MAX = 32_768;
/** Bytes of a name up to which its hash is remembered. */
const HASHED_NAME_BYTES_MAX = 255;
/** Inode numbers that are set aside by one write of the counters. */
const INO_BLOCK = 1024;

/** What a {@link Session} is made of. */
export interface SessionOptions {
  kv: Kv;
  sealer: Sealer;
  codec: RecordCodec;
  keys: KeyMaker;
  onDamage: (description: string) => void;
}

/** Hears of changes while the session has it as `observer`. */
export interface SessionObserver {
  /** An inode has changed, or what belongs to it: content, attributes, or names in a directory. */
  saved(inode: Inode): void;
  /** Nothing that was read before need be so any more. */
  forgot(): void;
}

/** Counters as they were when a transaction began. */
interface CounterState {
  nextIno: number;
  persisted: Counters;
  inodes: number;
}

/**
 * Sealed values, decoded inodes and transactions: what every operation of the tree stands on.
 *
 * Inodes that a transaction changes are written when the outermost transaction ends, each once, so
 * a batch of creates in one directory rewrites the directory once. Inodes are cached, at most
 * 65,536, in two generations: what is used moves to the young one, and when that is full the old
 * one is dropped. After a transaction that failed the cache is emptied, so it never knows more
 * than the store.
 */
export class Session {
  readonly keys: KeyMaker;
  readonly codec: RecordCodec;
  readonly #kv: Kv;
  readonly #sealer: Sealer;
  readonly #onDamage: (description: string) => void;
  #transaction: Transaction | undefined;
  readonly #dirty = new Map<number, Inode>();
  #young = new Map<number, Inode>();
  #old = new Map<number, Inode>();
  #counters: CounterState | undefined;
  /** The name that was hashed last, and its hash: it is mostly asked for again. */
  #hashedIno = -1;
  #hashedBytes = 0;
  readonly #hashedName = new Uint8Array(HASHED_NAME_BYTES_MAX);
  readonly #hash = new Uint8Array(NAME_HASH_BYTES);
  /**
   * The name that was hashed last is known not to exist: who makes a file has looked its name up
   * just before.
   */
  isHashedMissing = false;
  /** Counts how often content lost a reference to a chunk, or may have. */
  released = 0;
  observer: SessionObserver | undefined = undefined;

  constructor(options: SessionOptions) {
    this.#kv = options.kv;
    this.#sealer = options.sealer;
    this.codec = options.codec;
    this.keys = options.keys;
    this.#onDamage = options.onDamage;
  }

  /** Runs `body` in a transaction; inside of another one, as a part of it. */
  transact<T>(body: () => T): T {
    if (this.#transaction !== undefined) return this.#kv.transact(body);
    const counters = this.#counters === undefined ? undefined : { ...this.#counters };
    try {
      return this.#kv.transact((transaction) => {
        this.#transaction = transaction;
        const result = body();
        this.#flush();
        return result;
      });
    } catch (error) {
      this.forget();
      this.#counters = counters;
      throw error;
    } finally {
      this.#dirty.clear();
      this.#transaction = undefined;
    }
  }

  /** Drops every decoded inode, for when somebody else changed the store. */
  forget(): void {
    this.#young = new Map();
    this.#old = new Map();
    this.isHashedMissing = false;
    this.observer?.forgot();
  }

  /**
   * The plaintext under `key`: undefined when there is none, EIO when it is not authentic. Valid
   * until the next call.
   */
  get(key: Uint8Array): Uint8Array | Errno | undefined {
    const transaction = this.#transaction;
    const sealed =
      transaction === undefined
        ? this.#kv.read((snapshot) => snapshot.get(key))
        : transaction.get(key);
    return sealed === undefined ? undefined : this.#open(key, sealed);
  }

  /** The name, or namespace, under `key`: undefined when there is none, EIO when it is damaged. */
  getName(key: Uint8Array): NameRecord | Errno | undefined {
    const plain = this.get(key);
    return plain === undefined || typeof plain === 'number' ? plain : this.#name(key, plain);
  }

  /** The content of a region under `key`, likewise. */
  getRegion(key: Uint8Array): RegionContent | Errno | undefined {
    const plain = this.get(key);
    return plain === undefined || typeof plain === 'number' ? plain : this.#region(key, plain);
  }

  /** The extended attribute under `key`, likewise. */
  getXattr(key: Uint8Array): XattrRecord | Errno | undefined {
    const plain = this.get(key);
    return plain === undefined || typeof plain === 'number' ? plain : this.#xattr(key, plain);
  }

  /** Opens a sealed region, for who scans with `scan`: EIO when it is damaged. */
  openRegion(key: Uint8Array, sealed: Uint8Array): RegionContent | Errno {
    const plain = this.#open(key, sealed);
    return typeof plain === 'number' ? plain : this.#region(key, plain);
  }

  /**
   * Visits the names, or namespaces, of a range in key order until `visit` returns false. EIO when
   * one is damaged: nothing behind it is visited.
   */
  scanNames(range: KeyRange, visit: (record: NameRecord, key: Uint8Array) => boolean): Errno {
    return this.#scanRecords(range, this.#name, visit);
  }

  /** Visits the content of a range of regions, likewise. */
  scanRegions(range: KeyRange, visit: (content: RegionContent, key: Uint8Array) => boolean): Errno {
    return this.#scanRecords(range, this.#region, visit);
  }

  /** Visits the extended attributes of a range, likewise. */
  scanXattrs(range: KeyRange, visit: (record: XattrRecord, key: Uint8Array) => boolean): Errno {
    return this.#scanRecords(range, this.#xattr, visit);
  }

  #scanRecords<T extends object>(
    range: KeyRange,
    decode: (key: Uint8Array, plain: Uint8Array) => T | Errno,
    visit: (record: T, key: Uint8Array) => boolean,
  ): Errno {
    let errno = 0;
    this.scan(range, (key, sealed) => {
      const plain = this.#open(key, sealed);
      const record = typeof plain === 'number' ? plain : decode.call(this, key, plain);
      if (typeof record !== 'number') return visit(record, key);
      errno = record;
      return false;
    });
    return errno;
  }

  #name(key: Uint8Array, plain: Uint8Array): NameRecord | Errno {
    return this.codec.decodeName(plain) ?? this.damaged(key, 'is no name');
  }

  #region(key: Uint8Array, plain: Uint8Array): RegionContent | Errno {
    return this.codec.decodeRegion(plain, regionOf(key)) ?? this.damaged(key, 'is no content');
  }

  #xattr(key: Uint8Array, plain: Uint8Array): XattrRecord | Errno {
    return this.codec.decodeXattr(plain) ?? this.damaged(key, 'is no attribute');
  }

  /** Opens a sealed value: EIO when it is not authentic. */
  #open(key: Uint8Array, sealed: Uint8Array): Uint8Array | Errno {
    return this.#sealer.open(key, sealed) ?? this.damaged(key, 'is not authentic');
  }

  /** Reports a value that is not what it should be. */
  damaged(key: Uint8Array, how: string): Errno {
    const kind = String.fromCharCode(key[0]);
    const rest = Buffer.from(key.subarray(1)).toString('hex');
    this.#onDamage(`value of key ${kind}:${rest} ${how}`);
    return ERRNO.EIO;
  }

  put(key: Uint8Array, plain: Uint8Array): void {
    this.isHashedMissing = false;
    this.#writable().put(key, this.#sealer.seal(key, plain));
  }

  remove(key: Uint8Array): void {
    if (key[0] === KEY.REGION) this.released += 1;
    this.#writable().remove(key);
  }

  /** Visits sealed values in key order; see {@link Transaction.scan}. */
  scan(range: KeyRange, visit: (key: Uint8Array, sealed: Uint8Array) => boolean): void {
    if (this.#transaction !== undefined) {
      this.#transaction.scan(range.from, range.to, visit);
    } else {
      this.#kv.read((snapshot) => snapshot.scan(range.from, range.to, visit));
    }
  }

  /** The keyed hash of a name within an inode. Valid until the next call. */
  nameHash(ino: number, name: Uint8Array): Uint8Array {
    if (this.#isHashed(ino, name)) return this.#hash;
    this.isHashedMissing = false;
    const hash = this.#sealer.nameHash(ino, name);
    if (name.length > HASHED_NAME_BYTES_MAX) return hash;
    for (let i = 0; i < NAME_HASH_BYTES; i++) this.#hash[i] = hash[i];
    for (let i = 0; i < name.length; i++) this.#hashedName[i] = name[i];
    this.#hashedIno = ino;
    this.#hashedBytes = name.length;
    return this.#hash;
  }

  #isHashed(ino: number, name: Uint8Array): boolean {
    if (ino !== this.#hashedIno || name.length !== this.#hashedBytes) return false;
    // Names of one directory mostly differ at their ends.
    for (let i = name.length - 1; i >= 0; i--) {
      if (this.#hashedName[i] !== name[i]) return false;
    }
    return true;
  }

  /** The inode, ENOENT when there is none, or EIO. */
  load(ino: number): Inode | Errno {
    const known = this.#dirty.get(ino) ?? this.#young.get(ino);
    if (known !== undefined) return known;
    const inode = this.peek(ino);
    if (typeof inode !== 'number') this.#remember(inode);
    return inode;
  }

  /** As `load`, for who walks through many: what was not in memory is not kept there. */
  peek(ino: number): Inode | Errno {
    const known = this.#dirty.get(ino) ?? this.#young.get(ino) ?? this.#old.get(ino);
    if (known !== undefined) return known;
    const key = this.keys.inode(ino);
    const plain = this.get(key);
    if (plain === undefined) return ERRNO.ENOENT;
    if (typeof plain === 'number') return plain;
    return this.codec.decodeInode(plain, ino) ?? this.damaged(key, 'is no inode');
  }

  /** Makes this the inode's state; it is written when the transaction ends. */
  save(inode: Inode): void {
    this.#writable();
    this.#dirty.set(inode.ino, inode);
    this.#remember(inode);
    this.observer?.saved(inode);
  }

  /** Deletes the inode's record. */
  erase(ino: number): void {
    this.#dirty.delete(ino);
    this.#young.delete(ino);
    this.#old.delete(ino);
    this.remove(this.keys.inode(ino));
    this.#count(-1);
  }

  /**
   * An inode number that no inode ever had; its inode is counted. EIO when the counters are
   * damaged.
   */
  allocate(): number | undefined {
    const counters = this.#loadCounters();
    if (counters === undefined) return undefined;
    if (counters.nextIno >= counters.persisted.nextIno) {
      this.#persist(counters, counters.nextIno + INO_BLOCK);
    }
    this.#count(1);
    return counters.nextIno++;
  }

  /** Starts the counters of an empty tree. */
  initialize(nextIno: number): void {
    const persisted = { nextIno, inodes: 0 };
    this.#counters = { nextIno, persisted, inodes: 0 };
    this.#persist(this.#counters, nextIno);
  }

  /** Inodes in the store, orphans included; undefined when the counters are damaged. */
  count(): number | undefined {
    return this.#loadCounters()?.inodes;
  }

  /** Counts the inode that was made with a number of its own. */
  countOne(): void {
    this.#count(1);
  }

  /** Writes the counters as they are, so that the next start counts on from here. */
  saveCounters(): void {
    const counters = this.#counters;
    if (counters === undefined || counters.persisted.inodes === counters.inodes) return;
    this.transact(() => this.#persist(counters, counters.persisted.nextIno));
  }

  #count(difference: number): void {
    const counters = this.#loadCounters();
    if (counters === undefined) return;
    // Behind a kill it may begin too low.
    counters.inodes = Math.max(0, counters.inodes + difference);
    if (Math.abs(counters.inodes - counters.persisted.inodes) > INO_BLOCK) {
      this.#persist(counters, counters.persisted.nextIno);
    }
  }

  #persist(counters: CounterState, nextIno: number): void {
    counters.persisted = { nextIno, inodes: counters.inodes };
    this.put(COUNTERS_KEY, this.codec.encodeCounters(counters.persisted));
  }

  #loadCounters(): CounterState | undefined {
    if (this.#counters !== undefined) return this.#counters;
    const plain = this.get(COUNTERS_KEY);
    if (plain === undefined) {
      this.damaged(COUNTERS_KEY, 'is missing');
      return undefined;
    }
    if (typeof plain === 'number') return undefined;
    const persisted = this.codec.decodeCounters(plain);
    if (persisted === undefined) {
      this.damaged(COUNTERS_KEY, 'are no counters');
      return undefined;
    }
    const { nextIno, inodes } = persisted;
    this.#counters = { nextIno, persisted, inodes };
    return this.#counters;
  }

  #flush(): void {
    for (const inode of this.#dirty.values()) {
      this.put(this.keys.inode(inode.ino), this.codec.encodeInode(inode));
    }
  }

  #remember(inode: Inode): void {
    this.#young.set(inode.ino, inode);
    if (this.#young.size < CACHE_GENERATION_MAX) return;
    this.#old = this.#young;
    this.#young = new Map();
  }

  #writable(): Transaction {
    if (this.#transaction === undefined) throw new Error('a change outside of a transaction');
    return this.#transaction;
  }
}
