/** One file of the write-ahead log that an earlier process left. */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { MillraceError } from '../../../engine/errors.ts';
import { FoundSegment, LogRecord, LogSegment } from '../../../engine/kv/log-segment.ts';
import { type FuzzTarget, scratchDirectory } from '../target.ts';

const BOOT = '00000000-1111-2222-3333-444444444444';
const HEADER_BYTES = 64;
const HEADER_CRC_AT = 56;
const HEAD_BYTES = 20;
const GENERATION = 7;
/** Flags of an input: the log is of this boot; checks are made right, as only a writer gone wrong would leave them. */
const SAME_BOOT = 1;
const FORGED = 2;

interface Change {
  key: Buffer;
  value: Buffer | undefined;
}

/** What a log tells from record `first` on; undefined when it is none, or says that it is damaged. */
function replayed(file: Buffer, first: number, isSameBoot: boolean): Change[] | undefined {
  const changes: Change[] = [];
  try {
    const segment = FoundSegment.parse(file);
    if (segment === undefined) return undefined;
    const records = segment.replay(first, isSameBoot, (key, value) => {
      changes.push({ key: Buffer.from(key), value: value && Buffer.from(value) });
    });
    assert.ok(Number.isInteger(records) && records * HEAD_BYTES + HEADER_BYTES <= file.length);
    assert.ok(records > first || changes.length === 0);
    return changes;
  } catch (error) {
    if (error instanceof MillraceError && error.code === 'STORE_DAMAGED') return undefined;
    throw error;
  }
}

let directory: string | undefined;

/** The file of a log with these records; undefined when they do not fit. */
function written(records: readonly (readonly Change[])[]): Buffer | undefined {
  directory ??= scratchDirectory();
  const path = join(directory, 'log0');
  const segment = new LogSegment(path, false);
  const record = new LogRecord();
  segment.begin(GENERATION, { generation: GENERATION - 1, sequence: 3 }, BOOT);
  const fits = records.every((changes) => {
    record.begin();
    for (const { key, value } of changes) record.add(key, value);
    return segment.append(record);
  });
  segment.close(false);
  return fits ? readFileSync(path) : undefined;
}

/** Gives header and records the checks that belong to what they say, as far as lengths lead. */
function forge(file: Buffer): void {
  if (file.length < HEADER_BYTES) return;
  file.write('MRWAL002', 'latin1');
  file.writeUInt32LE(crc32(file.subarray(0, HEADER_CRC_AT)), HEADER_CRC_AT);
  file.writeUInt32LE(0, HEADER_CRC_AT + 4);
  const generation = file.readUInt32LE(8);
  let at = HEADER_BYTES;
  for (let sequence = 0; at + HEAD_BYTES <= file.length; sequence++) {
    const end = at + HEAD_BYTES + file.readUInt32LE(at + 12);
    if (end > file.length) return;
    file.writeUInt32LE(generation, at);
    file.writeUInt32LE(sequence, at + 4);
    const head = crc32(file.subarray(at, at + 16));
    file.writeUInt32LE(crc32(file.subarray(at + HEAD_BYTES, end), head), at + 16);
    at = end;
  }
}

function run(bytes: Buffer): void {
  if (bytes.length < 2) return;
  const [flags, first] = bytes;
  const file = Buffer.from(bytes.subarray(2));
  if ((flags & FORGED) !== 0) forge(file);
  const given = Buffer.from(file);
  const changes = replayed(file, first, (flags & SAME_BOOT) !== 0);
  assert.ok(file.equals(given), 'a replay has changed the log');
  if (changes === undefined || changes.length === 0) return;
  const told = changes.reduce((sum, { key, value }) => sum + key.length + (value?.length ?? 0), 0);
  assert.ok(told <= file.length, 'a log told more than it holds');
  const copy = written([changes]);
  if (copy !== undefined) assert.deepStrictEqual(replayed(copy, 0, true), changes);
}

function seeds(): Buffer[] {
  const change = (key: string, value?: Buffer): Change => ({ key: Buffer.from(key), value });
  const short = [change('key', Buffer.from('value')), change('gone')];
  const logs = [
    written([]),
    written([short, [change('', Buffer.alloc(0))], short]),
    written([[change('long', Buffer.alloc(2000, 7))]]),
  ];
  return logs.flatMap((file) => {
    assert.ok(file !== undefined);
    const torn = file.subarray(0, -3);
    return [
      Buffer.concat([Buffer.of(SAME_BOOT, 0), file]),
      Buffer.concat([Buffer.of(FORGED, 1), file]),
      Buffer.concat([Buffer.of(0, 0), torn]),
    ];
  });
}

export const log: FuzzTarget = {
  name: 'log',
  says: 'a file of the write-ahead log (engine/kv/log-segment.ts)',
  run,
  seeds,
};
