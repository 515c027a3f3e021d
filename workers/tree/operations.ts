/**
 * The operations of the tree worker: one table from opcode to handler.
 *
 * What is not in the table is ENOSYS, which the kernel takes as "never ask again": it then does
 * without (ACCESS under default_permissions, POLL, BMAP) or
 * tells the program that it is not supported (IOCTL). For what must never be believed
 * unnecessary there is `misrouted`.
 */

import { OPCODE, OPCODE_COUNT } from '../../engine/fuse-protocol.ts';
import { fallocate } from './allocation.ts';
import type { Answer } from './answer.ts';
import { getattr, setattr, statfs, statx } from './attributes.ts';
import { copyFileRange } from './copy-range.ts';
import { Context, FAILURE, type Handler, type OperationsOptions } from './context.ts';
import { fsyncdir, opendir, readdir, readdirplus, releasedir } from './directories.ts';
import { create, open, release, tmpfile } from './handles.ts';
import { link, lookup, rename, rename2, rmdir, unlink } from './names.ts';
import { mkdir, mknod, readlink, symlink } from './nodes.ts';
import { lseek } from './seek.ts';
import type { Outcome, Request } from './request.ts';
import { ADMITTED, Gate } from './virtual/gate.ts';
import { isInode } from './virtual/numbers.ts';
import { getxattr, listxattr, removexattr, setxattr } from './xattrs.ts';

export type { OperationsOptions } from './context.ts';
export { type Outcome, PENDING, type Request } from './request.ts';

const HANDLERS: readonly Handler[] = handlersByOpcode([
  [OPCODE.LOOKUP, lookup],
  [OPCODE.GETATTR, getattr],
  [OPCODE.SETATTR, setattr],
  [OPCODE.READLINK, readlink],
  [OPCODE.SYMLINK, symlink],
  [OPCODE.MKNOD, mknod],
  [OPCODE.MKDIR, mkdir],
  [OPCODE.UNLINK, unlink],
  [OPCODE.RMDIR, rmdir],
  [OPCODE.RENAME, rename],
  [OPCODE.LINK, link],
  [OPCODE.OPEN, open],
  [OPCODE.STATFS, statfs],
  [OPCODE.RELEASE, release],
  [OPCODE.SETXATTR, setxattr],
  [OPCODE.GETXATTR, getxattr],
  [OPCODE.LISTXATTR, listxattr],
  [OPCODE.REMOVEXATTR, removexattr],
  [OPCODE.OPENDIR, opendir],
  [OPCODE.READDIR, readdir],
  [OPCODE.RELEASEDIR, releasedir],
  [OPCODE.FSYNCDIR, fsyncdir],
  [OPCODE.FALLOCATE, fallocate],
  [OPCODE.CREATE, create],
  [OPCODE.READDIRPLUS, readdirplus],
  [OPCODE.RENAME2, rename2],
  [OPCODE.COPY_FILE_RANGE, copyFileRange],
  [OPCODE.TMPFILE, tmpfile],
  [OPCODE.STATX, statx],
  [OPCODE.LSEEK, lseek],
  // Served elsewhere; never the tree worker's.
  [OPCODE.READ, misrouted],
  [OPCODE.WRITE, misrouted],
  [OPCODE.FLUSH, misrouted],
  [OPCODE.FSYNC, misrouted],
  [OPCODE.SYNCFS, misrouted],
  [OPCODE.INIT, misrouted],
  [OPCODE.DESTROY, misrouted],
  [OPCODE.FORGET, misrouted],
  [OPCODE.BATCH_FORGET, misrouted],
  [OPCODE.INTERRUPT, misrouted],
]);

/** Serves the requests that are the tree worker's. Threads: that worker only. */
export class Operations {
  readonly #context: Context;
  readonly #gate: Gate;

  constructor(options: OperationsOptions) {
    this.#context = new Context(options);
    this.#gate = new Gate(this.#context, options.view);
    this.#context.nodes = this.#gate;
  }

  /**
   * Serves one request: writes its answer where `answer.begin` said, and says how it went. What the
   * kernel sent never makes it throw; a store that refuses reads or commits does.
   *
   * An inode that is gone is ESTALE, not ENOENT: the kernel then looks the path up again, and finds
   * what another client has put there meanwhile (a checkpoint that was replaced by rename).
   */
  handle(request: Request, answer: Answer): Outcome {
    const handler = HANDLERS[request.opcode] ?? unknown;
    if (!isInode(request.node)) {
      const served = this.#gate.admit(request, answer);
      if (served !== ADMITTED) return served;
    }
    const outcome = handler(this.#context, request, answer);
    if (outcome === FAILURE.ENOENT && this.#context.isGone(request.node)) return FAILURE.ESTALE;
    return outcome;
  }

  /** Writes the answer of an LSEEK, once what was written is in the tree. */
  answerSeek(request: Request, answer: Answer): Outcome {
    return lseek(this.#context, request, answer);
  }

  /** Writes the answer of a SETATTR that `OpenInodes.resize` has carried out. */
  answerAttributes(ino: number, answer: Answer): Outcome {
    return this.#context.answerAttributes(ino, answer);
  }
}

function handlersByOpcode(pairs: readonly (readonly [number, Handler])[]): Handler[] {
  const handlers: Handler[] = new Array(OPCODE_COUNT).fill(unknown);
  for (const [opcode, handler] of pairs) handlers[opcode] = handler;
  return handlers;
}

/** The kernel shall do without. */
function unknown(): Outcome {
  return FAILURE.ENOSYS;
}

/**
 * A front sent what is not the tree's. After ENOSYS the kernel would, for one, never send an FSYNC
 * again.
 */
function misrouted(): Outcome {
  return FAILURE.EIO;
}
