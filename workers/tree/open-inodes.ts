import type { CopiedRange } from '../../engine/tree/copy.ts';
import type { Attributes, AttributesPatch, Time } from '../../engine/tree/types.ts';
import type { Answer } from './answer.ts';
import type { Outcome, Request } from './request.ts';

/** What an open file may do with its inode. */
export interface Access {
  /** Opened O_WRONLY or O_RDWR. */
  write: boolean;
}

/** What fallocate(2) asks for. */
export interface Allocation {
  offset: number;
  /** 1 or more. */
  length: number;
  /** The bytes become a hole, which reads as zeros. */
  discards: boolean;
  /** The file does not grow. */
  keepsSize: boolean;
}

/**
 * The inodes that are open in this mount, as the operations see them.
 *
 * An open inode has a slot in shared memory, and the slot's size and mtime are newer than the
 * tree's: the fronts raise them with every WRITE, the tree learns of them at the next commit.
 *
 * Threads: only the tree worker calls; fronts and data workers change sizes and mtimes at the same
 * time.
 */
export interface OpenInodes {
  /**
   * Counts one more opener of an inode: its slot (0 or more), or -errno (-ENFILE when all are
   * taken).
   * `attributes` are the tree's; a slot that is taken anew starts with their size and mtime.
   */
  open(attributes: Attributes, access: Access): number;
  /**
   * Counts one opener less, for the `access` it opened with. The slot comes from the kernel's file
   * handle: one that is not open is ignored.
   */
  release(slot: number, access: Access): void;
  /** The slot of an inode, or -1 when it is not open. */
  slotOf(ino: number): number;
  /** Size in bytes, as of now. */
  sizeOf(slot: number): number;
  /** Bytes that were written and may not be in the tree yet, at most. */
  unsettledOf(slot: number): number;
  /** Time of the last write, as of now; the object is only valid until the next call. */
  mtimeOf(slot: number): Time;
  /** Sets the time of the last write (utimensat(2)); seconds may be negative. */
  setMtime(slot: number, time: Time): void;
  /**
   * Changes the size of a regular file, open or not, and everything else that `patch` names, which
   * always has
   * `size` and `mtime`. Yields the answer of SETATTR, written to `answer` by `answerAttributes`, or
   * `PENDING` and answers the request so when the data workers have discarded what is cut off.
   */
  resize(request: Request, ino: number, patch: AttributesPatch, answer: Answer): Outcome;
  /**
   * Discards a range of an open file, or makes the file as long as the range reaches, and answers the request with no
   * data; yields `PENDING`, 0 or -errno.
   */
  allocate(request: Request, ino: number, range: Allocation): Outcome;
  /**
   * Makes a range of an open file a copy of another's, and answers the request with how many bytes were copied; yields
   * `PENDING`, 0 or -errno.
   */
  copy(request: Request, range: CopiedRange): Outcome;
  /** The inode's last name is gone: it is reclaimed once `forgotten`, and closed. */
  unlinked(ino: number): void;
  /** An inode was made that has no name, but may get one (O_TMPFILE): else as `unlinked`. */
  unnamed(ino: number): void;
  /** Whether an inode without a name may get one. */
  isLinkable(ino: number): boolean;
  /** Such an inode has got a name. */
  linked(ino: number): void;
  /** The kernel holds the inode no longer; means nothing for an inode that has a name. */
  forgotten(ino: number): void;
  /** Tells the fronts what a WRITE takes from the inode: bits of `privilege`. */
  setPrivileges(slot: number, privileges: number): void;
  /**
   * Makes every change of the tree so far durable, then answers the request with no data; yields
   * `PENDING`, 0 or -errno.
   */
  syncTree(request: Request): Outcome;
}
