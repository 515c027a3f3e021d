/** A second writer of chunk objects, to compare whole objects with what Rust makes of them. */
import { createCipheriv } from 'node:crypto';
import type { Keys } from './keys.ts';
import { chunkAad, fieldsOf, HEADER_BYTES, layoutOf } from './layout.ts';
import { nonceOf, SEGMENT_BYTES, TAG_BYTES } from './layout.ts';

/** The id and the object of a chunk. */
export function sealChunk(keys: Keys, plain: Buffer): { id: Buffer; object: Buffer } {
  const layout = layoutOf(plain.length);
  if (layout === undefined) throw new RangeError(`no chunk has ${plain.length} bytes`);
  const id = keys.chunkId(plain);
  const object = Buffer.alloc(layout.objectBytes);
  const fields = fieldsOf(layout, keys.epoch);
  fields.copy(object);
  keys.headerCheck(id, fields).copy(object, fields.length);
  const [key, aad] = [keys.chunkKey(id), chunkAad(id)];
  for (let segment = 0; segment < layout.segments; segment++) {
    const start = segment * SEGMENT_BYTES;
    const cipher = createCipheriv('aes-256-gcm', key, nonceOf(segment));
    cipher.setAAD(aad);
    cipher
      .update(plain.subarray(start, start + SEGMENT_BYTES))
      .copy(object, layout.dataOffset + start);
    cipher.final();
    cipher.getAuthTag().copy(object, HEADER_BYTES + segment * TAG_BYTES);
  }
  return { id, object };
}
