/** LSEEK: where data and holes begin. */
import { IN_STRUCT_BYTES } from '../../engine/fuse-protocol.ts';
import type { Answer } from './answer.ts';
import { type Context, FAILURE } from './context.ts';
import { i64, u32 } from './decode.ts';
import type { Outcome, Request } from './request.ts';

/** Whences that the kernel hands on (linux/fs.h). */
const SEEK = { DATA: 3, HOLE: 4 } as const;

/** Byte offsets in struct fuse_lseek_in. */
const LSEEK = { OFFSET: 8, WHENCE: 16 } as const;

/**
 * Fronts send an LSEEK through the workers that were written to, as an fsync: only then does the
 * tree know of all holes. Yields the answer as if that had happened.
 */
export function lseek(context: Context, request: Request, answer: Answer): Outcome {
  const { body, node } = request;
  if (body.length < IN_STRUCT_BYTES.LSEEK) return FAILURE.EIO;
  const whence = u32(body, LSEEK.WHENCE);
  if (whence !== SEEK.DATA && whence !== SEEK.HOLE) return FAILURE.EINVAL;
  const wanted = whence === SEEK.DATA ? 'data' : 'hole';
  const found = context.tree.seek(node, i64(body, LSEEK.OFFSET), wanted);
  if (typeof found === 'number') return -found;
  answer.offset(found.offset);
  return answer.length;
}
