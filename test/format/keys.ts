/**
 * What format 1 derives from a tenant's key, written from engine/store/FORMAT.md alone: Node's
 * crypto and @noble/hashes, nothing of this project.
 */
import { createDecipheriv, hkdfSync } from 'node:crypto';
import { blake3 } from '@noble/hashes/blake3.js';

const SALT = 'millrace v1';
const KEY_BYTES = 32;
const HEADER_CONTEXT = Buffer.from('millrace v1 chunk header');

/** Bytes of a header's check, and of a name's hash. */
const SHORT_BYTES = 16;

const RING_HEAD_BYTES = 37;
const TAG_BYTES = 16;
/** Bytes of the keys that hash, and of one epoch, within a ring. */
const HASHING_BYTES = 96;
const RING_EPOCH_BYTES = 68;

/** What the superblock of a rotated store says of its keys. */
export interface Rotated {
  readonly uuid: string;
  readonly epoch: number;
  /** Hexadecimal digits. */
  readonly keyRing: string;
}

interface EpochKeys {
  readonly chunk: Buffer;
  readonly value: Buffer;
}

/** What was sealed in an epoch whose keys are not there. */
export class UnknownEpoch extends Error {}

/** What a key ring holds; throws when it is another store's, or under another key. */
function openRing(ringKey: Uint8Array, { uuid, epoch, keyRing }: Rotated): Buffer {
  const sealed = Buffer.from(keyRing, 'hex');
  const prefix = Buffer.alloc(5, 1);
  prefix.writeUInt32LE(epoch, 1);
  const salt = sealed.subarray(prefix.length, RING_HEAD_BYTES);
  const key = blake3(salt, { key: ringKey });
  const cipher = createDecipheriv('aes-256-gcm', key, Buffer.alloc(12), {
    authTagLength: TAG_BYTES,
  });
  cipher.setAAD(Buffer.concat([sealed.subarray(0, prefix.length), Buffer.from(uuid)]));
  cipher.setAuthTag(sealed.subarray(-TAG_BYTES));
  const plain = cipher.update(sealed.subarray(RING_HEAD_BYTES, -TAG_BYTES));
  cipher.final();
  if (!sealed.subarray(0, prefix.length).equals(prefix)) throw new Error('a ring of another epoch');
  return plain;
}

/** The keys of one tenant. */
export class Keys {
  /** The value that a superblock holds as `keyCheck`. */
  readonly check: Buffer;
  /** The epoch whose keys seal what is written now. */
  readonly epoch: number;
  readonly #id: Buffer;
  readonly #name: Buffer;
  readonly #epochs = new Map<number, EpochKeys>();

  /** The keys of a store that was never rotated, or, from its last key, of one that was. */
  constructor(kek: Uint8Array, rotated?: Rotated) {
    const derive = (info: string): Buffer =>
      Buffer.from(hkdfSync('sha256', kek, SALT, info, KEY_BYTES));
    this.check = derive('millrace v1 check');
    this.epoch = rotated?.epoch ?? 1;
    this.#epochs.set(this.epoch, {
      chunk: derive(`millrace v1 chunk key epoch ${this.epoch}`),
      value: derive(`millrace v1 value key epoch ${this.epoch}`),
    });
    if (rotated === undefined) {
      this.#id = derive('millrace v1 id key');
      this.#name = derive('millrace v1 name key');
      return;
    }
    const ring = openRing(derive('millrace v1 ring key'), rotated);
    this.#id = ring.subarray(0, KEY_BYTES);
    this.#name = ring.subarray(KEY_BYTES, 2 * KEY_BYTES);
    for (let at = HASHING_BYTES; at < ring.length; at += RING_EPOCH_BYTES) {
      const [chunk, value, end] = [at + 4, at + 4 + KEY_BYTES, at + 4 + 2 * KEY_BYTES];
      this.#epochs.set(ring.readUInt32LE(at), {
        chunk: ring.subarray(chunk, value),
        value: ring.subarray(value, end),
      });
    }
  }

  /** The epochs whose objects these keys open, in order. */
  get epochs(): number[] {
    return [...this.#epochs.keys()].sort((a, b) => a - b);
  }

  /** Throws UnknownEpoch when there are no keys of this one. */
  #of(epoch: number): EpochKeys {
    const keys = this.#epochs.get(epoch);
    if (keys === undefined) throw new UnknownEpoch(`no key of epoch ${epoch}`);
    return keys;
  }

  /** The keys that everything is hashed and sealed with, by what each is for: none may be seen anywhere. */
  secrets(): Record<string, Buffer> {
    const { chunk, value } = this.#of(this.epoch);
    return { id: this.#id, chunk, name: this.#name, value };
  }

  /** The id of a chunk from its plaintext. */
  chunkId(plain: Uint8Array): Buffer {
    return Buffer.from(blake3(plain, { key: this.#id }));
  }

  /** The key that one chunk is sealed with in an epoch, the current one unless given. */
  chunkKey(id: Uint8Array, epoch: number = this.epoch): Buffer {
    return Buffer.from(blake3(id, { key: this.#of(epoch).chunk }));
  }

  /** The check at the end of a chunk's header. */
  headerCheck(id: Uint8Array, fields: Uint8Array, epoch: number = this.epoch): Buffer {
    const key = blake3(this.chunkKey(id, epoch), { context: HEADER_CONTEXT });
    return Buffer.from(blake3(Buffer.concat([fields, id]), { key }).subarray(0, SHORT_BYTES));
  }

  /** The key that one value of the tree is sealed with in an epoch. */
  valueKey(salt: Uint8Array, epoch: number = this.epoch): Buffer {
    return Buffer.from(blake3(salt, { key: this.#of(epoch).value }));
  }

  /** The hash that stands for a name in a directory or on an inode. */
  nameHash(ino: bigint, name: Uint8Array): Buffer {
    const owner = Buffer.alloc(8);
    owner.writeBigUInt64LE(ino);
    const hash = blake3(Buffer.concat([owner, name]), { key: this.#name });
    return Buffer.from(hash.subarray(0, SHORT_BYTES));
  }
}
