/**
 * The part of the FUSE protocol (linux/fuse.h) that this front writes and reads: little-endian structures. The tree
 * worker has its own, larger part.
 */

/** Operation codes. */
export const OPCODE = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  READDIR: 28,
  FSYNCDIR: 30,
  CREATE: 35,
} as const;

/** The root directory. */
export const ROOT_NODE = 1;

/** Bytes of what is sent before the names. */
export const IN_BYTES = {
  FORGET: 8,
  GETATTR: 16,
  SETATTR: 88,
  MKNOD: 16,
  MKDIR: 8,
  RENAME: 8,
  LINK: 8,
  OPEN: 8,
  CREATE: 16,
  RELEASE: 24,
  FLUSH: 24,
  FSYNC: 16,
  /** READ, WRITE and READDIR. */
  TRANSFER: 40,
  SETXATTR: 8,
  GETXATTR: 8,
} as const;

/** `fuse_setattr_in`: its flags and where its fields lie. */
export const SETATTR = {
  MODE: 0x1,
  UID: 0x2,
  GID: 0x4,
  SIZE: 0x8,
  ATIME: 0x10,
  MTIME: 0x20,
  SIZE_AT: 16,
  ATIME_AT: 32,
  MTIME_AT: 40,
  ATIME_NANOSECONDS_AT: 56,
  MTIME_NANOSECONDS_AT: 60,
  MODE_AT: 68,
  UID_AT: 76,
  GID_AT: 80,
} as const;

/** Where `fuse_entry_out` has what. */
export const ENTRY = { NODE_AT: 0, SECONDS_AT: 16, NANOSECONDS_AT: 32, ATTR_AT: 40 } as const;
/** Bytes of `fuse_entry_out`: the answer of CREATE has `fuse_open_out` behind it. */
export const ENTRY_BYTES = 128;
/** Where `fuse_attr_out` has the attributes. */
export const ATTR_OUT_ATTR_AT = 16;
/** Bytes of `fuse_attr`. */
export const ATTR_BYTES = 88;
