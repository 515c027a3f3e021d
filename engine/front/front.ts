/** What a front is: whoever brings the requests of programs to the rings, and their answers back. */

/** The fronts there are, by the names that `millrace mount --front` takes. */
export const FRONTS = ['kernel', 'fuse-native'] as const;

/** The name of a front. */
export type FrontKind = (typeof FRONTS)[number];

/** What every front is told. */
export interface FrontOptions {
  /** Number of the engine whose rings it fills. */
  engine: number;
  /** Mount point, absolute and without links. */
  directory: string;
  /** What `df` shows as the source. */
  source: string;
  /** Let other users in. */
  allowOther: boolean;
  /** Let files that are open for writing be mapped, shared and writable. */
  sharedMmap: boolean;
  /** How long names and attributes may be remembered. */
  ttlMs: number;
}

/** One mount point, from its mounting to its end. Threads: the main thread's. */
export interface Front {
  /**
   * Mounts and serves. `ended` is called once, when the mount is gone and nothing of it is served any more. Throws
   * MillraceError when the host or the options do not allow it; nothing is mounted then.
   */
  open(ended: () => void): Promise<void>;
  /** Unmounts, unless `ended` was called; the reason when it is refused. `lazy`: also while programs use it. */
  unmount(lazy: boolean): Promise<string | null>;
  /**
   * Fails what is in flight and all that comes, so that nobody hangs, and detaches the mount. Not after `ended`: what
   * the kernel knows the mount by may be another's then. The reason when programs could not be failed.
   */
  abort(): Promise<string | null>;
  /** Lets go of what `open` took; the mount is gone, or never was. */
  close(): void;
}
