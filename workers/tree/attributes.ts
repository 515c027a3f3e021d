/** The operations on attributes: GETATTR, STATX, SETATTR, STATFS. */

import { FATTR, IN_STRUCT_BYTES, SETATTR_AT } from '../../engine/fuse-protocol.ts';
import { SECONDS_END } from '../../engine/limits.ts';
import { S_IFDIR, S_IFMT, S_IFREG, S_PERMISSIONS } from '../../engine/tree/mode.ts';
import type { Attributes, AttributesPatch, Time } from '../../engine/tree/types.ts';
import type { Answer } from './answer.ts';
import { type Context, FAILURE } from './context.ts';
import { i64, u32, u64 } from './decode.ts';
import { isExecutable, noticePrivileges, stripCapabilities, withoutSetId } from './privileges.ts';
import type { Outcome, Request } from './request.ts';

const NANOSECONDS_PER_SECOND = 1_000_000_000;
const TAKES_CAPABILITIES = FATTR.UID | FATTR.GID | FATTR.SIZE;
const CHANGES_PRIVILEGES = TAKES_CAPABILITIES | FATTR.MODE | FATTR.KILL_SUIDGID;

/**
 * What stat(2) tells. Handle and flags of the request do not matter: the inode is known by its
 * number.
 */
export function getattr(context: Context, request: Request, answer: Answer): Outcome {
  return context.answerAttributes(request.node, answer);
}

/** What statx(2) tells; the kernel asks for it where the time of birth is wanted. */
export function statx(context: Context, request: Request, answer: Answer): Outcome {
  return context.answerStatx(request.node, answer);
}

/** Numbers of the whole file system. */
export function statfs(context: Context, _request: Request, answer: Answer): Outcome {
  answer.statistics(context.statfs());
  return answer.length;
}

/** chmod, chown, utimensat and truncate, in any combination. */
export function setattr(context: Context, request: Request, answer: Answer): Outcome {
  const { body, node } = request;
  if (body.length < IN_STRUCT_BYTES.SETATTR) return FAILURE.EIO;
  const patch: AttributesPatch = {};
  const failure =
    patchTimes(context, body, patch) ||
    patchSize(context, request, patch) ||
    patchMode(context, request, patch);
  if (failure !== 0) return failure;
  if (patch.size !== undefined) return context.inodes.resize(request, node, patch, answer);
  const errno = context.tree.setattr(node, patch);
  if (typeof errno === 'number' && errno !== 0) return -errno;
  if (patch.mode !== undefined) noticePrivileges(context, node);
  if (patch.mtime !== undefined) setOpenMtime(context, node, patch.mtime);
  return context.answerAttributes(node, answer);
}

/** Without this, the older mtime in an open inode's slot would outlive what utimensat(2) set. */
function setOpenMtime(context: Context, ino: number, mtime: Time): void {
  const slot = context.inodes.slotOf(ino);
  if (slot >= 0) context.inodes.setMtime(slot, mtime);
}

/** Decodes owner and mode. Yields 0 or -errno. */
function patchMode(context: Context, request: Request, patch: AttributesPatch): Outcome {
  const { body, node } = request;
  const valid = u32(body, SETATTR_AT.VALID);
  if ((valid & FATTR.UID) !== 0) patch.uid = u32(body, SETATTR_AT.UID);
  if ((valid & FATTR.GID) !== 0) patch.gid = u32(body, SETATTR_AT.GID);
  if ((valid & CHANGES_PRIVILEGES) === 0) return 0;
  const attributes = context.tree.getattr(node);
  if (typeof attributes === 'number') return -attributes;
  const type = attributes.mode & S_IFMT;
  // Who gives a file away or cuts it takes its capabilities, even when he may leave the set-id bits.
  if ((valid & TAKES_CAPABILITIES) !== 0 && type !== S_IFDIR && isExecutable(attributes)) {
    stripCapabilities(context.tree, node);
  }
  if ((valid & (FATTR.MODE | FATTR.KILL_SUIDGID)) === 0) return 0;
  let permissions = attributes.mode & S_PERMISSIONS;
  if ((valid & FATTR.MODE) !== 0) permissions = u32(body, SETATTR_AT.MODE) & S_PERMISSIONS;
  const kills = (valid & FATTR.KILL_SUIDGID) !== 0 && type !== S_IFDIR;
  patch.mode = (kills ? withoutSetId(permissions) : permissions) | type;
  return 0;
}

/** Decodes the size; truncate(2) also sets mtime, even when the size stays. Yields 0 or -errno. */
function patchSize(context: Context, request: Request, patch: AttributesPatch): Outcome {
  const { body, node } = request;
  if ((u32(body, SETATTR_AT.VALID) & FATTR.SIZE) === 0) return 0;
  const size = u64(body, SETATTR_AT.SIZE);
  if (!Number.isSafeInteger(size)) return FAILURE.EFBIG;
  const attributes = context.tree.getattr(node);
  if (typeof attributes === 'number') return -attributes;
  const failure = notRegular(attributes);
  if (failure !== 0) return failure;
  patch.size = size;
  patch.mtime ??= context.now();
  return 0;
}

/** 0 for a regular file, or why its content cannot be opened or cut, as -errno. */
export function notRegular({ mode }: Attributes): Outcome {
  const type = mode & S_IFMT;
  if (type === S_IFREG) return 0;
  return type === S_IFDIR ? FAILURE.EISDIR : FAILURE.EINVAL;
}

/** Decodes the three times. Yields 0 or -errno. */
function patchTimes(context: Context, body: Uint8Array, patch: AttributesPatch): Outcome {
  const valid = u32(body, SETATTR_AT.VALID);
  const now = (valid & (FATTR.ATIME_NOW | FATTR.MTIME_NOW)) !== 0 ? context.now() : undefined;
  if ((valid & FATTR.ATIME) !== 0) {
    const nanoseconds = u32(body, SETATTR_AT.ATIME_NANOSECONDS);
    const given = { seconds: i64(body, SETATTR_AT.ATIME), nanoseconds };
    patch.atime = (valid & FATTR.ATIME_NOW) !== 0 && now !== undefined ? now : given;
  }
  if ((valid & FATTR.MTIME) !== 0) {
    const nanoseconds = u32(body, SETATTR_AT.MTIME_NANOSECONDS);
    const given = { seconds: i64(body, SETATTR_AT.MTIME), nanoseconds };
    patch.mtime = (valid & FATTR.MTIME_NOW) !== 0 && now !== undefined ? now : given;
  }
  if ((valid & FATTR.CTIME) !== 0) {
    const nanoseconds = u32(body, SETATTR_AT.CTIME_NANOSECONDS);
    patch.ctime = { seconds: i64(body, SETATTR_AT.CTIME), nanoseconds };
  }
  for (const kind of ['atime', 'mtime', 'ctime'] as const) {
    const time = patch[kind];
    if (time === undefined) continue;
    if (time.nanoseconds >= NANOSECONDS_PER_SECOND) return FAILURE.EINVAL;
    patch[kind] = within(time);
  }
  return 0;
}

/** The time itself, or the end of the range that it lies beyond, as on other file systems. */
function within(time: Time): Time {
  if (time.seconds >= SECONDS_END) return { seconds: SECONDS_END - 1, nanoseconds: 0 };
  return time.seconds < -SECONDS_END ? { seconds: -SECONDS_END, nanoseconds: 0 } : time;
}
