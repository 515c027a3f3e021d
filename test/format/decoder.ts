/**
 * A second reader of formats 1 and 2. It checks more than the mount has to: that padding is zero, that an
 * object ends with its chunk, and that a chunk's plaintext is the one that its id names.
 */
import { createDecipheriv } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { type Keys, UnknownEpoch } from './keys.ts';
import { chunkAad, FIELDS_BYTES, fieldsOf, HEADER_BYTES, layoutOf } from './layout.ts';
import { nonceOf, SEGMENT_BYTES, TAG_BYTES } from './layout.ts';

/** version u8, epoch u32 */
const VALUE_PREFIX_BYTES = 5;
const SALT_BYTES = 24;
const VALUE_HEAD_BYTES = VALUE_PREFIX_BYTES + SALT_BYTES;
const CHECK_BYTES = 4;

/** The bytes are not what was sealed, or the key is another one. */
export class NotAuthentic extends Error {}

function ensure(holds: boolean, what: string): void {
  if (!holds) throw new NotAuthentic(what);
}

interface Sealed {
  key: Uint8Array;
  nonce: Uint8Array;
  aad: Uint8Array;
  data: Uint8Array;
  tag: Uint8Array;
}

function open({ key, nonce, aad, data, tag }: Sealed): Buffer {
  const cipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(aad).setAuthTag(tag);
  const plain = cipher.update(data);
  try {
    cipher.final();
  } catch {
    throw new NotAuthentic('a tag does not fit');
  }
  return plain;
}

/** What was asked of keys whose epoch was read from the bytes; NotAuthentic when there are none of it. */
function ofEpoch<T>(ask: () => T): T {
  try {
    return ask();
  } catch (error) {
    throw error instanceof UnknownEpoch ? new NotAuthentic(error.message) : error;
  }
}

/** The plaintext of the object that is stored under this id. Throws NotAuthentic. */
export function openChunk(keys: Keys, id: Buffer, object: Buffer): Buffer {
  ensure(object.length > HEADER_BYTES, 'too short for a header');
  const layout = layoutOf(Number(object.readBigUInt64LE(16)));
  if (layout === undefined) throw new NotAuthentic('no chunk is that long');
  const fields = object.subarray(0, FIELDS_BYTES);
  const epoch = fields.readUInt32LE(12);
  ensure(fields.equals(fieldsOf(layout, epoch)), 'fields that do not fit together');
  const check = object.subarray(FIELDS_BYTES, HEADER_BYTES);
  const expected = ofEpoch(() => keys.headerCheck(id, fields, epoch));
  ensure(check.equals(expected), 'the check does not fit');
  ensure(object.length === layout.objectBytes, 'the object is cut or has a tail');
  const padding = object.subarray(HEADER_BYTES + layout.segments * TAG_BYTES, layout.dataOffset);
  ensure(
    padding.every((byte) => byte === 0),
    'padding is not zero',
  );

  const sealed = object.subarray(layout.dataOffset);
  const [key, aad] = [keys.chunkKey(id, epoch), chunkAad(id)];
  const segments = Array.from({ length: layout.segments }, (_, segment) => {
    const data = sealed.subarray(segment * SEGMENT_BYTES, (segment + 1) * SEGMENT_BYTES);
    const tagAt = HEADER_BYTES + segment * TAG_BYTES;
    const tag = object.subarray(tagAt, tagAt + TAG_BYTES);
    return open({ key, nonce: nonceOf(segment), aad, data, tag });
  });
  const plain = Buffer.concat(segments);
  ensure(keys.chunkId(plain).equals(id), 'the plaintext has another id');
  return plain;
}

/** The plaintext of a value of the tree that is stored under this key. Throws NotAuthentic. */
export function openValue(keys: Keys, key: Uint8Array, sealed: Buffer): Buffer {
  ensure(sealed.length > 0, 'too short for a value');
  const version = sealed[0];
  ensure(version === 1 || version === 2, 'another version');
  const checkAt = sealed.length - (version === 1 ? 0 : CHECK_BYTES);
  const tagAt = checkAt - TAG_BYTES;
  ensure(tagAt >= VALUE_HEAD_BYTES, 'too short for a value');
  if (version === 2)
    ensure(sealed.readUInt32LE(checkAt) === crc32(key), 'stored under another key');
  const prefix = sealed.subarray(0, VALUE_PREFIX_BYTES);
  const [epoch, salt] = [prefix.readUInt32LE(1), sealed.subarray(5, VALUE_HEAD_BYTES)];
  return open({
    key: ofEpoch(() => keys.valueKey(salt, epoch)),
    nonce: Buffer.alloc(12),
    aad: Buffer.concat([prefix, key]),
    data: sealed.subarray(VALUE_HEAD_BYTES, tagAt),
    tag: sealed.subarray(tagAt, checkAt),
  });
}
