import type { Kv } from '../../engine/kv/kv.ts';
import { openTreeFile } from '../../engine/tree-file.ts';
import type { UpkeepFailure } from '../task.ts';

/** Records between two reports of how far it is. */
export const RECORDS_PER_REPORT = 20_000;
/** Milliseconds between two reports while chunks are read. */
export const REPORT_MS = 250;

/**
 * Runs `body` over the tree of a store that is not mounted, with what an earlier process left in
 * the log. What is thrown comes back as a sentence: errors lose their class between threads.
 */
export async function withTree<T>(
  treeFile: string,
  body: (kv: Kv) => Promise<T>,
): Promise<T | UpkeepFailure> {
  try {
    const kv = await openTreeFile(treeFile);
    try {
      return await body(kv);
    } finally {
      await kv.close();
    }
  } catch (error) {
    return { failure: error instanceof Error ? error.message : String(error) };
  }
}
