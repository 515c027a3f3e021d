/** The operations that open and close files: OPEN, CREATE, TMPFILE, RELEASE. */

import { constants as fs } from 'node:fs';
import { constants as os } from 'node:os';
import { FOPEN, IN_STRUCT_BYTES } from '../../engine/fuse-protocol.ts';
import { S_IFREG, S_PERMISSIONS } from '../../engine/tree/mode.ts';
import type { Attributes } from '../../engine/tree/types.ts';
import type { Answer } from './answer.ts';
import { notRegular } from './attributes.ts';
import { type Context, FAILURE } from './context.ts';
import { entryName, u32 } from './decode.ts';
import { HANDLE_APPEND, HANDLE_WRITE, NO_SLOT } from './file-handle.ts';
import { createNode } from './nodes.ts';
import { privilegesOf } from './privileges.ts';
import type { Access } from './open-inodes.ts';
import type { Outcome, Request } from './request.ts';

/** O_RDONLY, O_WRONLY and O_RDWR lie here (O_ACCMODE). */
const ACCESS_MASK = 3;
const READING: Access = Object.freeze({ write: false });
const WRITING: Access = Object.freeze({ write: true });

/** Opens a regular file. O_TRUNC does not arrive: the kernel sends SETATTR behind it. */
export function open(context: Context, request: Request, answer: Answer): Outcome {
  const { body, node } = request;
  if (body.length < IN_STRUCT_BYTES.OPEN) return FAILURE.EIO;
  const attributes = context.tree.getattr(node);
  if (typeof attributes === 'number') return -attributes;
  return notRegular(attributes) || answerOpen(context, attributes, u32(body, 0), answer);
}

/**
 * Makes a regular file and opens it.
 *
 * The kernel sends CREATE only for a name that it believes free. If another client was faster,
 * O_EXCL gets EEXIST; everyone else ESTALE, upon which the kernel looks the name up again and opens
 * (and truncates) what is there.
 */
export function create(context: Context, request: Request, answer: Answer): Outcome {
  const { body } = request;
  if (body.length < IN_STRUCT_BYTES.CREATE) return FAILURE.EIO;
  const flags = u32(body, 0);
  const mode = (u32(body, 4) & S_PERMISSIONS) | S_IFREG;
  const name = entryName(body, IN_STRUCT_BYTES.CREATE);
  if (typeof name === 'number') return -name;
  const created = createNode(context, request, name, { mode, rdev: 0 });
  if (typeof created === 'number') {
    const raced = created === os.errno.EEXIST && (flags & fs.O_EXCL) === 0;
    return raced ? FAILURE.ESTALE : -created;
  }
  context.answerEntry(created, answer);
  const outcome = answerOpen(context, created, flags, answer);
  if (outcome < 0) removeAgain(context, request, name);
  return outcome;
}

/**
 * Makes a regular file without a name in a directory and opens it (O_TMPFILE). Without O_EXCL it may
 * get a name later; the name that the request carries is none.
 */
export function tmpfile(context: Context, request: Request, answer: Answer): Outcome {
  const { body, node, uid, gid } = request;
  if (body.length < IN_STRUCT_BYTES.CREATE) return FAILURE.EIO;
  const flags = u32(body, 0);
  const mode = (u32(body, 4) & S_PERMISSIONS) | S_IFREG;
  const created = context.tree.createUnnamed(node, { mode, owner: { uid, gid } });
  if (typeof created === 'number') return -created;
  if ((flags & fs.O_EXCL) === 0) context.inodes.unnamed(created.ino);
  else context.inodes.unlinked(created.ino);
  context.answerEntry(created, answer);
  const outcome = answerOpen(context, created, flags, answer);
  if (outcome < 0) context.inodes.forgotten(created.ino);
  return outcome;
}

/** Closes a file: the last of the requests that name its handle. */
export function release(context: Context, request: Request): Outcome {
  const { body } = request;
  if (body.length < IN_STRUCT_BYTES.RELEASE) return FAILURE.EIO;
  const slot = u32(body, 0);
  if (slot === NO_SLOT) return 0;
  context.inodes.release(slot, (u32(body, 4) & HANDLE_WRITE) !== 0 ? WRITING : READING);
  return 0;
}

function answerOpen(
  context: Context,
  attributes: Attributes,
  flags: number,
  answer: Answer,
): Outcome {
  const access = (flags & ACCESS_MASK) === fs.O_RDONLY ? READING : WRITING;
  const slot = context.inodes.open(attributes, access);
  if (slot < 0) return slot;
  if (access.write) {
    const privileges = privilegesOf(context.tree, attributes);
    if (privileges !== 0) context.inodes.setPrivileges(slot, privileges);
  }
  const append = (flags & fs.O_APPEND) !== 0 ? HANDLE_APPEND : 0;
  const write = access.write ? HANDLE_WRITE : 0;
  answer.open(slot, append | write, openFlags(flags, access));
  return answer.length;
}

/**
 * How the kernel shall treat an open file. Writers go past the page cache: buffered FUSE writes are
 * half as fast. Readers keep it, because mmap(2) lives in it, unless they asked for O_DIRECT; and
 * their close(2) commits nothing, so it need not ask (Linux 5.16; older ones do).
 */
function openFlags(flags: number, access: Access): number {
  if (access.write) return FOPEN.DIRECT_IO | FOPEN.PARALLEL_DIRECT_WRITES;
  const cache = (flags & fs.O_DIRECT) !== 0 ? FOPEN.DIRECT_IO : FOPEN.KEEP_CACHE;
  return cache | FOPEN.NOFLUSH;
}

/** A file that nobody could open must not stay behind. */
function removeAgain(context: Context, request: Request, name: Uint8Array): void {
  const removed = context.tree.unlink(request.node, name);
  if (typeof removed === 'number') return;
  context.inodes.unlinked(removed.ino);
  // The kernel never heard of it.
  context.inodes.forgotten(removed.ino);
}
