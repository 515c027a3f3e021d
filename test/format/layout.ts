/** Sizes and fields of format 1, written from engine/store/FORMAT.md alone. */

export const HEADER_BYTES = 64 as const;
export const TAG_BYTES = 16 as const;
export const SEGMENT_BYTES = 16_384 as const;
/** Bytes of the header before its check. */
export const FIELDS_BYTES = 48 as const;
const CHUNK_BYTES_MAX = 64 * 1_048_576;
const BLOCK_ALIGNED_FROM = 65_536;

/** Where the parts of a chunk object lie. */
export interface ObjectLayout {
  readonly plainBytes: number;
  readonly segments: number;
  readonly dataOffset: number;
  readonly objectBytes: number;
}

/** The layout of a chunk's object, which its length alone decides; undefined for no chunk. */
export function layoutOf(plainBytes: number): ObjectLayout | undefined {
  if (!(plainBytes >= 1 && plainBytes <= CHUNK_BYTES_MAX)) return undefined;
  const segments = Math.ceil(plainBytes / SEGMENT_BYTES);
  const align = plainBytes >= BLOCK_ALIGNED_FROM ? 4096 : 64;
  const dataOffset = Math.ceil((HEADER_BYTES + segments * TAG_BYTES) / align) * align;
  return { plainBytes, segments, dataOffset, objectBytes: dataOffset + plainBytes };
}

/** The fields of a header. */
export function fieldsOf(
  { plainBytes, segments, dataOffset }: ObjectLayout,
  epoch: number,
): Buffer {
  const fields = Buffer.alloc(FIELDS_BYTES);
  fields.write('MRCHUNK1', 0, 'latin1');
  fields.writeUInt16LE(1, 8);
  fields.writeUInt16LE(1, 10);
  fields.writeUInt32LE(epoch, 12);
  fields.writeBigUInt64LE(BigInt(plainBytes), 16);
  fields.writeUInt32LE(SEGMENT_BYTES, 24);
  fields.writeUInt32LE(segments, 28);
  fields.writeUInt32LE(dataOffset, 32);
  return fields;
}

/** The nonce of a segment of a chunk. */
export function nonceOf(segment: number): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32LE(segment);
  return nonce;
}

/** What every segment of a chunk is bound to. */
export function chunkAad(id: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(1), id]);
}
