/**
 * Numbers of the FUSE kernel protocol that the tree worker speaks (source: linux/fuse.h, 7.45).
 * Structures are little-endian and padded to 8 bytes on both x86-64 and arm64.
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

/**
 * What an operation code is called, for logs and counters; undefined where the kernel left a gap.
 */
export const OPCODE_NAMES: readonly (string | undefined)[] = namesByOpcode();

function namesByOpcode(): (string | undefined)[] {
  const names: (string | undefined)[] = new Array(OPCODE_COUNT).fill(undefined);
  for (const [name, opcode] of Object.entries(OPCODE)) names[opcode] = name;
  return names;
}

/** The root directory's node (FUSE_ROOT_ID). */
export const ROOT_NODE = 1;

/** Bytes of the structures that arrive, without the names behind them. */
export const IN_STRUCT_BYTES = {
  SETATTR: 88,
  MKNOD: 16,
  MKDIR: 8,
  RENAME: 8,
  RENAME2: 16,
  LINK: 8,
  OPEN: 8,
  CREATE: 16,
  RELEASE: 24,
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

/** Flags of renameat2(2) (linux/fs.h). */
export const RENAME_FLAG = { NOREPLACE: 1, EXCHANGE: 2, WHITEOUT: 4 } as const;

/** Flags of setxattr(2) (linux/xattr.h). */
export const XATTR_FLAG = { CREATE: 1, REPLACE: 2 } as const;

/** Bytes of the longest name in a directory (NAME_MAX). */
export const NAME_BYTES_MAX = 255;

/** Bytes of the longest xattr name (XATTR_NAME_MAX). */
export const XATTR_NAME_BYTES_MAX = 255;

/** Bytes of the longest link target: PATH_MAX less its NUL. */
export const TARGET_BYTES_MAX = 4095;

/** Nanoseconds must stay below this. */
export const NANOSECONDS_PER_SECOND = 1_000_000_000;

/** Type bits of a mode (linux/stat.h); `>> 12` gives the type of a directory entry. */
export const MODE = {
  TYPE: 0o170000,
  SOCKET: 0o140000,
  LINK: 0o120000,
  REGULAR: 0o100000,
  BLOCK: 0o060000,
  DIRECTORY: 0o040000,
  CHARACTER: 0o020000,
  FIFO: 0o010000,
  /** Everything that chmod(2) can set. */
  PERMISSIONS: 0o7777,
  SET_UID: 0o4000,
  SET_GID: 0o2000,
  GROUP_EXECUTE: 0o010,
} as const;
