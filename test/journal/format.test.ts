/** Journals come back as they were written; whatever else the bytes are, they are refused and nothing is thrown. */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  changeBytes,
  decodeChanges,
  decodeEnd,
  decodeHeader,
  decodeRecordHead,
  encodeEnd,
  encodeHeader,
  encodeRecordHead,
  HEADER_BYTES,
  ID_BYTES,
  isFlaw,
  type JournalChange,
  type JournalEnd,
  LOST_MAX,
  putChange,
  RECORD,
  sealingKey,
} from '../../engine/journal/format.ts';
import {
  type Journal,
  type FlawedJournal,
  parseJournal,
} from '../../engine/journal/journal-reader.ts';
import { TestSealer } from '../tree/test-sealer.ts';

const RUNS = { numRuns: 300 } as const;
const STORE = Buffer.alloc(16, 1);
const KEY_CHECK = Buffer.alloc(16, 3);
const OWNER = { store: STORE, keyCheck: KEY_CHECK };
const HEADER = encodeHeader({ store: STORE, id: Buffer.alloc(16, 2), keyCheck: KEY_CHECK });

const bytesOf = (minLength: number, maxLength: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength, maxLength });
const changes: fc.Arbitrary<JournalChange[]> = fc.array(
  fc.record({
    key: bytesOf(1, 511),
    value: fc.option(bytesOf(0, 2000), { nil: undefined }),
    bases: fc.array(bytesOf(16, 16), { minLength: 1, maxLength: 2 }),
  }),
  { maxLength: 20 },
);
const ends: fc.Arbitrary<JournalEnd> = fc.record({
  createdMs: fc.nat(),
  errno: fc.integer({ min: 0, max: 4095 }),
  cause: fc.string({ maxLength: 80 }),
  objects: fc.nat(),
  objectBytes: fc.maxSafeNat(),
  changes: fc.nat(),
  lost: fc.array(fc.maxSafeNat(), { maxLength: 5 }),
});

function encodeChanges(list: readonly JournalChange[]): Buffer {
  const body = Buffer.alloc(list.reduce((sum, change) => sum + changeBytes(change), 0));
  let at = 0;
  for (const change of list) at = putChange(body, at, change);
  assert.equal(at, body.length);
  return body;
}

/** A whole journal: one chunk, one body of changes, its end. */
function journalOf(list: readonly JournalChange[], sealer: TestSealer): Buffer {
  const parts: Buffer[] = [HEADER];
  const record = (kind: number, body: Uint8Array): void => {
    parts.push(encodeRecordHead({ kind, bytes: body.length }), Buffer.from(body));
  };
  const sealed = (kind: number, number: number, plain: Uint8Array): void =>
    record(kind, sealer.seal(sealingKey(HEADER, kind, number), plain));
  record(RECORD.OBJECT, Buffer.alloc(ID_BYTES + 100, 9));
  sealed(RECORD.CHANGES, 0, encodeChanges(list));
  const end = { createdMs: 5, errno: 28, cause: 'unmount: ENOSPC', objects: 1, objectBytes: 100 };
  sealed(RECORD.END, 1, encodeEnd({ ...end, changes: list.length, lost: [7] }));
  return Buffer.concat(parts);
}

function parse(bytes: Uint8Array, sealer: TestSealer): Journal | FlawedJournal {
  const source = {
    length: bytes.length,
    read: (offset: number, length: number) => bytes.subarray(offset, offset + length),
  };
  return parseJournal({ file: 'test', bytes: source, owner: OWNER, sealer });
}

const SAMPLE: readonly JournalChange[] = [
  { key: Buffer.from('i12345678'), value: Buffer.alloc(100, 4), bases: [Buffer.alloc(16)] },
  {
    key: Buffer.from('d12345678'),
    value: undefined,
    bases: [Buffer.alloc(16, 1), Buffer.alloc(16, 2)],
  },
];

test('changes and ends come back as they were written', () => {
  fc.assert(
    fc.property(changes, (list) => {
      const decoded = decodeChanges(encodeChanges(list));
      assert.ok(!isFlaw(decoded));
      assert.deepEqual(
        decoded.map(({ key, value, bases }) => [
          [...key],
          value && [...value],
          bases.map((b) => [...b]),
        ]),
        list.map(({ key, value, bases }) => [
          [...key],
          value && [...value],
          bases.map((b) => [...b]),
        ]),
      );
    }),
    RUNS,
  );
  fc.assert(
    fc.property(ends, (end) => {
      assert.deepEqual(decodeEnd(encodeEnd(end)), { ...end });
    }),
    RUNS,
  );
  const many = { ...parsedEnd(), lost: Array.from({ length: LOST_MAX + 1 }, (_, ino) => ino) };
  const decoded = decodeEnd(encodeEnd(many));
  assert.equal(!isFlaw(decoded) && decoded.lost.length, LOST_MAX);
});

function parsedEnd(): JournalEnd {
  const sealer = new TestSealer();
  const journal = parse(journalOf(SAMPLE, sealer), sealer);
  assert.ok(!isFlaw(journal));
  return journal.end;
}

test('no decoder throws, whatever the bytes are', () => {
  const decoders: ((bytes: Uint8Array) => unknown)[] = [
    decodeHeader,
    (bytes) => decodeRecordHead(bytes, bytes.length),
    decodeChanges,
    decodeEnd,
    (bytes) => parse(bytes, new TestSealer()),
    (bytes) => parse(Buffer.concat([HEADER, bytes]), new TestSealer()),
  ];
  fc.assert(
    fc.property(bytesOf(0, 300), fc.nat(decoders.length - 1), (bytes, which) => {
      assert.equal(typeof decoders[which]?.(bytes), 'object');
    }),
    { numRuns: 3000 },
  );
});

test('a whole journal is read, and each of its bytes is checked', () => {
  const sealer = new TestSealer();
  const bytes = journalOf(SAMPLE, sealer);
  const journal = parse(bytes, sealer);
  assert.ok(!isFlaw(journal));
  assert.equal(journal.changes.length, 2);
  assert.deepEqual([...journal.places], [HEADER_BYTES + 16 + ID_BYTES, 100]);
  assert.deepEqual(journal.end.lost, [7]);
  // What the body of a chunk's record holds is checked against its id by native code.
  const object = { from: HEADER_BYTES + 16, to: HEADER_BYTES + 16 + ID_BYTES + 100 };
  for (let at = 0; at < bytes.length; at++) {
    if (at >= object.from && at < object.to) continue;
    const damaged = Buffer.from(bytes);
    damaged.writeUInt8(damaged.readUInt8(at) ^ 0x10, at);
    assert.ok(isFlaw(parse(damaged, sealer)), `byte ${at}`);
  }
  for (let length = 0; length < bytes.length; length++) {
    assert.ok(isFlaw(parse(bytes.subarray(0, length), sealer)), `${length} bytes`);
  }
  assert.ok(
    isFlaw(parse(Buffer.concat([bytes, Buffer.alloc(1)]), sealer)),
    'a byte behind its end',
  );
});

test('records of one journal are worth nothing in another, or in another order', () => {
  const sealer = new TestSealer();
  const bytes = journalOf(SAMPLE, sealer);
  const other = Buffer.from(bytes);
  other.fill(8, 32, 48);
  assert.match((parse(other, sealer) as FlawedJournal).flaw, /record 2 .* is not authentic/);
  const wrongStore = Buffer.from(bytes);
  wrongStore.fill(8, 16, 32);
  assert.match((parse(wrongStore, sealer) as FlawedJournal).flaw, /another store/);
  const wrongKey = Buffer.from(bytes);
  wrongKey.fill(8, 48, 64);
  assert.match((parse(wrongKey, sealer) as FlawedJournal).flaw, /another key/);
  const second = HEADER_BYTES + 16 + ID_BYTES + 100;
  const twice = Buffer.concat([bytes.subarray(0, second), bytes.subarray(HEADER_BYTES)]);
  assert.match((parse(twice, sealer) as FlawedJournal).flaw, /holds 2 chunks/);
});
