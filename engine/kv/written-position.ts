import { Buffer } from 'node:buffer';
import type { Snapshot, Transaction } from './kv.ts';
import type { LogPosition } from './log-segment.ts';

/**
 * The key that says up to which position of the write-ahead log everything is in the Kv below it,
 * written by each write-back. Records before it are older than what is below; replayed, they would
 * take back a part of it. Its value is not sealed: generation u32, sequence u32, little-endian.
 */
export const WRITTEN_POSITION_KEY: Uint8Array = Buffer.from('\0log', 'latin1');

const POSITION_BYTES = 8;

/** Up to where everything of the log is below; the very beginning where nothing says so. */
export function writtenPosition(below: Snapshot): LogPosition {
  const stored = below.get(WRITTEN_POSITION_KEY);
  if (stored?.length !== POSITION_BYTES) return { generation: 0, sequence: 0 };
  const view = new DataView(stored.buffer, stored.byteOffset);
  return { generation: view.getUint32(0, true), sequence: view.getUint32(4, true) };
}

/** Says that everything before a position of the log is below with this transaction. */
export function putWrittenPosition(below: Transaction, position: LogPosition): void {
  const bytes = Buffer.alloc(POSITION_BYTES);
  bytes.writeUInt32LE(position.generation, 0);
  bytes.writeUInt32LE(position.sequence, 4);
  below.put(WRITTEN_POSITION_KEY, bytes);
}
