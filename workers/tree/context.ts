import { constants } from 'node:os';
import type { Tree } from '../../engine/tree/tree.ts';
import { compareTimes } from '../../engine/tree/time.ts';
import type { Attributes, Time } from '../../engine/tree/types.ts';
import type { Answer } from './answer.ts';
import type { OpenInodes } from './open-inodes.ts';
import type { Outcome, Request } from './request.ts';
import type { FileSystemStatistics } from './statistics.ts';
import type { View } from './virtual/view.ts';

/** What a node of the kernel is in the tree, where a body names one. */
export interface NodeMap {
  /** The inode of a directory, or -errno where no name can be made or taken. */
  directory(node: number): number;
  /** Whether a name in a directory is taken, though the tree does not have it. */
  isHidden(node: number, name: Uint8Array): boolean;
}

/** What the operations need of the world. */
export interface OperationsOptions {
  tree: Tree;
  inodes: OpenInodes;
  /** How long the kernel may keep names and attributes without asking again, in milliseconds. */
  ttl: number;
  /** What the mount shows; the default namespace, and no control files, unless given. */
  view?: View | undefined;
  /** Numbers for statfs(2), as of now. */
  statfs: () => FileSystemStatistics;
  /** The time that UTIME_NOW means; the system's clock unless given. */
  now?: () => Time;
}

/**
 * Serves one opcode: decodes the body, asks the tree, writes the answer. Never throws for what the
 * kernel sent.
 */
export type Handler = (context: Context, request: Request, answer: Answer) => Outcome;

/** The errnos that handlers choose themselves. */
type FailureName =
  | 'E2BIG'
  | 'EFBIG'
  | 'EINVAL'
  | 'EIO'
  | 'EISDIR'
  | 'ENAMETOOLONG'
  | 'ENOENT'
  | 'ENOSYS'
  | 'EOPNOTSUPP'
  | 'ERANGE'
  | 'ESTALE';

/** Those errnos as outcomes, as this machine numbers them. */
export const FAILURE: Readonly<Record<FailureName, Outcome>> = {
  E2BIG: -constants.errno.E2BIG,
  EFBIG: -constants.errno.EFBIG,
  EINVAL: -constants.errno.EINVAL,
  EIO: -constants.errno.EIO,
  EISDIR: -constants.errno.EISDIR,
  ENAMETOOLONG: -constants.errno.ENAMETOOLONG,
  ENOENT: -constants.errno.ENOENT,
  ENOSYS: -constants.errno.ENOSYS,
  EOPNOTSUPP: -constants.errno.EOPNOTSUPP,
  ERANGE: -constants.errno.ERANGE,
  ESTALE: -constants.errno.ESTALE,
};

const NO_NODES: NodeMap = { directory: (node) => node, isHidden: () => false };

/** What all handlers share, and how attributes leave. */
export class Context {
  readonly tree: Tree;
  readonly inodes: OpenInodes;
  /** Set once, before the first request. */
  nodes: NodeMap = NO_NODES;
  readonly statfs: () => FileSystemStatistics;
  readonly now: () => Time;
  /** `ttl`, as the kernel wants it. */
  readonly validity: Time;
  /** Whether the kernel may remember that a name does not exist. */
  readonly remembersMisses: boolean;
  readonly #current: Attributes;

  constructor(options: OperationsOptions) {
    this.tree = options.tree;
    this.inodes = options.inodes;
    this.statfs = options.statfs;
    this.now = options.now ?? systemTime;
    this.validity = timeOfMilliseconds(options.ttl);
    this.remembersMisses = options.ttl > 0;
    this.#current = emptyAttributes();
  }

  /**
   * The attributes as programs must see them: of an open inode, size and mtime are its slot's, and
   * a write that the tree has not seen yet moves ctime too. Valid until the next call; the tree's
   * own object stays as it is.
   */
  current(attributes: Attributes): Attributes {
    const slot = this.inodes.slotOf(attributes.ino);
    if (slot < 0) return attributes;
    const current = this.#current;
    copyAttributes(current, attributes);
    current.size = this.inodes.sizeOf(slot);
    // What was overwritten is counted twice until it is committed.
    const allocated = attributes.allocated + this.inodes.unsettledOf(slot);
    current.allocated = Math.min(current.size, allocated);
    current.mtime = this.inodes.mtimeOf(slot);
    const written = compareTimes(current.mtime, attributes.mtime) !== 0;
    if (written && compareTimes(current.mtime, attributes.ctime) > 0) current.ctime = current.mtime;
    return current;
  }

  /** Whether there is no such inode any more, as when another client deleted it. */
  isGone(ino: number): boolean {
    return this.tree.getattr(ino) === constants.errno.ENOENT;
  }

  /** Writes fuse_entry_out for a tree's attributes. */
  answerEntry(attributes: Attributes, answer: Answer): Outcome {
    answer.entry(this.current(attributes), this.validity);
    return answer.length;
  }

  /** Writes fuse_statx_out for an inode as it is now. */
  answerStatx(ino: number, answer: Answer): Outcome {
    const attributes = this.tree.getattr(ino);
    if (typeof attributes === 'number') return -attributes;
    answer.statx(this.current(attributes), this.validity);
    return answer.length;
  }

  /** Writes fuse_attr_out for an inode as it is now: the answer of GETATTR and SETATTR. */
  answerAttributes(ino: number, answer: Answer): Outcome {
    const attributes = this.tree.getattr(ino);
    if (typeof attributes === 'number') return -attributes;
    answer.attributes(this.current(attributes), this.validity);
    return answer.length;
  }
}

function timeOfMilliseconds(milliseconds: number): Time {
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanoseconds: Math.round((milliseconds - seconds * 1000) * 1e6) };
}

/**
 * The system's clock. Milliseconds suffice: the kernel's own file times are no finer than its timer
 * tick.
 */
export function systemTime(): Time {
  return timeOfMilliseconds(Date.now());
}

/** Field by field: the tree's objects may carry more than attributes. */
function copyAttributes(target: Attributes, source: Attributes): void {
  target.ino = source.ino;
  target.mode = source.mode;
  target.nlink = source.nlink;
  target.uid = source.uid;
  target.gid = source.gid;
  target.rdev = source.rdev;
  target.size = source.size;
  target.allocated = source.allocated;
  target.atime = source.atime;
  target.mtime = source.mtime;
  target.ctime = source.ctime;
  target.btime = source.btime;
}

function emptyAttributes(): Attributes {
  const time: Time = { seconds: 0, nanoseconds: 0 };
  const numbers = { ino: 0, mode: 0, nlink: 0, uid: 0, gid: 0, rdev: 0, size: 0, allocated: 0 };
  return { ...numbers, atime: time, mtime: time, ctime: time, btime: time };
}
