/** COPY_FILE_RANGE: a copy that shares the chunks of what it copies. */
import { constants } from 'node:os';
import { IN_STRUCT_BYTES } from '../../engine/fuse-protocol.ts';
import type { Answer } from './answer.ts';
import { type Context, FAILURE } from './context.ts';
import { u64 } from './decode.ts';
import { takePrivileges } from './privileges.ts';
import type { Outcome, Request } from './request.ts';
import { isInode } from './virtual/numbers.ts';

/** Byte offsets in struct fuse_copy_file_range_in. */
const COPY = { FROM: 8, TARGET_NODE: 16, TO: 32, LENGTH: 40, FLAGS: 48 } as const;
/**
 * Bytes that one request copies at most: one turn handles some hundred regions. Programs ask again for the rest, as
 * they must after any short copy.
 */
const COPY_BYTES_MAX = 1 << 30;

/** Copies a range of `request.node` into another open file, or within the file. No flag is known yet. */
export function copyFileRange(context: Context, request: Request, _answer: Answer): Outcome {
  const { body, node } = request;
  if (body.length < IN_STRUCT_BYTES.COPY_FILE_RANGE) return FAILURE.EIO;
  const from = u64(body, COPY.FROM);
  const target = u64(body, COPY.TARGET_NODE);
  const to = u64(body, COPY.TO);
  if (u64(body, COPY.FLAGS) !== 0) return FAILURE.EINVAL;
  if (!Number.isSafeInteger(target)) return FAILURE.ESTALE;
  // The kernel then copies through memory, as it does from a virtual file.
  if (!isInode(target)) return -constants.errno.EXDEV;
  const length = Math.min(u64(body, COPY.LENGTH), COPY_BYTES_MAX);
  if (!Number.isSafeInteger(from + length) || !Number.isSafeInteger(to + length)) {
    return FAILURE.EFBIG;
  }
  takePrivileges(context, target, request.uid === 0);
  return context.inodes.copy(request, { source: node, from, length, target, to });
}
