import { Buffer } from 'node:buffer';
import { crc32 } from 'node:zlib';
import { MillraceError } from '../errors.ts';
import type { Snapshot, Transaction } from './kv.ts';
import type { LogPosition } from './log-segment.ts';

/**
 * The key that says up to which position of the write-ahead log everything is in the Kv below it,
 * written by each write-back. Records before it are older than what is below; replayed, they would
 * take back a part of it. Its value is not sealed: generation u32, sequence u32, CRC-32 (that of
 * zlib) of the key and these u32, little-endian. Versions before this one wrote no CRC.
 */
export const WRITTEN_POSITION_KEY: Uint8Array = Buffer.from('\0log', 'latin1');

const CRC_AT = 8;
const POSITION_BYTES = 12;
const KEY_CRC = crc32(WRITTEN_POSITION_KEY);

/**
 * Up to where everything of the log is below; the very beginning where nothing says so. Throws
 * STORE_DAMAGED where what says so is not what was written.
 */
export function writtenPosition(below: Snapshot): LogPosition {
  const stored = below.get(WRITTEN_POSITION_KEY);
  if (stored === undefined) return { generation: 0, sequence: 0 };
  const bytes = Buffer.from(stored);
  const isWhole =
    bytes.length === CRC_AT ||
    (bytes.length === POSITION_BYTES && bytes.readUInt32LE(CRC_AT) === positionCrc(bytes));
  if (!isWhole) {
    throw new MillraceError('STORE_DAMAGED', 'the tree does not say up to where its log was read', {
      hint: 'Restore the directory tree/ of the store from a backup.',
    });
  }
  return { generation: bytes.readUInt32LE(0), sequence: bytes.readUInt32LE(4) };
}

/** Says that everything before a position of the log is below with this transaction. */
export function putWrittenPosition(below: Transaction, position: LogPosition): void {
  const bytes = Buffer.alloc(POSITION_BYTES);
  bytes.writeUInt32LE(position.generation, 0);
  bytes.writeUInt32LE(position.sequence, 4);
  bytes.writeUInt32LE(positionCrc(bytes), CRC_AT);
  below.put(WRITTEN_POSITION_KEY, bytes);
}

function positionCrc(bytes: Buffer): number {
  return crc32(bytes.subarray(0, CRC_AT), KEY_CRC);
}
