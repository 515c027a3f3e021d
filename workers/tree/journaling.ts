/**
 * Seals what the store refuses into a recovery journal, when the process must end.
 *
 *     regions ─► (movers) ─► chunks in the journal      EXTENT, INLINE ─► the tree ─► changes in the journal ─► its end
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { GateKv } from '../../engine/journal/gate-kv.ts';
import { JournalWriter, withBases } from '../../engine/journal/journal-writer.ts';
import type { JournalTask } from '../../engine/journal/owner.ts';
import type { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import type { Tree } from '../../engine/tree/tree.ts';
import type { Sealer } from '../../engine/tree/types.ts';
import type { TreeReport } from '../task.ts';
import type { TreeWorker } from './tree-worker.ts';

/** How often what is dirty is settled: jobs that were on their way to the store fail once more. */
const ATTEMPTS = 20;
const PAUSE_MS = 100;
/** How long is waited for the rest, where not everything could be settled. */
const LAST_MS = 2000;

/** What a mount's tree worker journals from. */
export interface SealedMount {
  readonly engine: number;
  readonly worker: TreeWorker;
  readonly tree: Tree;
  readonly kv: BufferedKv;
  /** Below `kv`. */
  readonly gate: GateKv;
  readonly sealer: Sealer;
  readonly task: JournalTask;
  readonly treeFile: string;
}

/** Why there is a journal. */
export interface JournalReason {
  readonly errno: number;
  readonly cause: string;
  /** Inodes whose data is lost already. */
  readonly lost: readonly number[];
  /** How long dirty data is waited for, in milliseconds: a thread that died never answers. */
  readonly limitMs: number;
}

type JournalReport = Extract<TreeReport, { type: 'journaled' }>;

/**
 * Seals everything that is not in the store. Afterwards nothing is committed any more: only `close`
 * may follow. The report names what could not be sealed; it has no file where nothing was left to seal.
 *
 * Threads: the tree worker's, outside of a turn.
 */
export async function sealJournal(
  source: SealedMount,
  reason: JournalReason,
): Promise<JournalReport> {
  const { kv, gate, worker } = source;
  await worker.endCollections();
  // What the tree's store takes after all needs no journal, and what a journal builds on should be durable.
  await kv.sync().catch(() => undefined);
  let writer: JournalWriter;
  try {
    writer = new JournalWriter(source.engine, source.sealer, source.task);
  } catch (error) {
    return { type: 'journaled', error: textOf(error), lost: worker.dirtyInodes() };
  }
  gate.shut();
  const lost = await settle(worker, reason.limitMs);
  try {
    return finish(source, writer, { ...reason, lost: [...new Set([...reason.lost, ...lost])] });
  } catch (error) {
    writer.discard();
    return { type: 'journaled', error: textOf(error), lost: worker.dirtyInodes() };
  }
}

/** Has every region settled and its extents in the tree, in memory; yields inodes that miss some, or may. */
async function settle(worker: TreeWorker, limitMs: number): Promise<number[]> {
  const deadline = performance.now() + limitMs;
  for (let attempt = 0; attempt < ATTEMPTS && performance.now() < deadline; attempt++) {
    const left = Math.max(0, deadline - performance.now());
    if ((await within(left, (done) => worker.gatherAll(done))) === 0) return [];
    await sleep(PAUSE_MS);
  }
  const lost = worker.dirtyInodes();
  await within(LAST_MS, (done) => worker.gatherSettled(done));
  return lost;
}

/** What `task` is done with, or -1 when that takes longer. */
function within(limitMs: number, task: (done: (errno: number) => void) => void): Promise<number> {
  const ended = new Promise<number>((resolve) => task(resolve));
  return Promise.race([ended, sleep(limitMs, -1, { ref: false })]);
}

function finish(source: SealedMount, writer: JournalWriter, reason: JournalReason): JournalReport {
  const { kv, gate, tree, treeFile } = source;
  tree.saveCounters();
  const changes = withBases(
    gate.record(() => kv.writeBack()),
    gate,
    treeFile,
  );
  const { lost } = reason;
  if (changes.length === 0 && lost.length === 0 && writer.endChunks() === 0) {
    writer.discard();
    return { type: 'journaled', lost };
  }
  return { type: 'journaled', file: writer.finish(changes, reason), lost };
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
