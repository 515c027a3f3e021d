import { Buffer } from 'node:buffer';
import type { Kv } from '../kv/kv.ts';
import {
  allOf,
  COUNTERS_KEY,
  inodeOf,
  KEY,
  type KeyRange,
  NAME_HASH_BYTES,
  regionOf,
} from '../tree/keys.ts';
import {
  type Counters,
  type Inode,
  type NameRecord,
  RecordCodec,
  type XattrRecord,
} from '../tree/records.ts';
import type { RegionContent, Sealer } from '../tree/types.ts';
import type { Findings } from './finding.ts';

/** Bytes of a key of each kind. */
const KEY_BYTES: Readonly<Record<number, number>> = {
  [KEY.INODE]: 9,
  [KEY.NAME]: 9 + NAME_HASH_BYTES,
  [KEY.REGION]: 13,
  [KEY.XATTR]: 9 + NAME_HASH_BYTES,
  [KEY.ORPHAN]: 9,
  [KEY.NAMESPACE]: 1 + NAME_HASH_BYTES,
  [KEY.COUNTERS]: 1,
  [KEY.FEATURES]: 1,
};
const FORGED = 'is not authentic';
const UNKNOWN = 'cannot be understood';
/** Behind every key. */
const END = new Uint8Array(16).fill(0xff);

/** Why a record cannot be used, as the end of a sentence. */
export type Unreadable = 'is not authentic' | 'cannot be understood';

/** Reads the records of a tree and reports those that cannot be. Threads: one. */
export class RecordReader {
  readonly findings: Findings;
  readonly #sealer: Sealer;
  readonly #codec = new RecordCodec();
  readonly #kv: Kv;
  readonly #step: () => void;

  /** `step` is called for each record. */
  constructor(
    { kv, sealer }: { kv: Kv; sealer: Sealer },
    findings: Findings,
    step: () => void = () => {},
  ) {
    this.#kv = kv;
    this.#sealer = sealer;
    this.findings = findings;
    this.#step = step;
  }

  /** The counters; undefined where there are none. */
  counters(): Counters | Unreadable | undefined {
    const sealed = this.#kv.read((snapshot) => snapshot.get(COUNTERS_KEY));
    if (sealed === undefined) return undefined;
    const plain = this.#sealer.open(COUNTERS_KEY, sealed);
    return plain === undefined ? FORGED : (this.#codec.decodeCounters(plain) ?? UNKNOWN);
  }

  inode(key: Uint8Array, sealed: Uint8Array): Inode | Unreadable {
    const plain = this.#sealer.open(key, sealed);
    return plain === undefined ? FORGED : (this.#codec.decodeInode(plain, inodeOf(key)) ?? UNKNOWN);
  }

  /** A name, or a namespace. */
  name(key: Uint8Array, sealed: Uint8Array): NameRecord | Unreadable {
    const plain = this.#sealer.open(key, sealed);
    return plain === undefined ? FORGED : (this.#codec.decodeName(plain) ?? UNKNOWN);
  }

  region(key: Uint8Array, sealed: Uint8Array): RegionContent | Unreadable {
    const plain = this.#sealer.open(key, sealed);
    if (plain === undefined) return FORGED;
    return this.#codec.decodeRegion(plain, regionOf(key)) ?? UNKNOWN;
  }

  xattr(key: Uint8Array, sealed: Uint8Array): XattrRecord | Unreadable {
    const plain = this.#sealer.open(key, sealed);
    return plain === undefined ? FORGED : (this.#codec.decodeXattr(plain) ?? UNKNOWN);
  }

  /** Whether the mark of an orphan is authentic. */
  isAuthentic(key: Uint8Array, sealed: Uint8Array): boolean {
    return this.#sealer.open(key, sealed) !== undefined;
  }

  /** Whether the hash that begins at a byte of a key, `at`, is that of the name. */
  isHashOf({ key, at }: { key: Uint8Array; at: number }, ino: number, name: Uint8Array): boolean {
    const hash = this.#sealer.nameHash(ino, name);
    for (let i = 0; i < hash.length; i++) {
      if (key[at + i] !== hash[i]) return false;
    }
    return true;
  }

  /** Visits all records of a kind, in the order of their keys. */
  each(kind: number, visit: (key: Uint8Array, sealed: Uint8Array) => void): void {
    const bytes = KEY_BYTES[kind];
    this.#scan(allOf(kind), (key, sealed) => {
      if (key.length === bytes) visit(key, sealed);
      else this.#unknown(key);
    });
  }

  /** Reports what lies between the kinds that are known. */
  eachUnknown(): void {
    const kinds = Object.values(KEY).sort((a, b) => a - b);
    let from = new Uint8Array(1);
    for (const kind of kinds) {
      this.#scan({ from, to: Uint8Array.of(kind) }, (key) => this.#unknown(key));
      from = Uint8Array.of(kind + 1);
    }
    this.#scan({ from, to: END }, (key) => this.#unknown(key));
  }

  #unknown(key: Uint8Array): void {
    const what = 'a record of no kind that is known';
    this.findings.add({ code: 'KEY_UNKNOWN', what, inodes: [], subject: subjectOf(key) });
  }

  #scan({ from, to }: KeyRange, visit: (key: Uint8Array, sealed: Uint8Array) => void): void {
    this.#kv.read((snapshot) =>
      snapshot.scan(from, to, (key, sealed) => {
        this.#step();
        visit(key, sealed);
        return true;
      }),
    );
  }
}

/** A key as findings name it: its kind and the rest in hexadecimal digits. */
export function subjectOf(key: Uint8Array): string {
  const rest = Buffer.from(key.subarray(1)).toString('hex');
  return rest === '' ? String.fromCharCode(key[0]) : `${String.fromCharCode(key[0])}:${rest}`;
}
