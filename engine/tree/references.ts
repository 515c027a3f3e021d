import { allOf, KEY, type KeyRange } from './keys.ts';
import type { Session } from './session.ts';
import type { Errno, Extent } from './types.ts';

/** Regions that are read between two looks at the clock. */
const BATCH = 64;

/**
 * Goes through all that the files of a tree refer to, orphans included, a part at a time, while the
 * tree changes.
 *
 * It needs no snapshot, because no reference moves: the record of a region is rewritten in its
 * place, and whether it is read before or after that, what is in it both times is seen. What comes
 * to be in the tree meanwhile is not seen by all means: whoever adds it must keep it (a put and a
 * dedup hit are kept by the store, a copy of a reference by who copies it).
 *
 * Threads: the tree's.
 */
export class ReferenceScan {
  readonly #session: Session;
  readonly #visit: (extent: Extent) => void;
  #range: KeyRange | undefined = allOf(KEY.REGION);
  #regions = 0;

  constructor(session: Session, visit: (extent: Extent) => void) {
    this.#session = session;
    this.#visit = visit;
  }

  /** Regions that were read so far. */
  get regions(): number {
    return this.#regions;
  }

  /** Whether all regions were read. */
  get isDone(): boolean {
    return this.#range === undefined;
  }

  /** Goes on for about so many milliseconds, and by some regions at least: 0, or EIO when one cannot be read. */
  work(limitMs: number): Errno {
    const end = performance.now() + limitMs;
    let errno = 0;
    do {
      if (this.#range === undefined) return 0;
      errno = this.#some(this.#range);
    } while (errno === 0 && performance.now() < end);
    return errno;
  }

  #some(range: KeyRange): Errno {
    let read = 0;
    let next: KeyRange | undefined;
    const errno = this.#session.scanRegions(range, (content, key) => {
      if ('extents' in content) for (const extent of content.extents) this.#visit(extent);
      read += 1;
      if (read < BATCH) return true;
      next = { from: behind(key), to: range.to };
      return false;
    });
    this.#regions += read;
    if (errno === 0) this.#range = next;
    return errno;
  }
}

/** The first key behind another one. */
function behind(key: Uint8Array): Uint8Array {
  const next = new Uint8Array(key.length + 1);
  next.set(key);
  return next;
}
