import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from 'node:crypto';
import type { Sealer } from '../../engine/tree/types.ts';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** A real sealer over node:crypto: AES-256-GCM with the key of the value as additional data. */
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
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.#sealKey, nonce).setAAD(key);
    return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  }

  open(key: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
    if (sealed.length < NONCE_BYTES + TAG_BYTES) return undefined;
    const nonce = sealed.subarray(0, NONCE_BYTES);
    const decipher = createDecipheriv('aes-256-gcm', this.#sealKey, nonce).setAAD(key);
    decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
    try {
      const body = sealed.subarray(NONCE_BYTES, sealed.length - TAG_BYTES);
      return Buffer.concat([decipher.update(body), decipher.final()]);
    } catch {
      return undefined;
    }
  }
}
