/** FALLOCATE: space, holes and zeros in an open file. */
import { constants } from 'node:os';
import { IN_STRUCT_BYTES } from '../../engine/fuse-protocol.ts';
import type { Answer } from './answer.ts';
import { type Context, FAILURE } from './context.ts';
import { u32, u64 } from './decode.ts';
import { takePrivileges } from './privileges.ts';
import type { Outcome, Request } from './request.ts';

/** Modes of fallocate(2); linux/falloc.h. */
const FALLOC = { KEEP_SIZE: 1, PUNCH_HOLE: 2, ZERO_RANGE: 0x10 } as const;
const KNOWN_MODES = FALLOC.KEEP_SIZE | FALLOC.PUNCH_HOLE | FALLOC.ZERO_RANGE;

/** Byte offsets in struct fuse_fallocate_in. */
const FALLOCATE = { OFFSET: 8, LENGTH: 16, MODE: 24 } as const;

/**
 * Punches holes, zeroes ranges, or makes a file as long as asked. No space is set aside: chunks are shared and sealed,
 * so what a later write will need cannot be known.
 */
export function fallocate(context: Context, request: Request, _answer: Answer): Outcome {
  const { body, node } = request;
  if (body.length < IN_STRUCT_BYTES.FALLOCATE) return FAILURE.EIO;
  const offset = u64(body, FALLOCATE.OFFSET);
  const length = u64(body, FALLOCATE.LENGTH);
  const mode = u32(body, FALLOCATE.MODE);
  const punches = (mode & FALLOC.PUNCH_HOLE) !== 0;
  const keepsSize = (mode & FALLOC.KEEP_SIZE) !== 0;
  if ((mode & ~KNOWN_MODES) !== 0 || (punches && !keepsSize)) return -constants.errno.EOPNOTSUPP;
  if (length === 0) return FAILURE.EINVAL;
  if (!Number.isSafeInteger(offset + length)) return FAILURE.EFBIG;
  // Root keeps set-id bits (CAP_FSETID), everybody loses capabilities; the kernel leaves both to us.
  takePrivileges(context, node, request.uid === 0);
  const discards = punches || (mode & FALLOC.ZERO_RANGE) !== 0;
  return context.inodes.allocate(request, node, { offset, length, discards, keepsSize });
}
