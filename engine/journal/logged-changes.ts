import { Buffer } from 'node:buffer';
import type { Kv } from '../kv/kv.ts';
import type { LogPosition, OnChange } from '../kv/log-segment.ts';
import { treeLogPaths } from '../kv/tree-kv.ts';
import { WriteAheadLog } from '../kv/write-ahead-log.ts';

/** The key that says up to which position of the log everything is in the store. */
const WRITTEN_LOG = Buffer.from('\0log');
const POSITION_BYTES = 8;

/**
 * Visits what the write-ahead log of a tree has and the Kv below it does not: what the next opening
 * of the tree will write there. Nothing is changed. Throws STORE_DAMAGED.
 */
export function visitLogged(treeFile: string, below: Kv, visit: OnChange): void {
  const written = below.read((snapshot) => positionOf(snapshot.get(WRITTEN_LOG)));
  new WriteAheadLog({ paths: treeLogPaths(treeFile) }).replay(visit, written);
}

function positionOf(stored: Uint8Array | undefined): LogPosition {
  if (stored?.length !== POSITION_BYTES) return { generation: 0, sequence: 0 };
  const bytes = Buffer.from(stored);
  return { generation: bytes.readUInt32LE(0), sequence: bytes.readUInt32LE(4) };
}
