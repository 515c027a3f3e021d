/**
 * The tree of a store, every value sealed anew, in a file of its own that then takes the place of the
 * first: what earlier keys have sealed is not even in free pages any more.
 */
import { renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { flushDirectorySync } from '../../engine/durable-directory.ts';
import { pass } from '../../engine/kill-points.ts';
import { LmdbKv } from '../../engine/kv/lmdb-kv.ts';
import { WRITTEN_POSITION_KEY } from '../../engine/kv/written-position.ts';
import type { Sealer } from '../../engine/tree/types.ts';
import { reserveSpace } from '../../engine/tree-file.ts';
import { BEHIND_EVERY_KEY } from './tree-file.ts';

/** A batch ends with so many values, or so many bytes of them. */
const BATCH_VALUES = 256;
const BATCH_BYTES = 1 << 20;
const FIRST_KEY = Uint8Array.of(0);

interface Sealed {
  readonly key: Buffer;
  readonly value: Buffer;
}

/**
 * Seals every value of a tree anew, durably. The tree is open nowhere, and its write-ahead log is
 * removed; afterwards that is so durably.
 * Yields the key of a value that does not open, in hexadecimal digits; nothing is changed then.
 *
 * The file that takes the tree's place is whole and durable before; the tree's anchor goes first,
 * for it leads into the file that is replaced. A process that is killed on the way leaves the old
 * tree or the new one, either without need of an anchor: both are durable to the last byte.
 */
export async function resealTree(
  treeFile: string,
  sealer: Sealer,
  onValue: () => void,
): Promise<string | undefined> {
  const next = `${treeFile}-next`;
  const nextFiles = [next, `${next}-lock`, `${next}-anchor`];
  for (const file of nextFiles) rmSync(file, { force: true });
  const damaged = await copyTree({ from: treeFile, to: next }, sealer, onValue);
  if (damaged !== undefined) {
    for (const file of nextFiles) rmSync(file, { force: true });
    return damaged;
  }
  pass('tree-resealed');
  rmSync(`${treeFile}-anchor`, { force: true });
  flushDirectorySync(dirname(treeFile));
  pass('tree-unanchored');
  renameSync(next, treeFile);
  flushDirectorySync(dirname(treeFile));
  pass('tree-replaced');
  for (const file of nextFiles) rmSync(file, { force: true });
  return undefined;
}

async function copyTree(
  paths: { from: string; to: string },
  sealer: Sealer,
  onValue: () => void,
): Promise<string | undefined> {
  const from = await LmdbKv.open({ path: paths.from });
  try {
    const to = await LmdbKv.open({ path: paths.to, reserve: reserveSpace });
    try {
      for (let start = FIRST_KEY; ; ) {
        const batch = readBatch(from, start);
        const damaged = writeBatch(to, batch, sealer);
        if (damaged !== undefined) return damaged;
        for (const _ of batch) onValue();
        const last = batch.at(-1);
        if (last === undefined) return undefined;
        start = Buffer.concat([last.key, FIRST_KEY]);
      }
    } finally {
      await to.close();
    }
  } finally {
    await from.close();
  }
}

/** Some values from a key on; none at the end. */
function readBatch(kv: LmdbKv, start: Uint8Array): Sealed[] {
  const batch: Sealed[] = [];
  let bytes = 0;
  kv.scan(start, BEHIND_EVERY_KEY, (key, value) => {
    batch.push({ key: Buffer.from(key), value: Buffer.from(value) });
    bytes += value.length;
    return batch.length < BATCH_VALUES && bytes < BATCH_BYTES;
  });
  return batch;
}

/** Stores values, sealed anew; the key of one that does not open. */
function writeBatch(kv: LmdbKv, batch: readonly Sealed[], sealer: Sealer): string | undefined {
  return kv.transact(() => {
    for (const { key, value } of batch) {
      if (key.equals(WRITTEN_POSITION_KEY)) {
        kv.put(key, value);
        continue;
      }
      const opened = sealer.open(key, value);
      if (opened === undefined) return key.toString('hex');
      // What was opened is valid until the next call of the sealer only.
      const plain = Buffer.from(opened);
      kv.put(key, sealer.seal(key, plain));
      plain.fill(0);
    }
    return undefined;
  });
}
