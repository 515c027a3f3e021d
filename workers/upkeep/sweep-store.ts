/** Mark and sweep in a store that is not mounted. */
import { Buffer } from 'node:buffer';
import { type InodeTable, STATE } from '../../engine/check/inode-table.ts';
import { checkTree } from '../../engine/check/tree-check.ts';
import { isFlaw } from '../../engine/journal/format.ts';
import { type Journal, readJournal } from '../../engine/journal/journal-reader.ts';
import { chunksOf } from '../../engine/journal/journal-view.ts';
import type { JournalTask } from '../../engine/journal/owner.ts';
import { listJournals } from '../../engine/journal/places.ts';
import { pass } from '../../engine/kill-points.ts';
import type { Kv } from '../../engine/kv/kv.ts';
import { Tree } from '../../engine/tree/tree.ts';
import type { Sealer } from '../../engine/tree/types.ts';
import { beginCollection, type Collection } from '../collection.ts';
import type { SweepOutcome, SweepTask, UpkeepFailure, UpkeepProgress } from '../task.ts';
import { RECORDS_PER_REPORT, withTree } from './tree-file.ts';

const ID_WORDS = 8;

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
  { kv, sealer }: { kv: Kv; sealer: Sealer },
  collection: Collection,
): Promise<SweepOutcome> {
  const journals = readWaiting(task.journal, sealer);
  for (const { journal, flaw } of journals) {
    if (flaw !== undefined) return { journal: flaw };
    for (const id of neededBy(journal, sealer)) collection.keep(id);
  }
  // What a journal is to change must stay as it is until then, files without a name among it.
  const reclaims = journals.length === 0;
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
  if (!task.dryRun && reclaims) reclaim(new Tree({ kv, sealer }), orphans);
  pass('chunks-marked');
  await kv.sync();
  pass('marks-durable');
  const swept = await collection.sweep(task.graceSeconds, task.dryRun);
  return { swept, orphans: orphans.length };
}

/** A journal that waits to be replayed, or its file where it is flawed. */
type Waiting =
  | { readonly journal: Journal; readonly flaw?: undefined }
  | { readonly journal?: undefined; readonly flaw: string };

function readWaiting(task: JournalTask, sealer: Sealer): Waiting[] {
  return listJournals(task.directory)
    .filter(({ state }) => state === 'waiting')
    .map(({ file }) => {
      const journal = readJournal(file, task, sealer);
      return isFlaw(journal) ? { flaw: file } : { journal };
    });
}

/** Ids of chunks that a journal refers to, as words. */
function neededBy(journal: Journal, sealer: Sealer): Uint32Array[] {
  return [...chunksOf(journal, sealer).values()].map((id) => {
    const words = new Uint32Array(ID_WORDS);
    for (let word = 0; word < ID_WORDS; word++)
      words[word] = Buffer.from(id).readUInt32LE(word * 4);
    return words;
  });
}

function orphansOf(inodes: InodeTable): number[] {
  const orphans: number[] = [];
  for (let row = 0; row < inodes.length; row++) {
    if (inodes.has(row, STATE.ORPHAN)) orphans.push(inodes.ino[row]);
  }
  return orphans;
}

/** Deletes them, whose marks a clean check has vouched for. */
function reclaim(tree: Tree, orphans: readonly number[]): void {
  for (const ino of orphans) {
    while (!tree.reclaim(ino));
  }
  tree.saveCounters();
}
