/**
 * What format 1 derives from a tenant's key, written from engine/store/FORMAT.md alone: Node's
 * crypto and @noble/hashes, nothing of this project.
 */
import { hkdfSync } from 'node:crypto';
import { blake3 } from '@noble/hashes/blake3.js';

const SALT = 'millrace v1';
const KEY_BYTES = 32;
const HEADER_CONTEXT = Buffer.from('millrace v1 chunk header');

/** Bytes of a header's check, and of a name's hash. */
const SHORT_BYTES = 16;

/** The keys of one tenant. */
export class Keys {
  /** The value that a superblock holds as `keyCheck`. */
  readonly check: Buffer;
  readonly #id: Buffer;
  readonly #chunk: Buffer;
  readonly #name: Buffer;
  readonly #value: Buffer;

  constructor(kek: Uint8Array) {
    const derive = (info: string): Buffer =>
      Buffer.from(hkdfSync('sha256', kek, SALT, info, KEY_BYTES));
    this.check = derive('millrace v1 check');
    this.#id = derive('millrace v1 id key');
    this.#chunk = derive('millrace v1 chunk key epoch 1');
    this.#name = derive('millrace v1 name key');
    this.#value = derive('millrace v1 value key epoch 1');
  }

  /** The keys that everything is hashed and sealed with, by what each is for: none may be seen anywhere. */
  secrets(): Record<string, Buffer> {
    return { id: this.#id, chunk: this.#chunk, name: this.#name, value: this.#value };
  }

  /** The id of a chunk from its plaintext. */
  chunkId(plain: Uint8Array): Buffer {
    return Buffer.from(blake3(plain, { key: this.#id }));
  }

  /** The key that one chunk is sealed with. */
  chunkKey(id: Uint8Array): Buffer {
    return Buffer.from(blake3(id, { key: this.#chunk }));
  }

  /** The check at the end of a chunk's header. */
  headerCheck(id: Uint8Array, fields: Uint8Array): Buffer {
    const key = blake3(this.chunkKey(id), { context: HEADER_CONTEXT });
    return Buffer.from(blake3(Buffer.concat([fields, id]), { key }).subarray(0, SHORT_BYTES));
  }

  /** The key that one value of the tree is sealed with. */
  valueKey(salt: Uint8Array): Buffer {
    return Buffer.from(blake3(salt, { key: this.#value }));
  }

  /** The hash that stands for a name in a directory or on an inode. */
  nameHash(ino: bigint, name: Uint8Array): Buffer {
    const owner = Buffer.alloc(8);
    owner.writeBigUInt64LE(ino);
    const hash = blake3(Buffer.concat([owner, name]), { key: this.#name });
    return Buffer.from(hash.subarray(0, SHORT_BYTES));
  }
}
