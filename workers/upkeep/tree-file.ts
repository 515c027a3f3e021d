import type { MessagePort } from 'node:worker_threads';
import type { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import type { AllChunks } from '../../engine/native.ts';
import type { Sealer } from '../../engine/tree/types.ts';
import { openTreeFile } from '../../engine/tree-file.ts';
import type { UpkeepFailure, UpkeepProgress } from '../task.ts';
import { VaultSealer } from '../tree/sealer.ts';

/** Records between two reports of how far it is. */
export const RECORDS_PER_REPORT = 20_000;
/** Milliseconds between two reports while chunks are read. */
export const REPORT_MS = 250;
/** Where a scan of all records ends. */
export const BEHIND_EVERY_KEY: Uint8Array = new Uint8Array(16).fill(0xff);

/**
 * Runs `body` over the tree of a store that is not mounted, with what an earlier process left in
 * the log. What is thrown comes back as a sentence: errors lose their class between threads.
 */
export async function withTree<T>(
  { treeFile, engine }: { treeFile: string; engine: number },
  body: (kv: BufferedKv, sealer: Sealer) => Promise<T>,
): Promise<T | UpkeepFailure> {
  try {
    const sealer = new VaultSealer(engine);
    const kv = await openTreeFile(treeFile, sealer);
    try {
      return await body(kv, sealer);
    } finally {
      await kv.close();
    }
  } catch (error) {
    return { failure: error instanceof Error ? error.message : String(error) };
  }
}

/** Says how many records were looked at, before any chunk. */
export function tellRecords(port: MessagePort, records: number): void {
  const progress: UpkeepProgress = { records, chunks: 0, chunksTotal: 0, bytes: 0 };
  port.postMessage(progress);
}

/** Waits for a walk through all chunks, and says now and then how far it is. */
export async function walkChunks<T>(
  port: MessagePort,
  records: number,
  all: AllChunks,
  walk: Promise<T>,
): Promise<T> {
  const timer = setInterval(() => {
    const [chunksTotal, chunks, bytes] = all.progress();
    const progress: UpkeepProgress = { records, chunks, chunksTotal, bytes };
    port.postMessage(progress);
  }, REPORT_MS);
  try {
    return await walk;
  } finally {
    clearInterval(timer);
  }
}
