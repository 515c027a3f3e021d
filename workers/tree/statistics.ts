/** What statfs(2) tells of the file system; see struct fuse_kstatfs. */
export interface FileSystemStatistics {
  /** Size, free, and free for unprivileged users, in units of `frsize`. */
  blocks: number;
  bfree: number;
  bavail: number;
  /** Inodes, and free ones. */
  files: number;
  ffree: number;
  /** Bytes of the best transfer size. */
  bsize: number;
  /** Bytes of the longest name. */
  namelen: number;
  /** Bytes of a block. */
  frsize: number;
}
