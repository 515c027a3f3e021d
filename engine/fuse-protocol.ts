/**
 * Numbers of the FUSE kernel protocol (source: linux/fuse.h, 7.45), for whoever answers requests and
 * for fronts that make them. Structures are little-endian and padded to 8 bytes on both x86-64 and
 * arm64.
 */

/** Operation codes: `enum fuse_opcode`. */
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
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SETUPMAPPING: 48,
  REMOVEMAPPING: 49,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
} as const;

/** One more than the largest operation code above. */
export const OPCODE_COUNT = 53;

/** The root directory's node (FUSE_ROOT_ID). */
export const ROOT_NODE = 1;

/** Bytes of the structures that arrive, without the names behind them. */
export const IN_STRUCT_BYTES = {
  FORGET: 8,
  GETATTR: 16,
  SETATTR: 88,
  MKNOD: 16,
  MKDIR: 8,
  RENAME: 8,
  RENAME2: 16,
  LINK: 8,
  OPEN: 8,
  CREATE: 16,
  RELEASE: 24,
  FLUSH: 24,
  /** FSYNC and FSYNCDIR. */
  FSYNC: 16,
  /** READ, WRITE and READDIR. */
  READ: 40,
  /** The short form: the extended one comes only when FUSE_SETXATTR_EXT was negotiated. */
  SETXATTR: 8,
  GETXATTR: 8,
  FALLOCATE: 32,
  COPY_FILE_RANGE: 56,
  LSEEK: 24,
} as const;

/** Bytes of the structures that leave. */
export const OUT_STRUCT_BYTES = {
  ATTR: 88,
  ENTRY: 128,
  ATTR_OUT: 104,
  OPEN: 16,
  STATFS: 80,
  GETXATTR: 8,
  WRITE: 8,
  STATX_OUT: 288,
  LSEEK: 8,
  /** Without the name. */
  DIRENT: 24,
} as const;

/** `fuse_setattr_in.valid`: which fields are meant. */
export const FATTR = {
  MODE: 0x1,
  UID: 0x2,
  GID: 0x4,
  SIZE: 0x8,
  ATIME: 0x10,
  MTIME: 0x20,
  FH: 0x40,
  ATIME_NOW: 0x80,
  MTIME_NOW: 0x100,
  LOCKOWNER: 0x200,
  CTIME: 0x400,
  KILL_SUIDGID: 0x800,
} as const;

/** Where the fields of `fuse_setattr_in` lie. */
export const SETATTR_AT = {
  VALID: 0,
  SIZE: 16,
  ATIME: 32,
  MTIME: 40,
  CTIME: 48,
  ATIME_NANOSECONDS: 56,
  MTIME_NANOSECONDS: 60,
  CTIME_NANOSECONDS: 64,
  MODE: 68,
  UID: 76,
  GID: 80,
} as const;

/** Where the fields of `fuse_entry_out` lie. */
export const ENTRY_AT = {
  NODE: 0,
  GENERATION: 8,
  ENTRY_SECONDS: 16,
  ATTR_SECONDS: 24,
  ENTRY_NANOSECONDS: 32,
  ATTR_NANOSECONDS: 36,
  ATTR: 40,
} as const;

/** Where the fields of `fuse_attr_out` lie. */
export const ATTR_OUT_AT = { SECONDS: 0, NANOSECONDS: 8, PADDING: 12, ATTR: 16 } as const;

/** `fuse_open_out.open_flags`: how the kernel shall treat the open file. */
export const FOPEN = {
  DIRECT_IO: 0x1,
  KEEP_CACHE: 0x2,
  NONSEEKABLE: 0x4,
  CACHE_DIR: 0x8,
  STREAM: 0x10,
  NOFLUSH: 0x20,
  PARALLEL_DIRECT_WRITES: 0x40,
} as const;
