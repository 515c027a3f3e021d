import type { Kv } from '../kv/kv.ts';
import * as attributes from './attributes.ts';
import { type CopiedContent, type CopiedRange, copiedContent } from './copy.ts';
import { ERRNO } from './errno.ts';
import { type TreeDigest, TreeHasher } from './hasher.ts';
import { KeyMaker } from './keys.ts';
import * as names from './names.ts';
import type { Creation } from './names.ts';
import * as namespaces from './namespaces.ts';
import type { Namespace } from './namespaces.ts';
import { RecordCodec, ROOT_INO } from './records.ts';
import { ReferenceScan } from './references.ts';
import * as regions from './regions.ts';
import type { ContentUpdate } from './regions.ts';
import { rename } from './rename.ts';
import { seek } from './seek.ts';
import { S_IFLNK, typeOf } from './mode.ts';
import { Session } from './session.ts';
import type {
  Attributes,
  AttributesPatch,
  ContentChange,
  DirectoryEntry,
  Errno,
  Extent,
  Owner,
  RegionContent,
  Result,
  Sealer,
  Time,
} from './types.ts';
import * as xattrs from './xattrs.ts';

export { ROOT_INO };

/** What a {@link Tree} stands on. */
export interface TreeOptions {
  kv: Kv;
  sealer: Sealer;
  /** Time of changes; the system's clock unless given. */
  clock?: () => Time;
  /**
   * Told of each value that is not authentic or cannot be understood; the operation fails with
   * EIO.
   */
  onDamage?: (description: string) => void;
}

/**
 * The names, attributes and extents of one file system, over any {@link Kv}.
 *
 * Every operation is synchronous and atomic, and answers a positive errno (a number) for what can
 * be expected to fail. An operation writes only after its last check, so one that fails leaves
 * nothing, in a batch too: `transact` makes many operations one commit. Permissions are not
 * checked here: the kernel does that (default_permissions).
 *
 * Threads: one. Throws what the Kv throws when the store refuses a read or commit; the whole batch
 * is undone then. Ownership: attributes and bytes that are given out never change afterwards;
 * bytes that are handed in are copied.
 */
export class Tree {
  readonly #session: Session;
  readonly #clock: () => Time;

  constructor({ kv, sealer, clock = systemTime, onDamage = ignore }: TreeOptions) {
    const codec = new RecordCodec();
    this.#session = new Session({ kv, sealer, codec, keys: new KeyMaker(), onDamage });
    this.#clock = clock;
  }

  /** Makes the root directory, unless there is one. */
  format(owner: Owner): void {
    this.transact(() => {
      if (this.#session.load(ROOT_INO) !== ERRNO.ENOENT) return;
      const now = this.#clock();
      this.#session.initialize(ROOT_INO + 1);
      this.#session.countOne();
      this.#session.save(namespaces.newRoot(ROOT_INO, owner, now));
    });
  }

  /** The root directory of a namespace, which is made unless there is one; EIO, EINVAL. */
  openNamespace(name: Uint8Array, owner: Owner): Result<Namespace> {
    const request = { name, owner, now: this.#clock() };
    return this.transact(() => namespaces.open(this.#session, request));
  }

  /** All namespaces, the default one first. */
  namespaces(): Result<Namespace[]> {
    return namespaces.list(this.#session);
  }

  /** Who tells what trees below directories are; one for each Tree at most. */
  newHasher(digest: TreeDigest, wake: () => void): TreeHasher {
    return new TreeHasher(this.#session, digest, wake);
  }

  /** Goes through all that files refer to, a part at a time. */
  newReferenceScan(visit: (extent: Extent) => void): ReferenceScan {
    return new ReferenceScan(this.#session, visit);
  }

  /** Counts how often content lost a reference to a chunk, or may have: a sign of garbage. */
  get released(): number {
    return this.#session.released;
  }

  /**
   * Runs `body` as one commit: everything that its operations changed, or nothing when it throws.
   */
  transact<T>(body: () => T): T {
    return this.#session.transact(body);
  }

  /** Drops what is cached, for when another process changed the store. */
  forget(): void {
    this.#session.forget();
  }

  getattr(ino: number): Result<Attributes> {
    return this.#session.load(ino);
  }

  /** The directory that an inode lies in, as its record says; a root's own for a root. */
  parentOf(ino: number): number | undefined {
    const inode = this.#session.load(ino);
    return typeof inode === 'number' || inode.parent === 0 ? undefined : inode.parent;
  }

  lookup(parent: number, name: Uint8Array): Result<Attributes> {
    return names.lookup(this.#session, parent, name);
  }

  create(parent: number, name: Uint8Array, creation: Creation): Result<Attributes> {
    const now = this.#clock();
    return this.transact(() => names.create(this.#session, { parent, name, creation, now }));
  }

  mkdir(parent: number, name: Uint8Array, creation: Creation): Result<Attributes> {
    const now = this.#clock();
    return this.transact(() => names.mkdir(this.#session, { parent, name, creation, now }));
  }

  symlink(parent: number, name: Uint8Array, target: Uint8Array, owner: Owner): Result<Attributes> {
    const request = { parent, name, target, creation: { mode: 0, owner }, now: this.#clock() };
    return this.transact(() => names.symlink(this.#session, request));
  }

  readlink(ino: number): Result<Uint8Array> {
    const inode = this.#session.load(ino);
    if (typeof inode === 'number') return inode;
    return typeOf(inode.mode) === S_IFLNK ? inode.target : ERRNO.EINVAL;
  }

  link(ino: number, parent: number, name: Uint8Array): Result<Attributes> {
    const now = this.#clock();
    return this.transact(() => names.link(this.#session, { ino, parent, name, now }));
  }

  /** Makes an inode that has no name, an orphan from the start, beside what lies in a directory. */
  createUnnamed(parent: number, creation: Creation): Result<Attributes> {
    const now = this.#clock();
    return this.transact(() => names.createUnnamed(this.#session, { parent, creation, now }));
  }

  /** As `link`, for an orphan that `createUnnamed` made. */
  linkUnnamed(ino: number, parent: number, name: Uint8Array): Result<Attributes> {
    const request = { ino, parent, name, now: this.#clock(), unnamed: true };
    return this.transact(() => names.link(this.#session, request));
  }

  /**
   * Removes a name. At nlink 0 the inode becomes an orphan: it can be used until `reclaim` deletes
   * it.
   */
  unlink(parent: number, name: Uint8Array): Result<{ ino: number; nlink: number }> {
    const now = this.#clock();
    return this.transact(() => names.unlink(this.#session, { parent, name, now }));
  }

  /** Removes an empty directory, which becomes an orphan. */
  rmdir(parent: number, name: Uint8Array): Result<{ ino: number }> {
    const now = this.#clock();
    return this.transact(() => names.rmdir(this.#session, { parent, name, now }));
  }

  /**
   * Moves a name; `flags` is 0 or one of RENAME. `replaced` is the inode that became an orphan, or
   * 0.
   */
  rename(
    parent: number,
    name: Uint8Array,
    newParent: number,
    newName: Uint8Array,
    flags: number,
  ): Result<{ replaced: number }> {
    const request = { parent, name, newParent, newName, flags, now: this.#clock() };
    return this.transact(() => rename(this.#session, request));
  }

  /**
   * Visits names behind `cookie` (0: all) until `visit` returns false; '.' and '..' are not among
   * them.
   */
  readdir(ino: number, cookie: number, visit: (entry: DirectoryEntry) => boolean): Errno {
    return names.readdir(this.#session, { ino, cookie }, visit);
  }

  /** Changes attributes. A smaller size also discards the content behind it. */
  setattr(ino: number, patch: AttributesPatch): Result<Attributes> {
    const now = this.#clock();
    return this.transact(() => attributes.setattr(this.#session, { ino, patch, now }));
  }

  /** Sets an extended attribute; `flags` is 0 or one of XATTR. */
  setxattr(ino: number, name: Uint8Array, value: Uint8Array, flags: number): Errno {
    const now = this.#clock();
    return this.transact(() => xattrs.setxattr(this.#session, { ino, name, value, flags, now }));
  }

  getxattr(ino: number, name: Uint8Array): Result<Uint8Array> {
    return xattrs.getxattr(this.#session, ino, name);
  }

  /** The names of all extended attributes, each ended by a NUL. */
  listxattr(ino: number): Result<Uint8Array> {
    return xattrs.listxattr(this.#session, ino);
  }

  removexattr(ino: number, name: Uint8Array): Errno {
    const now = this.#clock();
    return this.transact(() => xattrs.removexattr(this.#session, { ino, name, now }));
  }

  /** What one region of a file holds. */
  region(ino: number, regionIndex: number): Result<RegionContent> {
    return regions.region(this.#session, ino, regionIndex);
  }

  /**
   * Where at or behind `offset` data or a hole begins, in bytes; the end of the file is a hole.
   * ENXIO when there is no such place before the end.
   */
  seek(ino: number, offset: number, wanted: 'data' | 'hole'): Result<{ offset: number }> {
    return seek(this.#session, { ino, offset, wanted });
  }

  /**
   * Applies changes of content in their order, with the size and time that the file has
   * afterwards.
   */
  applyContent(
    ino: number,
    changes: readonly ContentChange[],
    update: ContentUpdate,
  ): Result<Attributes> {
    return this.transact(() => regions.applyContent(this.#session, { ino, changes }, update));
  }

  /** The changes that make a range of one file a copy of another's range, sharing its chunks; see copy.ts. */
  copiedContent(range: CopiedRange): CopiedContent | Errno {
    return copiedContent(this.#session, range);
  }

  /** Deletes a part of an orphan, a bounded number of keys; true when nothing of it is left. */
  reclaim(ino: number): boolean {
    return this.transact(() => attributes.reclaim(this.#session, ino));
  }

  /** Visits the inodes that no name leads to, until `visit` returns false. */
  orphans(visit: (ino: number) => boolean): void {
    names.orphans(this.#session, visit);
  }

  /**
   * What the tree counts: inodes, orphans included. After a kill the number may be off by what was
   * made or deleted since it was last written, 1024 at most.
   */
  statistics(): { inodes: number } {
    return { inodes: this.#session.count() ?? 0 };
  }

  /** Writes the counters as they are; call it before the store is closed. */
  saveCounters(): void {
    this.#session.saveCounters();
  }
}

/** The system's clock; its resolution is a millisecond, finer than the kernel's own for files. */
export function systemTime(): Time {
  const milliseconds = Date.now();
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanoseconds: (milliseconds - seconds * 1000) * 1_000_000 };
}

function ignore(): void {}
