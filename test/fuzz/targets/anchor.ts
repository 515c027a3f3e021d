/** The meta pages that are put back after a power loss. */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Anchor } from '../../../engine/kv/anchor.ts';
import { type FuzzTarget, scratchDirectory } from '../target.ts';

const BOOT = '00000000-1111-2222-3333-444444444444';
const HEAD_BYTES = 56;
const HASH_BYTES = 32;
const METAS_BYTES_MAX = 131_072;
/** The file whose pages are put back. */
const DATA = Buffer.alloc(3 * 4096, 0x44);

let directory: string | undefined;

/** A slot as FORMAT says, with a hash that is right: what a writer gone wrong could leave. */
function slot(sequence: bigint, boot: string, metas: Buffer, length = metas.length): Buffer {
  const bytes = Buffer.alloc(HEAD_BYTES + metas.length + HASH_BYTES);
  bytes.write('MRANCHO1', 'latin1');
  bytes.writeBigUInt64LE(sequence, 8);
  bytes.writeUInt32LE(length, 16);
  bytes.write(boot, 20, 36, 'latin1');
  metas.copy(bytes, HEAD_BYTES);
  return rehashed(bytes);
}

/** Gives the bytes a hash that is right for the length that they say, where it fits. */
function rehashed(bytes: Buffer): Buffer {
  if (bytes.length < HEAD_BYTES) return bytes;
  const end = HEAD_BYTES + bytes.readUInt32LE(16);
  if (end + HASH_BYTES > bytes.length) return bytes;
  createHash('sha256').update(bytes.subarray(0, end)).digest().copy(bytes, end);
  return bytes;
}

function run(bytes: Buffer): void {
  directory ??= scratchDirectory();
  const path = join(directory, 'data.mdb');
  const given = Buffer.from(bytes.subarray(1));
  const file = (bytes[0] & 1) === 1 ? rehashed(given) : given;
  writeFileSync(path, DATA);
  writeFileSync(`${path}-anchor`, file);
  const isRestored = new Anchor(path, BOOT).restore();
  const data = readFileSync(path);
  if (!isRestored) {
    assert.ok(data.equals(DATA), 'pages were put back that nobody asked for');
    return;
  }
  const bytesBack = Math.min(file.readUInt32LE(16), METAS_BYTES_MAX);
  assert.ok(data.length <= Math.max(DATA.length, METAS_BYTES_MAX));
  const metas = file.subarray(HEAD_BYTES, HEAD_BYTES + bytesBack);
  // The other slot lies where an input of this size does not reach.
  assert.ok(data.subarray(0, metas.length).equals(metas));
  assert.ok(data.subarray(metas.length).equals(DATA.subarray(metas.length)));
}

function seeds(): Buffer[] {
  const metas = Buffer.alloc(8192, 0x4d);
  const other = BOOT.replaceAll('0', '9');
  const slots = [
    slot(1n, other, metas),
    slot(7n, BOOT, metas),
    slot(2n ** 64n - 1n, other, Buffer.alloc(0)),
    slot(3n, other, metas, 0xffff_ffff),
  ];
  return slots.map((bytes) => Buffer.concat([Buffer.of(1), bytes]));
}

export const anchor: FuzzTarget = {
  name: 'anchor',
  says: 'the saved meta pages (engine/kv/anchor.ts)',
  run,
  seeds,
};
