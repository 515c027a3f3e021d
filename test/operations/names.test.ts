import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { describe, it } from 'node:test';
import { OPCODE, ROOT_NODE } from '../../engine/fuse-protocol.ts';
import { cstring, entryAttr, Fixture, join, nodeOf, u64, words } from './fixture.ts';

const E = constants.errno;

function lookup(fixture: Fixture, name: string, node: number = ROOT_NODE): number {
  const { outcome, bytes } = fixture.send(OPCODE.LOOKUP, cstring(name), { node });
  return outcome < 0 ? outcome : Number(bytes.readBigUInt64LE(0));
}

function rename(fixture: Fixture, from: string, to: string, directory: number = ROOT_NODE): number {
  const body = join(u64(directory), cstring(from), cstring(to));
  return fixture.send(OPCODE.RENAME, body).outcome;
}

function rename2(fixture: Fixture, from: string, to: string, flags: number): number {
  const body = join(u64(ROOT_NODE), words(flags, 0), cstring(from), cstring(to));
  return fixture.send(OPCODE.RENAME2, body).outcome;
}

describe('LOOKUP', () => {
  it('answers the whole entry with its validity', () => {
    const fixture = new Fixture(1500);
    const ino = fixture.file('a');
    const { outcome, bytes } = fixture.send(OPCODE.LOOKUP, cstring('a'));
    assert.equal(outcome, 128);
    assert.equal(Number(bytes.readBigUInt64LE(0)), ino);
    assert.equal(bytes.readBigUInt64LE(8), 0n, 'generation');
    assert.equal(bytes.readBigUInt64LE(16), 1n, 'entry_valid');
    assert.equal(bytes.readBigUInt64LE(24), 1n, 'attr_valid');
    assert.equal(bytes.readUInt32LE(32), 500_000_000);
    assert.equal(bytes.readUInt32LE(36), 500_000_000);
    const attr = entryAttr({ outcome, bytes });
    assert.equal(attr.ino, ino);
    assert.equal(attr.mode, 0o100644);
    assert.equal(attr.nlink, 1);
    assert.equal(attr.uid, 1000);
    assert.equal(attr.gid, 100);
    assert.equal(attr.blksize, 1 << 20);
    assert.equal(attr.flags, 0);
  });

  it('lets the kernel remember a miss when there is a ttl', () => {
    const { outcome, bytes } = new Fixture(1500).send(OPCODE.LOOKUP, cstring('no'));
    assert.equal(outcome, 128);
    assert.equal(bytes.readBigUInt64LE(0), 0n);
    assert.equal(bytes.readBigUInt64LE(16), 1n);
    assert.equal(bytes.readUInt32LE(32), 500_000_000);
    assert.ok(bytes.subarray(40).every((byte) => byte === 0));
    assert.equal(lookup(new Fixture(0), 'no'), -E.ENOENT);
  });

  it('does not let it remember names of a directory that is gone', () => {
    const fixture = new Fixture(1500);
    assert.equal(lookup(fixture, 'a', 4711), -E.ESTALE);
  });

  it('shows size, mtime and ctime of the open inode', () => {
    const fixture = new Fixture();
    const ino = fixture.file('a');
    fixture.send(OPCODE.OPEN, words(1, 0), { node: ino });
    const written = { seconds: 4_000_000_000, nanoseconds: 5 };
    Object.assign(fixture.inodes.slots[0], { size: 2 ** 40 + 1, mtime: written });
    fixture.inodes.unsettled[0] = 2 ** 40 + 1;
    const attr = entryAttr(fixture.send(OPCODE.LOOKUP, cstring('a')));
    assert.equal(attr.size, 2 ** 40 + 1);
    assert.equal(attr.blocks, 2 ** 31 + 1);
    assert.deepEqual(attr.mtime, [4_000_000_000, 5]);
    assert.deepEqual(attr.ctime, [4_000_000_000, 5]);
    const stored = fixture.tree.getattr(ino);
    assert.ok(typeof stored !== 'number' && stored.size === 0, "the tree's own stays");
  });

  it('refuses what is no name', () => {
    const fixture = new Fixture();
    const refused: [string, number][] = [
      ['', E.ENOENT],
      ['a/b', E.EINVAL],
      ['.', E.EINVAL],
      ['..', E.EINVAL],
      ['n'.repeat(256), E.ENAMETOOLONG],
    ];
    for (const [name, errno] of refused) assert.equal(lookup(fixture, name), -errno, name);
    assert.equal(fixture.send(OPCODE.LOOKUP, Buffer.from('a')).outcome, -E.EINVAL);
    assert.equal(fixture.send(OPCODE.LOOKUP, Buffer.alloc(0)).outcome, -E.EINVAL);
  });

  it('takes names that only look like dots, and the longest one', () => {
    const fixture = new Fixture();
    for (const name of ['...', '.a', '..a', 'n'.repeat(255), 'ü']) {
      assert.equal(lookup(fixture, name), 0, name);
      const ino = fixture.file(name);
      assert.equal(lookup(fixture, name), ino, name);
    }
  });

  it('is ESTALE in a directory that is gone, as every other operation on names is', () => {
    const fixture = new Fixture(0);
    const node = fixture.directory('d');
    fixture.tree.rmdir(ROOT_NODE, Buffer.from('d'));
    assert.equal(lookup(fixture, 'a', node), -E.ENOENT, 'an orphan is still there');
    fixture.tree.reclaim(node);
    assert.equal(lookup(fixture, 'a', node), -E.ESTALE);
    for (const opcode of [OPCODE.UNLINK, OPCODE.RMDIR]) {
      assert.equal(fixture.send(opcode, cstring('a'), { node }).outcome, -E.ESTALE);
    }
    const made = fixture.send(OPCODE.MKDIR, join(words(0o755, 0), cstring('a')), { node });
    assert.equal(made.outcome, -E.ESTALE);
  });

  it('is ENOTDIR in a file', () => {
    const fixture = new Fixture();
    assert.equal(lookup(fixture, 'a', fixture.file('f')), -E.ENOTDIR);
  });
});

describe('MKNOD, MKDIR, SYMLINK, READLINK', () => {
  it('makes each kind of node with mode, owner and device', () => {
    const fixture = new Fixture();
    for (const type of [0o100000, 0o010000, 0o140000, 0o020000, 0o060000]) {
      const body = join(words(type | 0o4751, 0x0803, 0o22, 0), cstring(`n${type}`));
      const attr = entryAttr(fixture.send(OPCODE.MKNOD, body, { uid: 7, gid: 8 }));
      assert.equal(attr.mode, type | 0o4751);
      assert.equal(attr.uid, 7);
      assert.equal(attr.gid, 8);
      if (type === 0o020000 || type === 0o060000) assert.equal(attr.rdev, 0x0803);
    }
    const plain = join(words(0o600, 0, 0, 0), cstring('plain'));
    assert.equal(entryAttr(fixture.send(OPCODE.MKNOD, plain)).mode, 0o100600);
  });

  it('makes no directory or link by MKNOD', () => {
    const fixture = new Fixture();
    for (const type of [0o040000, 0o120000, 0o170000]) {
      const body = join(words(type | 0o644, 0, 0, 0), cstring('n'));
      assert.equal(fixture.send(OPCODE.MKNOD, body).outcome, -E.EINVAL);
    }
  });

  it('makes directories, which count as a link of their parent', () => {
    const fixture = new Fixture();
    const before = fixture.stat(ROOT_NODE).nlink;
    const attr = entryAttr(fixture.send(OPCODE.MKDIR, join(words(0o1750, 0), cstring('d'))));
    assert.equal(attr.mode, 0o041750);
    assert.equal(attr.nlink, 2);
    assert.equal(attr.blksize, 4096);
    assert.equal(fixture.stat(ROOT_NODE).nlink, before + 1);
    const again = fixture.send(OPCODE.MKDIR, join(words(0o755, 0), cstring('d')));
    assert.equal(again.outcome, -E.EEXIST);
  });

  it('gives the group of a set-group-id directory to what is made in it', () => {
    const fixture = new Fixture();
    const shared = join(words(0o2775, 0), cstring('shared'));
    const node = nodeOf(fixture.send(OPCODE.MKDIR, shared, { gid: 555 }));
    const file = join(words(0o100644, 0, 0, 0), cstring('f'));
    assert.equal(entryAttr(fixture.send(OPCODE.MKNOD, file, { node, gid: 1 })).gid, 555);
    const link = join(cstring('l'), cstring('t'));
    assert.equal(entryAttr(fixture.send(OPCODE.SYMLINK, link, { node, gid: 1 })).gid, 555);
    const inner = join(words(0o755, 0), cstring('d'));
    const directory = entryAttr(fixture.send(OPCODE.MKDIR, inner, { node, gid: 1 }));
    assert.equal(directory.gid, 555);
    assert.equal(directory.mode, 0o042755);
  });

  it('keeps the bytes of a link target', () => {
    const fixture = new Fixture();
    const target = join(Buffer.from([0xff, 0xfe]), Buffer.from('/../x'));
    const made = fixture.send(OPCODE.SYMLINK, join(cstring('l'), target, Buffer.alloc(1)));
    assert.equal(entryAttr(made).mode, 0o120777);
    assert.equal(entryAttr(made).size, target.length);
    const read = fixture.send(OPCODE.READLINK, Buffer.alloc(0), { node: nodeOf(made) });
    assert.deepEqual(read.bytes, target);
    const plain = fixture.send(OPCODE.READLINK, Buffer.alloc(0), { node: fixture.file('f') });
    assert.equal(plain.outcome, -E.EINVAL);
  });

  it('refuses targets that are empty, too long or cut off', () => {
    const fixture = new Fixture();
    const send = (body: Buffer): number => fixture.send(OPCODE.SYMLINK, body).outcome;
    assert.equal(send(join(cstring('l'), cstring(''))), -E.ENOENT);
    assert.equal(send(join(cstring('l'), cstring('t'.repeat(4096)))), -E.ENAMETOOLONG);
    assert.equal(send(join(cstring('l'), Buffer.from('t'))), -E.EINVAL);
    assert.equal(send(cstring('l')), -E.EINVAL);
    assert.equal(send(join(cstring('l'), cstring('t'.repeat(4095)))), 128);
  });

  it('refuses bodies that are too short', () => {
    const fixture = new Fixture();
    assert.equal(fixture.send(OPCODE.MKNOD, words(0o100644, 0, 0)).outcome, -E.EIO);
    assert.equal(fixture.send(OPCODE.MKDIR, words(0o755)).outcome, -E.EIO);
  });
});

describe('LINK and UNLINK', () => {
  it('counts the links and reports the last one', () => {
    const fixture = new Fixture();
    const ino = fixture.file('a');
    const directory = fixture.directory('d');
    const body = join(u64(ino), cstring('b'));
    const linked = fixture.send(OPCODE.LINK, body, { node: directory });
    assert.equal(nodeOf(linked), ino);
    assert.equal(entryAttr(linked).nlink, 2);
    assert.equal(fixture.send(OPCODE.UNLINK, cstring('a')).outcome, 0);
    assert.deepEqual(fixture.inodes.gone, []);
    assert.equal(fixture.stat(ino).nlink, 1);
    assert.equal(fixture.send(OPCODE.UNLINK, cstring('b'), { node: directory }).outcome, 0);
    assert.deepEqual(fixture.inodes.gone, [ino]);
    assert.equal(fixture.stat(ino).nlink, 0, 'somebody may hold it still');
    fixture.inodes.forgotten(ino);
    assert.equal(fixture.send(OPCODE.GETATTR, words(0, 0, 0, 0), { node: ino }).outcome, -E.ESTALE);
  });

  it('fails as link(2) and unlink(2) do', () => {
    const fixture = new Fixture();
    const directory = fixture.directory('d');
    const ino = fixture.file('a');
    const link = (from: number | bigint, name: string): number =>
      fixture.send(OPCODE.LINK, join(u64(from), cstring(name))).outcome;
    assert.equal(link(directory, 'x'), -E.EPERM);
    assert.equal(link(ino, 'd'), -E.EEXIST);
    assert.equal(link(99_999, 'x'), -E.ESTALE);
    assert.equal(link(2n ** 60n, 'x'), -E.ESTALE);
    assert.equal(fixture.send(OPCODE.LINK, u64(ino).subarray(1)).outcome, -E.EIO);
    assert.equal(fixture.send(OPCODE.UNLINK, cstring('d')).outcome, -E.EISDIR);
    assert.equal(fixture.send(OPCODE.UNLINK, cstring('x')).outcome, -E.ENOENT);
  });
});

describe('RMDIR', () => {
  it('removes only what is an empty directory', () => {
    const fixture = new Fixture();
    const directory = fixture.directory('d');
    fixture.file('f', directory);
    assert.equal(fixture.send(OPCODE.RMDIR, cstring('d')).outcome, -E.ENOTEMPTY);
    assert.equal(fixture.send(OPCODE.RMDIR, cstring('f'), { node: directory }).outcome, -E.ENOTDIR);
    assert.equal(fixture.send(OPCODE.UNLINK, cstring('f'), { node: directory }).outcome, 0);
    assert.equal(fixture.send(OPCODE.RMDIR, cstring('d')).outcome, 0);
    assert.ok(fixture.inodes.gone.includes(directory));
    assert.equal(lookup(fixture, 'd'), 0);
    assert.equal(fixture.send(OPCODE.RMDIR, cstring('')).outcome, -E.ENOENT);
  });
});

describe('RENAME and RENAME2', () => {
  it('moves a name into another directory', () => {
    const fixture = new Fixture();
    const directory = fixture.directory('d');
    const ino = fixture.file('a');
    assert.equal(rename(fixture, 'a', 'b', directory), 0);
    assert.equal(lookup(fixture, 'a'), 0);
    assert.equal(lookup(fixture, 'b', directory), ino);
    assert.deepEqual(fixture.inodes.gone, []);
  });

  it('reports what it replaced once no name is left', () => {
    const fixture = new Fixture();
    const [a, b] = [fixture.file('a'), fixture.file('b')];
    assert.equal(rename(fixture, 'a', 'b'), 0);
    assert.equal(lookup(fixture, 'b'), a);
    assert.deepEqual(fixture.inodes.gone, [b]);
  });

  it('keeps a replaced inode that has another name', () => {
    const fixture = new Fixture();
    fixture.file('a');
    const b = fixture.file('b');
    assert.equal(fixture.send(OPCODE.LINK, join(u64(b), cstring('c'))).outcome, 128);
    assert.equal(rename(fixture, 'a', 'b'), 0);
    assert.deepEqual(fixture.inodes.gone, []);
    assert.equal(fixture.stat(b).nlink, 1);
  });

  it('keeps a replaced inode that is open', () => {
    const fixture = new Fixture();
    fixture.file('a');
    const b = fixture.file('b');
    fixture.send(OPCODE.OPEN, words(0, 0), { node: b });
    assert.equal(rename(fixture, 'a', 'b'), 0);
    assert.deepEqual(fixture.inodes.gone, [b]);
    assert.equal(fixture.stat(b).nlink, 0);
  });

  it('exchanges and refuses to replace', () => {
    const fixture = new Fixture();
    const [a, b] = [fixture.file('a'), fixture.file('b')];
    assert.equal(rename2(fixture, 'a', 'b', 1), -E.EEXIST);
    assert.equal(rename2(fixture, 'a', 'b', 2), 0);
    assert.equal(lookup(fixture, 'a'), b);
    assert.equal(lookup(fixture, 'b'), a);
    assert.equal(rename2(fixture, 'a', 'c', 2), -E.ENOENT);
    assert.equal(rename2(fixture, 'a', 'c', 1), 0);
    assert.equal(lookup(fixture, 'c'), b);
    assert.equal(rename2(fixture, 'b', 'd', 0), 0);
    for (const flags of [3, 4, 8]) assert.equal(rename2(fixture, 'c', 'd', flags), -E.EINVAL);
    assert.deepEqual(fixture.inodes.gone, []);
  });

  it('refuses damaged bodies', () => {
    const fixture = new Fixture();
    fixture.file('a');
    const send = (opcode: number, body: Buffer): number => fixture.send(opcode, body).outcome;
    assert.equal(send(OPCODE.RENAME, words(1)), -E.EIO);
    assert.equal(send(OPCODE.RENAME2, u64(1)), -E.EIO);
    assert.equal(send(OPCODE.RENAME, join(u64(1), cstring('a'))), -E.EINVAL);
    assert.equal(send(OPCODE.RENAME, join(u64(1), cstring('a'), cstring('x/y'))), -E.EINVAL);
    const beyond = join(u64(2n ** 63n), cstring('a'), cstring('b'));
    assert.equal(send(OPCODE.RENAME, beyond), -E.ESTALE);
  });
});
