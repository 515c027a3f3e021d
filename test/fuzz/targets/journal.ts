/** A recovery journal, which lies wherever its owner put it. */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import {
  decodeChanges,
  decodeEnd,
  decodeHeader,
  decodeRecordHead,
  encodeEnd,
  encodeHeader,
  encodeRecordHead,
  type Flaw,
  HEADER_BYTES,
  isFlaw,
  type JournalChange,
  putChange,
  changeBytes,
  RECORD,
  RECORD_HEAD_BYTES,
} from '../../../engine/journal/format.ts';
import { parseJournal } from '../../../engine/journal/journal-reader.ts';
import type { FuzzTarget } from '../target.ts';

/** What sealing puts before and behind a body; here it hides nothing. */
const SEAL_HEAD_BYTES = 29;
const SEAL_TAIL_BYTES = 16;
const NAME = new Uint8Array(16).fill(5);
const OWNER = { store: NAME, keyCheck: NAME };
/** Bytes that a record's head believes to lie behind it. */
const LEFT_BYTES = 2 ** 21;

/** Opens everything, so that what is inside can lie as well. */
const sealer = {
  open: (_key: Uint8Array, sealed: Uint8Array): Uint8Array | undefined =>
    sealed.length < SEAL_HEAD_BYTES + SEAL_TAIL_BYTES
      ? undefined
      : sealed.subarray(SEAL_HEAD_BYTES, -SEAL_TAIL_BYTES),
};

function encodeChanges(changes: readonly JournalChange[]): Buffer {
  const bytes = changes.reduce((sum, change) => sum + changeBytes(change), 0);
  const out = Buffer.alloc(bytes);
  let at = 0;
  for (const change of changes) at = putChange(out, at, change);
  assert.equal(at, bytes);
  return out;
}

/** What is taken is written again as it was. */
function same<T extends object>(
  bytes: Buffer,
  decoded: T | Flaw,
  encode: (value: T) => Buffer,
): void {
  if (isFlaw(decoded)) assert.ok(decoded.flaw.length > 0);
  else assert.deepStrictEqual(encode(decoded), bytes);
}

function run(bytes: Buffer): void {
  const body = Buffer.from(bytes.subarray(1));
  switch (bytes[0]) {
    case 0: {
      const header = body.subarray(0, HEADER_BYTES);
      return same(header, decodeHeader(header), encodeHeader);
    }
    case 1: {
      const head = body.subarray(0, RECORD_HEAD_BYTES);
      return same(head, decodeRecordHead(head, LEFT_BYTES), encodeRecordHead);
    }
    case 2:
      return same(body, decodeChanges(body), encodeChanges);
    case 3: {
      const end = decodeEnd(body);
      if (isFlaw(end)) return;
      // The cause is a text: bytes that are none come back as others.
      const again = decodeEnd(encodeEnd(end));
      if (!isFlaw(again) && !end.cause.includes('\ufffd')) assert.deepStrictEqual(again, end);
      return;
    }
    default:
      return whole(body);
  }
}

function whole(file: Buffer): void {
  const bytes = {
    length: file.length,
    read: (offset: number, length: number) => {
      assert.ok(offset >= 0 && length >= 0 && offset <= file.length, `${offset}, ${length}`);
      return file.subarray(offset, offset + length);
    },
  };
  const parsed = parseJournal({ file: 'journal', bytes, owner: OWNER, sealer });
  const journal = 'flaw' in parsed ? parsed.readable : parsed;
  if (journal === undefined) return;
  assert.equal(journal.places.length, (journal.ids.length / 32) * 2);
  for (let place = 0; place < journal.places.length; place += 2) {
    assert.ok(journal.places[place] + journal.places[place + 1] <= file.length);
  }
}

function seeds(): Buffer[] {
  const header = encodeHeader({ store: NAME, id: NAME, keyCheck: NAME });
  const base = new Uint8Array(16).fill(3);
  const changes = encodeChanges([
    { key: Buffer.from('a key'), value: Buffer.from('a value'), bases: [base] },
    { key: Buffer.from('gone'), value: undefined, bases: [base, base] },
  ]);
  const end = encodeEnd({
    createdMs: 1_800_000_000_000,
    errno: 28,
    cause: 'no space',
    objects: 1,
    objectBytes: 100,
    changes: 2,
    lost: [7, 9],
  });
  const sealed = (body: Buffer): Buffer =>
    Buffer.concat([Buffer.alloc(SEAL_HEAD_BYTES), body, Buffer.alloc(SEAL_TAIL_BYTES)]);
  const record = (kind: number, body: Buffer): Buffer =>
    Buffer.concat([encodeRecordHead({ kind, bytes: body.length }), body]);
  const file = Buffer.concat([
    header,
    record(RECORD.OBJECT, Buffer.alloc(32 + 100, 6)),
    record(RECORD.CHANGES, sealed(changes)),
    record(RECORD.END, sealed(end)),
  ]);
  const bodies = [header, record(RECORD.OBJECT, Buffer.alloc(132)), changes, end, file];
  return bodies.map((body, how) => Buffer.concat([Buffer.of(how), body]));
}

export const journal: FuzzTarget = {
  name: 'journal',
  says: 'a recovery journal (engine/journal), its seals opened or not there',
  run,
  seeds,
};
