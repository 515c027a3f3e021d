/** Sealing a store anew under the key of its current epoch: the tree, then the chunks. */
import { native } from '../../engine/native.ts';
import { refuseWhileKept } from '../../engine/tree-rebuild.ts';
import type { ResealOutcome, ResealTask, UpkeepFailure } from '../task.ts';
import { VaultSealer } from '../tree/sealer.ts';
import { resealTree } from './reseal-tree.ts';
import { RECORDS_PER_REPORT, tellRecords, walkChunks, withTree } from './tree-file.ts';

/**
 * Seals every value and chunk of an earlier epoch anew. What is stopped in the middle can be started
 * again: each chunk is replaced as a whole, and so is the tree. When this resolves, all of it is
 * durable.
 */
export async function resealStore(task: ResealTask): Promise<ResealOutcome | UpkeepFailure> {
  const { treeFile, engine, port } = task;
  let values = 0;
  // What a killed process left in the log is written where it belongs, and the log is gone.
  const opened = await withTree(task, async () => {
    // Nor may a damaged tree stay behind, sealed under the old key.
    refuseWhileKept(treeFile);
  });
  if (opened !== undefined) return opened;
  try {
    const sealer = new VaultSealer(engine);
    const damagedValue = await resealTree(treeFile, sealer, () => {
      values += 1;
      if (values % RECORDS_PER_REPORT === 0) tellRecords(port, values);
    });
    if (damagedValue !== undefined) return { damagedValue };
    const all = new (native().AllChunks)(engine);
    const chunks = await walkChunks(port, values, all, all.reseal(task.threads));
    return { chunks, values };
  } catch (error) {
    return { failure: error instanceof Error ? error.message : String(error) };
  }
}
