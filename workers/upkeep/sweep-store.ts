/** Mark and sweep in a store that is not mounted. */
import { type InodeTable, STATE } from '../../engine/check/inode-table.ts';
import { checkTree } from '../../engine/check/tree-check.ts';
import { pass } from '../../engine/kill-points.ts';
import type { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import { Tree } from '../../engine/tree/tree.ts';
import type { Sealer } from '../../engine/tree/types.ts';
import { beginCollection, type Collection } from '../collection.ts';
import type { SweepOutcome, SweepTask, UpkeepFailure, UpkeepProgress } from '../task.ts';
import { readWaitingJournals } from '../waiting-journals.ts';
import { RECORDS_PER_REPORT, withTree } from './tree-file.ts';

/**
 * Deletes the files that have no name any more, as the next mount would, and the chunks that no
 * file needs.
 *
 * What refers to chunks is known only where every record can be read: a tree with findings is left
 * alone. The tree is made durable between mark and sweep, so that no loss of power brings back one
 * that refers to what was deleted. What a recovery journal needs that waits is kept; one that cannot
 * be read keeps everything.
 */
export function sweepStore(task: SweepTask): Promise<SweepOutcome | UpkeepFailure> {
  return withTree(task, async (kv, sealer) => {
    const collection = beginCollection(task.engine);
    try {
      return await markAndSweep(task, { kv, sealer }, collection);
    } finally {
      collection.end();
    }
  });
}

async function markAndSweep(
  task: SweepTask,
  { kv, sealer }: { kv: BufferedKv; sealer: Sealer },
  collection: Collection,
): Promise<SweepOutcome> {
  const journals = readWaitingJournals(task.journal, sealer);
  const [flawed] = journals.flawed;
  if (flawed !== undefined) return { journal: flawed };
  for (const id of journals.needed) collection.keep(id);
  // What a journal is to change must stay as it is until then, files without a name among it.
  const reclaims = journals.count === 0;
  let records = 0;
  const { findings, inodes } = checkTree({
    kv,
    sealer,
    onExtent: (extent, isOrphan) => {
      if (!isOrphan || !reclaims) collection.keep(extent.id);
    },
    onRecord: () => {
      if (++records % RECORDS_PER_REPORT !== 0) return;
      const progress: UpkeepProgress = { records, chunks: 0, chunksTotal: 0, bytes: 0 };
      task.port.postMessage(progress);
    },
  });
  if (findings.total > 0) return { findings: findings.total };
  const orphans = reclaims ? orphansOf(inodes) : [];
  if (!task.dryRun && reclaims) await reclaim(kv, new Tree({ kv, sealer }), orphans);
  pass('chunks-marked');
  await kv.sync();
  pass('marks-durable');
  const swept = await collection.sweep(task.graceSeconds, task.dryRun);
  return { swept, orphans: orphans.length };
}

function orphansOf(inodes: InodeTable): number[] {
  const orphans: number[] = [];
  for (let row = 0; row < inodes.length; row++) {
    if (inodes.has(row, STATE.ORPHAN)) orphans.push(inodes.ino[row]);
  }
  return orphans;
}

/** Deletes them, whose marks a clean check has vouched for. */
async function reclaim(kv: BufferedKv, tree: Tree, orphans: readonly number[]): Promise<void> {
  for (const ino of orphans) {
    for (let isDone = false; !isDone; ) {
      isDone = tree.reclaim(ino);
      if (kv.wantsSync) await kv.renew();
    }
  }
  tree.saveCounters();
}
