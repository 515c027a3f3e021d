/** The operations on extended attributes: SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR. */
import { Buffer } from 'node:buffer';
import { IN_STRUCT_BYTES } from '../../engine/fuse-protocol.ts';
import { XATTR } from '../../engine/tree/xattrs.ts';
import type { Result } from '../../engine/tree/types.ts';
import type { Answer } from './answer.ts';
import { type Context, FAILURE } from './context.ts';
import { u32, xattrName } from './decode.ts';
import { isCapability, noticePrivileges } from './privileges.ts';
import type { Outcome, Request } from './request.ts';

const FLAGS = XATTR.CREATE | XATTR.REPLACE;
/**
 * What names begin with. The kernel checks who may change these; others it leaves to file systems, whoever asks, and
 * there are none here.
 */
const PREFIXES = ['user.', 'trusted.', 'security.'].map((prefix) => Buffer.from(prefix));

/** Sets a value: body is size, flags, name, value. */
export function setxattr(context: Context, request: Request): Outcome {
  const { body, node } = request;
  if (body.length < IN_STRUCT_BYTES.SETXATTR) return FAILURE.EIO;
  const size = u32(body, 0);
  const flags = u32(body, 4);
  if ((flags & ~FLAGS) !== 0 || flags === FLAGS) return FAILURE.EINVAL;
  const name = xattrName(body, IN_STRUCT_BYTES.SETXATTR);
  if (typeof name === 'number') return -name;
  const failure = checkPrefix(name);
  if (failure !== 0) return failure;
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
  // An earlier version let anybody set others: root can take them away.
  const failure = request.uid === 0 ? 0 : checkPrefix(name);
  return failure !== 0 ? failure : 0 - context.tree.removexattr(request.node, name);
}

/** 0, or why there can be no such attribute, as -errno. */
function checkPrefix(name: Uint8Array): Outcome {
  const prefix = PREFIXES.find(
    (each) => name.length >= each.length && each.compare(name, 0, each.length) === 0,
  );
  if (prefix === undefined) return FAILURE.EOPNOTSUPP;
  return name.length === prefix.length ? FAILURE.EINVAL : 0;
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
