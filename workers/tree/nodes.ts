/**
 * The operations that make inodes without opening them, and read links: MKNOD, MKDIR, SYMLINK,
 * READLINK.
 */

import { IN_STRUCT_BYTES } from '../../engine/fuse-protocol.ts';
import {
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  S_PERMISSIONS,
} from '../../engine/tree/mode.ts';
import { TARGET_BYTES_MAX } from '../../engine/tree/names.ts';
import type { Attributes, Result } from '../../engine/tree/types.ts';
import type { Answer } from './answer.ts';
import { type Context, FAILURE } from './context.ts';
import { entryName, text, u32 } from './decode.ts';
import type { Outcome, Request } from './request.ts';

/** What a new file or node is: the kernel has applied the umask already. */
export interface NewNode {
  mode: number;
  rdev: number;
}

/** Makes an inode that is no directory and no link in `request.node`. */
export function createNode(
  context: Context,
  request: Request,
  name: Uint8Array,
  { mode, rdev }: NewNode,
): Result<Attributes> {
  const { node, uid, gid } = request;
  return context.tree.create(node, name, { mode, rdev, owner: { uid, gid } });
}

/** A regular file, fifo, socket or device. */
export function mknod(context: Context, request: Request, answer: Answer): Outcome {
  const { body } = request;
  if (body.length < IN_STRUCT_BYTES.MKNOD) return FAILURE.EIO;
  const mode = nodeMode(u32(body, 0));
  if (mode === undefined) return FAILURE.EINVAL;
  const name = entryName(body, IN_STRUCT_BYTES.MKNOD);
  if (typeof name === 'number') return -name;
  return made(context, createNode(context, request, name, { mode, rdev: u32(body, 4) }), answer);
}

/** A directory. */
export function mkdir(context: Context, request: Request, answer: Answer): Outcome {
  const { body, node, uid, gid } = request;
  if (body.length < IN_STRUCT_BYTES.MKDIR) return FAILURE.EIO;
  const name = entryName(body, IN_STRUCT_BYTES.MKDIR);
  if (typeof name === 'number') return -name;
  const mode = (u32(body, 0) & S_PERMISSIONS) | S_IFDIR;
  return made(context, context.tree.mkdir(node, name, { mode, owner: { uid, gid } }), answer);
}

/** A symbolic link: the body is its name and its target. */
export function symlink(context: Context, request: Request, answer: Answer): Outcome {
  const { body, node, uid, gid } = request;
  const name = entryName(body, 0);
  if (typeof name === 'number') return -name;
  const target = text(body, name.length + 1);
  if (typeof target === 'number') return -target;
  if (target.length === 0) return FAILURE.ENOENT;
  if (target.length > TARGET_BYTES_MAX) return FAILURE.ENAMETOOLONG;
  return made(context, context.tree.symlink(node, name, target, { uid, gid }), answer);
}

/** The target of a symbolic link, without NUL. */
export function readlink(context: Context, request: Request, answer: Answer): Outcome {
  const target = context.tree.readlink(request.node);
  if (typeof target === 'number') return -target;
  return answer.raw(target) ? answer.length : FAILURE.EIO;
}

function made(context: Context, result: Result<Attributes>, answer: Answer): Outcome {
  return typeof result === 'number' ? -result : context.answerEntry(result, answer);
}

/**
 * The mode that mknod(2) may make: no type means a regular file; undefined for directories, links
 * and nonsense.
 */
function nodeMode(mode: number): number | undefined {
  const permissions = mode & S_PERMISSIONS;
  switch (mode & S_IFMT) {
    case 0:
      return permissions | S_IFREG;
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
    case S_IFCHR:
    case S_IFBLK:
      return permissions | (mode & S_IFMT);
    default:
      return undefined;
  }
}
