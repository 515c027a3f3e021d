/** Values of the tree, as they look once they are opened. */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { type Inode, RecordCodec } from '../../../engine/tree/records.ts';
import type { FuzzTarget } from '../target.ts';

const INO = 7;
const REGION = 3;
const codec = new RecordCodec();

/** How one kind of record is read and written. */
interface Kind {
  decode: (bytes: Uint8Array) => unknown;
  /** The bytes of what was decoded. */
  encode: (record: never) => Uint8Array;
}

const KINDS: readonly Kind[] = [
  { decode: (bytes) => codec.decodeInode(bytes, INO), encode: codec.encodeInode.bind(codec) },
  { decode: (bytes) => codec.decodeName(bytes), encode: codec.encodeName.bind(codec) },
  { decode: (bytes) => codec.decodeXattr(bytes), encode: codec.encodeXattr.bind(codec) },
  {
    decode: (bytes) => codec.decodeRegion(bytes, REGION),
    encode: (content: never) => codec.encodeRegion(content, REGION),
  },
  { decode: (bytes) => codec.decodeCounters(bytes), encode: codec.encodeCounters.bind(codec) },
];

/** A copy that shares nothing with the record. The two zeros of a double are one to whoever reads a record. */
function copyOf(record: unknown): unknown {
  return withoutNegativeZero(structuredClone(record));
}

function withoutNegativeZero(value: unknown): unknown {
  if (value === 0) return 0;
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value;
  const fields = value as Record<string, unknown>;
  for (const [name, field] of Object.entries(fields)) fields[name] = withoutNegativeZero(field);
  return fields;
}

function check({ decode, encode }: Kind, bytes: Buffer): void {
  const given = Buffer.from(bytes);
  const record = decode(given);
  assert.ok(given.equals(bytes), 'a decoder has changed its input');
  if (record === undefined) return;
  const kept = copyOf(record);
  given.fill(0xee);
  const later = copyOf(record);
  assert.deepStrictEqual(later, kept, 'a record holds on to the bytes that it came from');
  const again = copyOf(decode(Buffer.from(encode(record as never))));
  assert.deepStrictEqual(again, kept, 'what was read is not what is written');
}

function seeds(): Buffer[] {
  const time = { seconds: 1_800_000_000, nanoseconds: 5 };
  const inode: Inode = {
    ino: INO,
    mode: 0o100644,
    nlink: 1,
    uid: 1000,
    gid: 1000,
    rdev: 0,
    size: 9_000_000_000,
    allocated: 4096,
    atime: time,
    mtime: { seconds: -5, nanoseconds: 0 },
    ctime: time,
    btime: time,
    parent: 1,
    target: new Uint8Array(0),
    namespace: 9,
    xattrs: 2,
  };
  const name = Buffer.from('name');
  const id = new Uint32Array(8).fill(5);
  const extent = { offset: REGION * 4_194_304 + 9, length: 5, chunkOffset: 1, chunkLength: 99, id };
  const bytes: Uint8Array[] = [
    codec.encodeInode(inode).slice(),
    codec.encodeInode({ ...inode, mode: 0o120777, target: name, namespace: 1 }).slice(),
    codec.encodeName({ name, ino: 5, type: 0o040000 }).slice(),
    codec.encodeXattr({ name, value: Buffer.alloc(300, 1) }).slice(),
    codec.encodeRegion({ inline: name }, REGION).slice(),
    codec
      .encodeRegion({ extents: [extent, { ...extent, offset: extent.offset + 9 }] }, REGION)
      .slice(),
    codec.encodeCounters({ nextIno: 2 ** 40, inodes: 3 }).slice(),
    codec.encodeOrphan().slice(),
  ];
  return bytes.map((record) => Buffer.from(record));
}

export const records: FuzzTarget = {
  name: 'records',
  says: 'values of the tree (engine/tree/records.ts), by each of its decoders',
  run(bytes) {
    for (const kind of KINDS) check(kind, bytes);
  },
  seeds,
};
