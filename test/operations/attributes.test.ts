import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { describe, it } from 'node:test';
import { FATTR, OPCODE, ROOT_NODE } from '../../engine/fuse-protocol.ts';
import { PENDING } from '../../workers/tree/operations.ts';
import {
  type Attr,
  attrAt,
  cstring,
  Fixture,
  join,
  NOW,
  nodeOf,
  PAST,
  type SetattrFields,
  setattrBody,
  u64,
  words,
} from './fixture.ts';

const E = constants.errno;

function setattr(fixture: Fixture, node: number, fields: SetattrFields): Attr {
  const { outcome, bytes } = fixture.send(OPCODE.SETATTR, setattrBody(fields), { node });
  assert.equal(outcome, 104);
  return attrAt(bytes, 16);
}

function setattrOutcome(fixture: Fixture, node: number, fields: SetattrFields): number {
  return fixture.send(OPCODE.SETATTR, setattrBody(fields), { node }).outcome;
}

describe('GETATTR', () => {
  it('answers attributes with their validity', () => {
    const fixture = new Fixture(2250);
    const { outcome, bytes } = fixture.send(OPCODE.GETATTR, words(0, 0, 0, 0));
    assert.equal(outcome, 104);
    assert.equal(bytes.readBigUInt64LE(0), 2n);
    assert.equal(bytes.readUInt32LE(8), 250_000_000);
    assert.equal(bytes.readUInt32LE(12), 0);
    const attr = attrAt(bytes, 16);
    assert.equal(attr.ino, ROOT_NODE);
    assert.equal(attr.mode & 0o170000, 0o040000);
  });

  it('is ESTALE for an inode that is gone and for a number that cannot be one', () => {
    const fixture = new Fixture();
    const at = (node: number): number =>
      fixture.send(OPCODE.GETATTR, words(0, 0, 0, 0), { node }).outcome;
    assert.equal(at(12_345), -E.ESTALE);
    assert.equal(at(2 ** 53), -E.ESTALE);
  });
});

describe('SETATTR', () => {
  it('changes mode and owner, and keeps the type', () => {
    const fixture = new Fixture();
    const ino = fixture.file('a');
    const changed = setattr(fixture, ino, { valid: FATTR.MODE, mode: 0o044711 });
    assert.equal(changed.mode, 0o104711);
    const owned = setattr(fixture, ino, {
      valid: FATTR.UID | FATTR.GID,
      uid: 4_294_967_294,
      gid: 6,
    });
    assert.equal(owned.uid, 4_294_967_294);
    assert.equal(owned.gid, 6);
    assert.equal(owned.mode, 0o104711, 'the kernel itself says when privileges go');
    assert.deepEqual(fixture.stat(ino), owned);
  });

  it('sets times to the nanosecond, before the epoch too', () => {
    const fixture = new Fixture();
    const ino = fixture.file('a');
    const attr = setattr(fixture, ino, {
      valid: FATTR.ATIME | FATTR.MTIME,
      atime: [-2, 999_999_999],
      mtime: [8_589_934_591, 1],
    });
    assert.deepEqual(attr.atime, [-2, 999_999_999]);
    assert.deepEqual(attr.mtime, [8_589_934_591, 1]);
  });

  it('keeps the nearest of a time that is further away than the slot of an open inode can tell', () => {
    const fixture = new Fixture();
    const ino = fixture.file('a');
    const valid = FATTR.ATIME | FATTR.MTIME;
    const attr = setattr(fixture, ino, { valid, atime: [2 ** 33, 1], mtime: [-(2 ** 33) - 1, 1] });
    assert.deepEqual(attr.atime, [2 ** 33 - 1, 0]);
    assert.deepEqual(attr.mtime, [-(2 ** 33), 0]);
  });

  it('takes its own clock for UTIME_NOW, and leaves what UTIME_OMIT omits', () => {
    const fixture = new Fixture();
    const ino = fixture.file('a');
    setattr(fixture, ino, { valid: FATTR.ATIME | FATTR.MTIME, atime: [5, 5], mtime: [6, 6] });
    const attr = setattr(fixture, ino, { valid: FATTR.MTIME | FATTR.MTIME_NOW });
    assert.deepEqual(attr.atime, [5, 5]);
    assert.deepEqual(attr.mtime, [NOW.seconds, NOW.nanoseconds]);
    const both = setattr(fixture, ino, {
      valid: FATTR.ATIME | FATTR.ATIME_NOW | FATTR.MTIME,
      mtime: [7, 7],
    });
    assert.deepEqual(both.atime, [NOW.seconds, NOW.nanoseconds]);
    assert.deepEqual(both.mtime, [7, 7]);
  });

  it('refuses times that are none', () => {
    const fixture = new Fixture();
    const ino = fixture.file('a');
    for (const valid of [FATTR.ATIME, FATTR.MTIME]) {
      const time = [1, 1_000_000_000] as const;
      assert.equal(setattrOutcome(fixture, ino, { valid, atime: time, mtime: time }), -E.EINVAL);
    }
  });

  it('moves the mtime of an open inode', () => {
    const fixture = new Fixture();
    const ino = fixture.file('a');
    fixture.send(OPCODE.OPEN, words(1, 0), { node: ino });
    const attr = setattr(fixture, ino, { valid: FATTR.MTIME, mtime: [-77, 3] });
    assert.deepEqual(attr.mtime, [-77, 3]);
    assert.deepEqual(fixture.inodes.slots[0].mtime, { seconds: -77, nanoseconds: 3 });
    assert.notDeepEqual(attr.ctime, [-77, 3]);
  });

  it('kills privileges when asked to, by the rule of the VFS', () => {
    const fixture = new Fixture();
    const ino = fixture.file('a');
    const kill = FATTR.UID | FATTR.KILL_SUIDGID;
    const capability = join(words(1, 0), cstring('security.capability'), Buffer.from('x'));
    assert.equal(fixture.send(OPCODE.SETXATTR, capability, { node: ino }).outcome, 0);
    setattr(fixture, ino, { valid: FATTR.MODE, mode: 0o6755 });
    assert.equal(setattr(fixture, ino, { valid: kill, uid: 1 }).mode, 0o100755);
    const read = join(words(0, 0), cstring('security.capability'));
    assert.equal(fixture.send(OPCODE.GETXATTR, read, { node: ino }).outcome, -E.ENODATA);
    setattr(fixture, ino, { valid: FATTR.MODE, mode: 0o6745 });
    assert.equal(setattr(fixture, ino, { valid: kill, uid: 1 }).mode, 0o102745);
    const directory = fixture.directory('d');
    setattr(fixture, directory, { valid: FATTR.MODE, mode: 0o2755 });
    assert.equal(setattr(fixture, directory, { valid: kill, uid: 1 }).mode, 0o042755);
  });

  it('gives sizes to the open inodes, with the time and all else of the request', () => {
    const fixture = new Fixture();
    const ino = fixture.file('a');
    const attr = setattr(fixture, ino, { valid: FATTR.SIZE, size: 5000 });
    assert.equal(attr.size, 5000);
    assert.equal(attr.blocks, 0, 'a hole');
    assert.deepEqual(attr.mtime, [NOW.seconds, NOW.nanoseconds]);
    const fields = { valid: FATTR.SIZE | FATTR.MTIME | FATTR.MODE, size: 1, mode: 0o600 };
    setattr(fixture, ino, { ...fields, mtime: [3, 4] });
    const last = { mode: 0o100600, size: 1, mtime: { seconds: 3, nanoseconds: 4 } };
    assert.deepEqual(fixture.inodes.resized, [{ size: 5000, mtime: NOW }, last]);
  });

  it('answers the resize of an open inode later', () => {
    const fixture = new Fixture();
    const ino = fixture.file('a');
    fixture.send(OPCODE.OPEN, words(2, 0), { node: ino });
    assert.equal(setattrOutcome(fixture, ino, { valid: FATTR.SIZE, size: 9 }), PENDING);
    assert.deepEqual(fixture.inodes.resizing, [{ slot: 1, ino }]);
    fixture.answer.begin(4096, fixture.buffer.length);
    assert.equal(fixture.operations.answerAttributes(ino, fixture.answer), 104);
    assert.equal(attrAt(fixture.buffer, 4096 + 16).size, 9);
  });

  it('refuses sizes that cannot be', () => {
    const fixture = new Fixture();
    const ino = fixture.file('a');
    const resize = (node: number, size: number | bigint): number =>
      setattrOutcome(fixture, node, { valid: FATTR.SIZE, size });
    assert.equal(resize(ino, 2n ** 53n), -E.EFBIG);
    assert.equal(resize(ROOT_NODE, 0), -E.EISDIR);
    assert.equal(resize(4711, 0), -E.ESTALE);
    const body = setattrBody({ valid: FATTR.SIZE }).subarray(0, 87);
    assert.equal(fixture.send(OPCODE.SETATTR, body, { node: ino }).outcome, -E.EIO);
    assert.deepEqual(fixture.inodes.resized, []);
  });
});

describe('STATX', () => {
  it('answers what GETATTR does, and the time of birth', () => {
    const fixture = new Fixture();
    const made = fixture.send(
      OPCODE.MKNOD,
      join(words(0o060640, (259 << 8) | 0x12 | (0x345 << 20), 0, 0), cstring('device')),
    );
    const node = nodeOf(made);
    setattr(fixture, node, { valid: FATTR.ATIME | FATTR.MTIME, atime: [-1, 7], mtime: [9, 8] });
    const { outcome, bytes } = fixture.send(OPCODE.STATX, words(0, 0, 0, 0, 0, 0xfff), { node });
    assert.equal(outcome, 288);
    const word = (at: number): number => bytes.readUInt32LE(32 + at);
    const time = (at: number): unknown => [
      Number(bytes.readBigInt64LE(32 + at)),
      bytes.readUInt32LE(40 + at),
    ];
    assert.deepEqual([word(0), word(16), bytes.readUInt16LE(60)], [0xfff, 1, 0o060640]);
    assert.equal(Number(bytes.readBigUInt64LE(64)), node);
    assert.deepEqual(
      [time(64), time(112)],
      [
        [-1, 7],
        [9, 8],
      ],
    );
    assert.deepEqual(time(80), [PAST.seconds, PAST.nanoseconds]);
    assert.deepEqual([word(128), word(132)], [259, 0x34512]);
    const gone = fixture.send(OPCODE.STATX, words(0, 0, 0, 0, 0, 0xfff), { node: 4711 });
    assert.equal(gone.outcome, -E.ESTALE);
  });

  it('counts blocks of what is stored or was written, not of holes', () => {
    const fixture = new Fixture();
    const ino = fixture.file('a');
    fixture.send(OPCODE.OPEN, words(2, 0), { node: ino });
    fixture.inodes.slots[0].size = 1_000_000;
    assert.equal(fixture.stat(ino).blocks, 0);
    fixture.inodes.unsettled[0] = 4_096;
    assert.equal(fixture.stat(ino).blocks, 8);
    fixture.inodes.unsettled[0] = 9_000_000;
    assert.equal(fixture.stat(ino).blocks, 1_954);
  });
});

describe('LSEEK', () => {
  it('finds data and holes in what the tree has', () => {
    const fixture = new Fixture();
    const ino = fixture.file('a');
    const inline = { kind: 'inline', bytes: new Uint8Array(100) } as const;
    fixture.tree.applyContent(ino, [inline], { size: 5_000, mtime: NOW });
    const seek = (offset: number, whence: number): number => {
      const body = join(u64(0), u64(offset), words(whence, 0));
      const { outcome, bytes } = fixture.send(OPCODE.LSEEK, body, { node: ino });
      return outcome < 0 ? outcome : Number(bytes.readBigUInt64LE(0));
    };
    assert.deepEqual([seek(0, 3), seek(99, 3), seek(100, 3)], [0, 99, -E.ENXIO]);
    assert.deepEqual([seek(0, 4), seek(4_999, 4), seek(5_000, 4)], [100, 4_999, -E.ENXIO]);
    assert.deepEqual([seek(-1, 3), seek(0, 0)], [-E.ENXIO, -E.EINVAL]);
    assert.equal(fixture.send(OPCODE.LSEEK, u64(0), { node: ino }).outcome, -E.EIO);
  });
});

describe('STATFS', () => {
  it('answers what it was given, large numbers too', () => {
    const { outcome, bytes } = new Fixture().send(OPCODE.STATFS, Buffer.alloc(0));
    assert.equal(outcome, 80);
    const long = [0, 8, 16, 24, 32].map((at) => Number(bytes.readBigUInt64LE(at)));
    assert.deepEqual(long, [2 ** 40 + 1, 5, 4, 1000, 900]);
    const short = [40, 44, 48, 52].map((at) => bytes.readUInt32LE(at));
    assert.deepEqual(short, [1 << 20, 255, 4096, 0]);
    assert.ok(bytes.subarray(52).every((byte) => byte === 0));
  });
});
