import type { Extent } from '../../engine/tree/types.ts';

/**
 * The tree worker, as the data worker on its own thread sees it: told at once what others tell by messages, so that a
 * small file is closed in one turn.
 */
export interface TreeHalf {
  /** The inode's inline cell holds `bytes` bytes that replace region 0; the cell is free again at the return. */
  inline(slot: number, bytes: number): void;
  /** Patches an extent into the file; nothing of it is kept. */
  extent(slot: number, extent: Extent): void;
  /** Commits the inode and answers the request; false: not now, so the request must be counted down instead. */
  commit(slot: number, request: number, errno: number): boolean;
}
