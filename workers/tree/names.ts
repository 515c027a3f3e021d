/** The operations on names that exist: LOOKUP, LINK, UNLINK, RMDIR, RENAME, RENAME2. */

import { constants } from 'node:os';
import { IN_STRUCT_BYTES } from '../../engine/fuse-protocol.ts';
import { RENAME } from '../../engine/tree/rename.ts';
import { type Context, FAILURE } from './context.ts';
import { entryName, u32, u64 } from './decode.ts';
import type { Answer } from './answer.ts';
import type { Outcome, Request } from './request.ts';
import { isInode } from './virtual/numbers.ts';

const { ENOENT } = constants.errno;
const EPERM: Outcome = -constants.errno.EPERM;

/**
 * The inode behind a name. A miss is answered as an entry that the kernel may remember, where it
 * may.
 */
export function lookup(context: Context, request: Request, answer: Answer): Outcome {
  const name = entryName(request.body, 0);
  if (typeof name === 'number') return -name;
  const found = context.tree.lookup(request.node, name);
  if (typeof found !== 'number') return context.answerEntry(found, answer);
  if (found !== ENOENT || !context.remembersMisses) return -found;
  // Nothing may be remembered about names in a directory that itself is gone.
  if (context.isGone(request.node)) return FAILURE.ESTALE;
  answer.negativeEntry(context.validity);
  return answer.length;
}

/** One more name, in the directory `request.node`, for an inode that has one. */
export function link(context: Context, request: Request, answer: Answer): Outcome {
  const { body, node } = request;
  if (body.length < IN_STRUCT_BYTES.LINK) return FAILURE.EIO;
  const ino = u64(body, 0);
  if (!isInode(ino)) return Number.isSafeInteger(ino) ? EPERM : FAILURE.ESTALE;
  const name = entryName(body, IN_STRUCT_BYTES.LINK);
  if (typeof name === 'number') return -name;
  const linkable = context.inodes.isLinkable(ino);
  const linked = linkable
    ? context.tree.linkUnnamed(ino, node, name)
    : context.tree.link(ino, node, name);
  if (typeof linked !== 'number') {
    if (linkable) context.inodes.linked(ino);
    return context.answerEntry(linked, answer);
  }
  return linked === ENOENT && context.isGone(ino) ? FAILURE.ESTALE : -linked;
}

/** Removes a name that is no directory's. */
export function unlink(context: Context, request: Request): Outcome {
  const name = entryName(request.body, 0);
  if (typeof name === 'number') return -name;
  const removed = context.tree.unlink(request.node, name);
  if (typeof removed === 'number') return -removed;
  if (removed.nlink === 0) context.inodes.unlinked(removed.ino);
  return 0;
}

/** Removes an empty directory. */
export function rmdir(context: Context, request: Request): Outcome {
  const name = entryName(request.body, 0);
  if (typeof name === 'number') return -name;
  const removed = context.tree.rmdir(request.node, name);
  if (typeof removed === 'number') return -removed;
  context.inodes.unlinked(removed.ino);
  return 0;
}

/** rename(2): what was called the new name before is replaced. */
export function rename(context: Context, request: Request): Outcome {
  if (request.body.length < IN_STRUCT_BYTES.RENAME) return FAILURE.EIO;
  return move(context, request, { namesAt: IN_STRUCT_BYTES.RENAME, flags: 0 });
}

/**
 * renameat2(2) with RENAME_NOREPLACE or RENAME_EXCHANGE; whiteouts are EINVAL, there being no
 * overlay here.
 */
export function rename2(context: Context, request: Request): Outcome {
  const { body } = request;
  if (body.length < IN_STRUCT_BYTES.RENAME2) return FAILURE.EIO;
  const flags = u32(body, 8);
  if ((flags & ~(RENAME.NOREPLACE | RENAME.EXCHANGE)) !== 0) return FAILURE.EINVAL;
  return move(context, request, { namesAt: IN_STRUCT_BYTES.RENAME2, flags });
}

/** Where in the body the two names start, and RENAMEs. */
interface Move {
  namesAt: number;
  flags: number;
}

function move(context: Context, request: Request, { namesAt, flags }: Move): Outcome {
  const { body, node } = request;
  const target = context.nodes.directory(u64(body, 0));
  if (target < 0) return target;
  const from = entryName(body, namesAt);
  if (typeof from === 'number') return -from;
  const to = entryName(body, namesAt + from.length + 1);
  if (typeof to === 'number') return -to;
  if (context.nodes.isHidden(u64(body, 0), to)) return EPERM;
  const moved = context.tree.rename(node, from, target, to, flags);
  if (typeof moved === 'number') return -moved;
  if (moved.replaced !== 0) context.inodes.unlinked(moved.replaced);
  return 0;
}
