/**
 * Reads the kernel's little-endian structures from a request's body.
 *
 * The functions take bytes and offset and allocate nothing (a DataView per request would); the
 * caller has checked that the structure is there. 64-bit numbers become doubles, so what lies
 * beyond 2^53 must be refused by
 * `Number.isSafeInteger`.
 */

import { constants } from 'node:os';
import { NAME_BYTES_MAX } from '../../engine/tree/names.ts';
import { XATTR_NAME_BYTES_MAX } from '../../engine/tree/xattrs.ts';
import type { Errno, Result } from '../../engine/tree/types.ts';

const { EINVAL, ENAMETOOLONG, ENOENT, ERANGE } = constants.errno;
const WORD = 0x1_0000_0000;
const SLASH = 0x2f;
const DOT = 0x2e;

/** An unsigned 32-bit number. */
export function u32(bytes: Uint8Array, offset: number): number {
  return i32(bytes, offset) >>> 0;
}

/** A signed 32-bit number. */
export function i32(bytes: Uint8Array, offset: number): number {
  return (
    bytes[offset] | (bytes[offset + 1] << 8) | (bytes[offset + 2] << 16) | (bytes[offset + 3] << 24)
  );
}

/** An unsigned 64-bit number; exact below 2^53. */
export function u64(bytes: Uint8Array, offset: number): number {
  return u32(bytes, offset + 4) * WORD + u32(bytes, offset);
}

/** A signed 64-bit number; exact between -2^53 and 2^53. */
export function i64(bytes: Uint8Array, offset: number): number {
  return i32(bytes, offset + 4) * WORD + u32(bytes, offset);
}

/**
 * The bytes from `offset` up to the next NUL, as a view on the body; EINVAL when there is no NUL.
 */
export function text(bytes: Uint8Array, offset: number): Result<Uint8Array> {
  const end = bytes.indexOf(0, offset);
  return end < 0 ? EINVAL : bytes.subarray(offset, end);
}

/**
 * A name that may stand in a directory, as a view on the body. ENOENT when it is empty (as for an
 * empty path), ENAMETOOLONG beyond NAME_MAX, EINVAL without NUL, with a slash, or when it is `.` or
 * `..`, which the kernel resolves itself.
 */
export function entryName(bytes: Uint8Array, offset: number): Result<Uint8Array> {
  const name = text(bytes, offset);
  if (typeof name === 'number') return name;
  return nameErrno(name) || name;
}

function nameErrno(name: Uint8Array): Errno | 0 {
  if (name.length === 0) return ENOENT;
  if (name.length > NAME_BYTES_MAX) return ENAMETOOLONG;
  if (name[0] === DOT && (name.length === 1 || (name.length === 2 && name[1] === DOT))) {
    return EINVAL;
  }
  return name.includes(SLASH) ? EINVAL : 0;
}

/**
 * The name of an xattr, as a view on the body; ERANGE when it is empty or too long, as setxattr(2)
 * says.
 */
export function xattrName(bytes: Uint8Array, offset: number): Result<Uint8Array> {
  const name = text(bytes, offset);
  if (typeof name === 'number') return name;
  return name.length === 0 || name.length > XATTR_NAME_BYTES_MAX ? ERANGE : name;
}
