import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { FoundSegment } from '../../engine/kv/log-segment.ts';

const HEADER_BYTES = 64;
const HEADER_CRC_AT = 56;
const SEGMENT_BYTES = 8 << 20;
/** A generation, a sequence and a length at once: each word begins a record that seems to fit. */
const WORD = 0x000f_ff00;

test('a log whose every word claims to begin a long record is damaged, not endless', () => {
  const file = Buffer.alloc(SEGMENT_BYTES);
  for (let at = 0; at < file.length; at += 4) file.writeUInt32LE(WORD, at);
  file.write('MRWAL002', 'latin1');
  file.writeUInt32LE(crc32(file.subarray(0, HEADER_CRC_AT)), HEADER_CRC_AT);
  file.writeUInt32LE(0, HEADER_BYTES - 4);
  const segment = FoundSegment.parse(file);
  assert.ok(segment !== undefined);
  assert.throws(() => segment.replay(0, true, () => {}), { code: 'STORE_DAMAGED' });
  assert.equal(segment.isPromised(false), true);
});
