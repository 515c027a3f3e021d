/**
 * The words of the tree: what an inode, an extent and a change of a file's content are.
 * Numbers are plain doubles below 2^53; names, xattrs and link targets are bytes, never strings.
 */

/** A point in time: whole seconds since the epoch (may be negative) and nanoseconds, 0 to 999,999,999. */
export interface Time {
  seconds: number;
  nanoseconds: number;
}

/** What stat(2) tells of an inode. `mode` includes the type (S_IFMT). */
export interface Attributes {
  ino: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  /** Device number in the kernel's 32-bit FUSE encoding; 0 for what is no device. */
  rdev: number;
  /** Bytes: content of a regular file, target of a symbolic link, 4096 for a directory. */
  size: number;
  /** Bytes of content that lie in no hole; 0 for what is no regular file. */
  allocated: number;
  atime: Time;
  mtime: Time;
  ctime: Time;
  btime: Time;
}

/** The positive errno of a failed operation. */
export type Errno = number;
/** Either what an operation yields, or the errno (a number) that it failed with; no exception for an expected failure. */
export type Result<T extends object> = T | Errno;

/** A piece of a file that lies in a chunk. */
export interface Extent {
  /** Byte offset in the file. */
  offset: number;
  /** Bytes; an extent never crosses a region (REGION_BYTES). */
  length: number;
  /** Where the bytes start in the chunk's plaintext. */
  chunkOffset: number;
  /** Bytes of plaintext of the whole chunk. */
  chunkLength: number;
  /** The chunk's id: 32 bytes as eight little-endian words. */
  id: Uint32Array;
}

/** One region's content, as the tree knows it: the bytes themselves (small files), or extents in order of offset with holes between. */
export type RegionContent = { inline: Uint8Array } | { extents: Extent[] };

/** A change of a file's content, in the order in which it happened. */
export type ContentChange =
  | { kind: 'extent'; extent: Extent }
  /** Region 0 is these bytes and nothing else. */
  | { kind: 'inline'; bytes: Uint8Array }
  /** The bytes offset … offset+length are a hole; length may be Infinity (truncate). */
  | { kind: 'discard'; offset: number; length: number };

/** Who makes a new inode. */
export interface Owner {
  uid: number;
  gid: number;
}

/** What setattr changes; what is absent stays. `ctime` is set by the tree unless given. */
export interface AttributesPatch {
  mode?: number;
  uid?: number;
  gid?: number;
  size?: number;
  atime?: Time;
  mtime?: Time;
  ctime?: Time;
}

/** One name in a directory. `cookie` is where a listing goes on behind it: an integer, 1 to 2^53-1, that stays valid while names come and go. */
export interface DirectoryEntry {
  name: Uint8Array;
  ino: number;
  /** The type bits of the mode (S_IFMT). */
  type: number;
  cookie: number;
}

/** Seals what the tree stores. Implemented by the addon's vault; by node:crypto in unit tests. */
export interface Sealer {
  /** 16 bytes: keyed hash of a name within a directory (or of an xattr's name within an inode). */
  nameHash(ino: number, name: Uint8Array): Uint8Array;
  /** Seal a value that will be stored under `key`; the result is only valid until the next call. */
  seal(key: Uint8Array, plain: Uint8Array): Uint8Array;
  /** Open it again; undefined when it is not authentic for this key. The result is only valid until the next call. */
  open(key: Uint8Array, sealed: Uint8Array): Uint8Array | undefined;
}
