import { REGION_BYTES } from '../layout.ts';
import { regionAt } from './content.ts';
import { ERRNO } from './errno.ts';
import { regionOf, regionsOf } from './keys.ts';
import { loadFile } from './regions.ts';
import type { Session } from './session.ts';
import type { RegionContent, Result } from './types.ts';

/**
 * Regions without a hole that one search passes, so that a huge file does not hold up the worker;
 * behind them it says that there is a hole, of no bytes: who then seeks data goes on from there.
 */
const REGIONS_MAX = 16_384;

export interface Seeking {
  ino: number;
  offset: number;
  wanted: 'data' | 'hole';
}

/** See `Tree.seek`. Cost: for data one region that holds any; for a hole the regions before it. */
export function seek(
  session: Session,
  { ino, offset, wanted }: Seeking,
): Result<{ offset: number }> {
  const inode = loadFile(session, ino);
  if (typeof inode === 'number') return inode;
  if (offset < 0 || offset >= inode.size) return ERRNO.ENXIO;
  const search = new Search(offset, wanted);
  const range = regionsOf(ino, regionAt(offset), Infinity);
  const errno = session.scanRegions(range, (content, key) => search.pass(content, regionOf(key)));
  if (errno !== 0) return errno;
  const found = wanted === 'data' ? search.found : (search.found ?? search.position);
  if (found === undefined || (wanted === 'data' && found >= inode.size)) return ERRNO.ENXIO;
  return { offset: Math.min(found, inode.size) };
}

/** Goes through regions in order until what is wanted begins. */
class Search {
  /** Up to here there is nothing of what is wanted. */
  position: number;
  found: number | undefined;
  readonly #wanted: Seeking['wanted'];
  #regions = 0;

  constructor(offset: number, wanted: Seeking['wanted']) {
    this.position = offset;
    this.#wanted = wanted;
  }

  /** False: it is found. */
  pass(content: RegionContent, index: number): boolean {
    const start = index * REGION_BYTES;
    if ('inline' in content) this.#passData(start, start + content.inline.length);
    else {
      for (const { offset, length } of content.extents) {
        if (this.found !== undefined) break;
        this.#passData(offset, offset + length);
      }
    }
    this.#regions += 1;
    return this.found === undefined && this.#regions < REGIONS_MAX;
  }

  #passData(start: number, end: number): void {
    if (this.found !== undefined || end <= this.position) return;
    if (this.#wanted === 'data') this.found = Math.max(start, this.position);
    else if (start > this.position) this.found = this.position;
    else this.position = end;
  }
}
