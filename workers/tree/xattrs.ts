/** The operations on extended attributes: SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR. */

import { IN_STRUCT_BYTES } from '../../engine/fuse-protocol.ts';
import { XATTR } from '../../engine/tree/xattrs.ts';
import type { Result } from '../../engine/tree/types.ts';
import type { Answer } from './answer.ts';
import { type Context, FAILURE } from './context.ts';
import { u32, xattrName } from './decode.ts';
import { isCapability, noticePrivileges } from './privileges.ts';
import type { Outcome, Request } from './request.ts';

const FLAGS = XATTR.CREATE | XATTR.REPLACE;

/** Sets a value: body is size, flags, name, value. */
export function setxattr(context: Context, request: Request): Outcome {
  const { body, node } = request;
  if (body.length < IN_STRUCT_BYTES.SETXATTR) return FAILURE.EIO;
  const size = u32(body, 0);
  const flags = u32(body, 4);
  if ((flags & ~FLAGS) !== 0 || flags === FLAGS) return FAILURE.EINVAL;
  const name = xattrName(body, IN_STRUCT_BYTES.SETXATTR);
  if (typeof name === 'number') return -name;
  const valueAt = IN_STRUCT_BYTES.SETXATTR + name.length + 1;
  if (valueAt + size > body.length) return FAILURE.EIO;
  const capability = isCapability(name);
  const errno = context.tree.setxattr(node, name, body.subarray(valueAt, valueAt + size), flags);
  if (capability) noticePrivileges(context, node);
  return 0 - errno;
}

/** A value, or its size when the reader has no room yet. */
export function getxattr(context: Context, request: Request, answer: Answer): Outcome {
  const { body, node } = request;
  if (body.length < IN_STRUCT_BYTES.GETXATTR) return FAILURE.EIO;
  const name = xattrName(body, IN_STRUCT_BYTES.GETXATTR);
  if (typeof name === 'number') return -name;
  return sized(context.tree.getxattr(node, name), u32(body, 0), answer);
}

/** All names, each with its NUL, or the size of that list when the reader has no room yet. */
export function listxattr(context: Context, request: Request, answer: Answer): Outcome {
  const { body, node } = request;
  if (body.length < IN_STRUCT_BYTES.GETXATTR) return FAILURE.EIO;
  return sized(context.tree.listxattr(node), u32(body, 0), answer);
}

/** Removes a value. */
export function removexattr(context: Context, request: Request): Outcome {
  const name = xattrName(request.body, 0);
  if (typeof name === 'number') return -name;
  return 0 - context.tree.removexattr(request.node, name);
}

/**
 * The common end of GETXATTR and LISTXATTR: `size` is the reader's room, 0 asks how much is needed.
 */
function sized(value: Result<Uint8Array>, size: number, answer: Answer): Outcome {
  if (typeof value === 'number') return -value;
  if (size === 0) {
    answer.xattrSize(value.length);
    return answer.length;
  }
  if (value.length > size) return FAILURE.ERANGE;
  return answer.raw(value) ? answer.length : FAILURE.E2BIG;
}
