import { header } from '../../engine/layout.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';

/**
 * Inodes without a name that somebody may still hold: an open file or directory, a working
 * directory, an O_PATH descriptor. They live until the kernel forgets them.
 *
 * Fronts pass on what the kernel forgets only while the count in shared memory is not 0. Bounded by
 * the kernel's own inodes. An orphan that the kernel never forgets, as when it had not looked it up,
 * is deleted when the next mount starts.
 *
 * Threads: the tree worker's own; fronts read the count.
 */
export class Orphans {
  readonly #words: Uint32Array;
  /** Whether each of them may be given a name. */
  readonly #held = new Map<number, boolean>();

  constructor(memory: SharedMemory) {
    this.#words = memory.words;
  }

  /** Its last name is gone. */
  add(ino: number): void {
    this.#set(ino, false);
  }

  /** It never had a name, and may get one (O_TMPFILE without O_EXCL). */
  addLinkable(ino: number): void {
    this.#set(ino, true);
  }

  has(ino: number): boolean {
    return this.#held.has(ino);
  }

  isLinkable(ino: number): boolean {
    return this.#held.get(ino) === true;
  }

  /** Takes an inode out: it got a name, or the kernel has forgotten it. False: it was none. */
  remove(ino: number): boolean {
    const removed = this.#held.delete(ino);
    if (removed) this.#count();
    return removed;
  }

  #set(ino: number, linkable: boolean): void {
    this.#held.set(ino, linkable);
    this.#count();
  }

  /** ORDER: partner is `forget` of the fronts; stored before the answer that makes the kernel forget. */
  #count(): void {
    Atomics.store(this.#words, header.ORPHANS >>> 2, this.#held.size);
  }
}
