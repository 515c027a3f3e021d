import { isDirectory } from './mode.ts';
import type { Inode } from './records.ts';
import type { Session, SessionObserver } from './session.ts';

/** Directories whose hashes are kept, and files whose parent hint does not lead to all of their directories. */
const DIRECTORIES_MAX = 131_072;
const FILES_MAX = 65_536;
const DEPTH_MAX = 65_536;

/** A directory that is being hashed. */
export interface Running {
  readonly ino: number;
  /** It has changed since the work on it began. */
  stale: boolean;
  /** Its hash may not be kept: not everything that belongs to it could be remembered. */
  unkept: boolean;
}

/**
 * The hashes of directories, each with everything below it. A change of an inode drops those of the
 * directories above it; one that is being hashed is marked.
 *
 * While a directory is kept, everything below it is: so a change goes up only as long as it finds
 * something. From a file it goes to the directory of its parent hint, and to those where it was
 * met under another one (hard links, files of stores that are older than the hint).
 *
 * **Bounds:** 131,072 directories and 65,536 such files; what is beyond is hashed each time.
 */
export class HashCache implements SessionObserver {
  readonly #session: Session;
  readonly #hashes = new Map<number, Uint8Array>();
  readonly #running = new Map<number, Running>();
  /** Further directories of a file. */
  readonly #elsewhere = new Map<number, number[]>();
  /** Counts changes of inodes, for who could not have everything kept. */
  changes = 0;

  constructor(session: Session) {
    this.#session = session;
    session.observer = this;
  }

  get(ino: number): Uint8Array | undefined {
    return this.#hashes.get(ino);
  }

  /** From now on, changes mark it. */
  begin(ino: number): Running {
    const running = { ino, stale: false, unkept: false };
    this.#running.set(ino, running);
    return running;
  }

  /** The end of what `begin` began. False: the hash is not kept. */
  end(running: Running, hash: Uint8Array | undefined): boolean {
    this.#running.delete(running.ino);
    if (hash === undefined || running.stale || running.unkept) return false;
    if (this.#hashes.size >= DIRECTORIES_MAX) return false;
    this.#hashes.set(running.ino, hash);
    return true;
  }

  /** A file was met in a directory that is being hashed. */
  met(file: Inode, directory: Running): void {
    if (file.parent === directory.ino) return;
    const others = this.#elsewhere.get(file.ino);
    if (others?.includes(directory.ino)) return;
    if (others !== undefined) others.push(directory.ino);
    else if (this.#elsewhere.size < FILES_MAX) this.#elsewhere.set(file.ino, [directory.ino]);
    else directory.unkept = true;
  }

  saved(inode: Inode): void {
    this.changes += 1;
    if (this.#hashes.size === 0 && this.#running.size === 0) return;
    if (isDirectory(inode)) return this.#drop(inode.ino);
    this.#drop(inode.parent);
    const others = this.#elsewhere.get(inode.ino);
    if (others === undefined) return;
    this.#elsewhere.delete(inode.ino);
    for (const directory of others) this.#drop(directory);
  }

  forgot(): void {
    this.changes += 1;
    this.#hashes.clear();
    this.#elsewhere.clear();
    for (const running of this.#running.values()) running.stale = true;
  }

  #drop(directory: number): void {
    let ino = directory;
    for (let depth = 0; depth < DEPTH_MAX; depth++) {
      const running = this.#running.get(ino);
      // What is above it has not used its hash yet.
      if (running !== undefined) {
        running.stale = true;
        return;
      }
      if (!this.#hashes.delete(ino)) return;
      const inode = this.#session.peek(ino);
      if (typeof inode === 'number' || inode.parent === ino) return;
      ino = inode.parent;
    }
  }
}
