import { createHash } from 'node:crypto';
import { FINGERPRINT_BYTES } from './format.ts';

/**
 * 16 bytes that stand for a sealed value: equal values have equal ones, and no two values are
 * sealed to the same bytes. Zeros stand for no value.
 */
export function fingerprint(sealed: Uint8Array | undefined): Uint8Array {
  if (sealed === undefined) return new Uint8Array(FINGERPRINT_BYTES);
  return createHash('sha256').update(sealed).digest().subarray(0, FINGERPRINT_BYTES);
}
