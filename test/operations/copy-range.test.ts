import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import { constants } from 'node:os';
import { OPCODE } from '../../engine/fuse-protocol.ts';
import { PENDING } from '../../workers/tree/operations.ts';
import { Fixture } from './fixture.ts';

function body(fields: {
  from: bigint;
  node: bigint;
  to: bigint;
  length: bigint;
  flags: bigint;
}): Buffer {
  const bytes = Buffer.alloc(56);
  bytes.writeBigUInt64LE(fields.from, 8);
  bytes.writeBigUInt64LE(fields.node, 16);
  bytes.writeBigUInt64LE(fields.to, 32);
  bytes.writeBigUInt64LE(fields.length, 40);
  bytes.writeBigUInt64LE(fields.flags, 48);
  return bytes;
}

const SENSIBLE = { from: 5n, node: 7n, to: 9n, length: 11n, flags: 0n };

test('COPY_FILE_RANGE hands on what it is asked for, a bounded part at a time', () => {
  const fixture = new Fixture();
  const ask = (bytes: Buffer): number =>
    fixture.send(OPCODE.COPY_FILE_RANGE, bytes, { node: 3 }).outcome;
  assert.equal(ask(body(SENSIBLE)), PENDING);
  assert.equal(ask(body({ ...SENSIBLE, length: 1n << 45n })), PENDING);
  assert.deepEqual(fixture.inodes.copied, [
    { source: 3, from: 5, length: 11, target: 7, to: 9 },
    { source: 3, from: 5, length: 1 << 30, target: 7, to: 9 },
  ]);
});

test('COPY_FILE_RANGE refuses what makes no sense', () => {
  const fixture = new Fixture();
  const ask = (bytes: Buffer): number =>
    fixture.send(OPCODE.COPY_FILE_RANGE, bytes, { node: 3 }).outcome;
  const { errno } = constants;
  assert.equal(ask(body(SENSIBLE).subarray(0, 55)), -errno.EIO);
  assert.equal(ask(body({ ...SENSIBLE, flags: 1n })), -errno.EINVAL);
  assert.equal(ask(body({ ...SENSIBLE, node: 1n << 60n })), -errno.ESTALE);
  assert.equal(ask(body({ ...SENSIBLE, from: 1n << 62n })), -errno.EFBIG);
  assert.equal(ask(body({ ...SENSIBLE, to: 1n << 62n })), -errno.EFBIG);
  assert.deepEqual(fixture.inodes.copied, []);
});
