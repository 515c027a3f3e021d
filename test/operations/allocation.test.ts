import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { describe, it } from 'node:test';
import { OPCODE } from '../../engine/fuse-protocol.ts';
import { Fixture } from './fixture.ts';

/** struct fuse_fallocate_in. */
function fallocateBody(fields: { offset: bigint; length: bigint; mode: number }): Buffer {
  const body = Buffer.alloc(32);
  body.writeBigUInt64LE(fields.offset, 8);
  body.writeBigUInt64LE(fields.length, 16);
  body.writeUInt32LE(fields.mode, 24);
  return body;
}

function fallocate(fixture: Fixture, offset: bigint, length: bigint, mode: number): number {
  return fixture.send(OPCODE.FALLOCATE, fallocateBody({ offset, length, mode }), { node: 7 })
    .outcome;
}

describe('FALLOCATE', () => {
  it('asks for what the mode means', () => {
    const fixture = new Fixture();
    assert.equal(fallocate(fixture, 5n, 10n, 0), 0);
    assert.equal(fallocate(fixture, 5n, 10n, 1), 0);
    assert.equal(fallocate(fixture, 5n, 10n, 3), 0);
    assert.equal(fallocate(fixture, 5n, 10n, 0x10), 0);
    const range = { offset: 5, length: 10 };
    assert.deepEqual(fixture.inodes.allocated, [
      { ...range, discards: false, keepsSize: false },
      { ...range, discards: false, keepsSize: true },
      { ...range, discards: true, keepsSize: true },
      { ...range, discards: true, keepsSize: false },
    ]);
  });

  it('refuses modes that it does not know, nothing, and what no file can hold', () => {
    const fixture = new Fixture();
    const { EOPNOTSUPP, EINVAL, EFBIG, EIO } = constants.errno;
    assert.equal(fallocate(fixture, 0n, 10n, 2), -EOPNOTSUPP);
    assert.equal(fallocate(fixture, 0n, 10n, 8), -EOPNOTSUPP);
    assert.equal(fallocate(fixture, 0n, 0n, 0), -EINVAL);
    assert.equal(fallocate(fixture, 2n ** 53n, 10n, 0), -EFBIG);
    assert.equal(fixture.send(OPCODE.FALLOCATE, Buffer.alloc(31), { node: 7 }).outcome, -EIO);
    assert.deepEqual(fixture.inodes.allocated, []);
  });
});
