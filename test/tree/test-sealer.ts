import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { Sealer } from '../../engine/tree/types.ts';

/** The version of the vault's sealed values: a survey of pages then asks for the check at the end. */
const VERSION = Buffer.of(2);
const HEAD_BYTES = 29;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const CHECK_BYTES = 4;

/**
 * A real sealer over node:crypto: AES-256-GCM with the key of the value as additional data. Values are as long as the
 * vault's, with the version and the check of theirs; a nonce begins what is the salt there.
 */
export class TestSealer implements Sealer {
  readonly #sealKey: Buffer;
  readonly #nameKey: Buffer;

  /** With the same seed, what one seals another one opens; without it, nobody else does. */
  constructor(seed: string = randomBytes(32).toString('hex')) {
    this.#sealKey = createHash('sha256').update(`seal ${seed}`).digest();
    this.#nameKey = createHash('sha256').update(`name ${seed}`).digest();
  }

  nameHash(ino: number, name: Uint8Array): Uint8Array {
    return createHmac('sha256', this.#nameKey)
      .update(`${ino}:`)
      .update(name)
      .digest()
      .subarray(0, 16);
  }

  seal(key: Uint8Array, plain: Uint8Array): Uint8Array {
    const salt = randomBytes(HEAD_BYTES - VERSION.length);
    const nonce = salt.subarray(0, NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.#sealKey, nonce);
    cipher.setAAD(Buffer.concat([salt, key]));
    const body = [cipher.update(plain), cipher.final(), cipher.getAuthTag()];
    return Buffer.concat([VERSION, salt, ...body, checkOf(key)]);
  }

  open(key: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
    const checkAt = sealed.length - CHECK_BYTES;
    const tagAt = checkAt - TAG_BYTES;
    if (tagAt < HEAD_BYTES || sealed[0] !== VERSION[0]) return undefined;
    if (!checkOf(key).equals(sealed.subarray(checkAt))) return undefined;
    const salt = sealed.subarray(VERSION.length, HEAD_BYTES);
    const nonce = salt.subarray(0, NONCE_BYTES);
    const decipher = createDecipheriv('aes-256-gcm', this.#sealKey, nonce);
    decipher.setAAD(Buffer.concat([salt, key]));
    decipher.setAuthTag(sealed.subarray(tagAt, checkAt));
    try {
      return Buffer.concat([decipher.update(sealed.subarray(HEAD_BYTES, tagAt)), decipher.final()]);
    } catch {
      return undefined;
    }
  }
}

function checkOf(key: Uint8Array): Buffer {
  const check = Buffer.alloc(CHECK_BYTES);
  check.writeUInt32LE(crc32(key), 0);
  return check;
}
