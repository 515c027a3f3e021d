import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { beforeEach, test } from 'node:test';
import { MemoryKv } from '../../engine/kv/memory-kv.ts';
import { ERRNO } from '../../engine/tree/errno.ts';
import { ROOT_INO, type Tree } from '../../engine/tree/tree.ts';
import { XATTR } from '../../engine/tree/xattrs.ts';
import { bytes, directory, FILE, type Fixture, file, newFixture, ok, T0 } from './fixture.ts';

let fixture: Fixture;
let tree: Tree;
let ino: number;

beforeEach(() => {
  fixture = newFixture();
  tree = fixture.tree;
  ino = file(tree, ROOT_INO, 'f');
});

test('setattr changes what it is given and the change time', () => {
  const before = ok(tree.getattr(ino));
  const changed = ok(tree.setattr(ino, { mode: 0o104755, uid: 3 }));
  assert.deepEqual(changed, {
    ...before,
    mode: 0o104755,
    uid: 3,
    ctime: { seconds: fixture.now(), nanoseconds: 5 },
  });
  const times = { atime: { seconds: -5, nanoseconds: 999_999_999 }, mtime: T0, ctime: T0 };
  const timed = ok(tree.setattr(ino, times));
  assert.deepEqual([timed.atime, timed.mtime, timed.ctime], [times.atime, T0, T0]);
  assert.deepEqual(ok(fixture.reopen().getattr(ino)), timed);
});

test('chmod cannot change the type, truncation is for files', () => {
  assert.equal(ok(tree.setattr(ino, { mode: 0o040700 })).mode, (FILE & 0o170000) | 0o700);
  assert.equal(tree.setattr(ROOT_INO, { size: 0 }), ERRNO.EISDIR);
  const link = ok(tree.symlink(ROOT_INO, bytes('l'), bytes('t'), { uid: 0, gid: 0 })).ino;
  assert.equal(tree.setattr(link, { size: 0 }), ERRNO.EINVAL);
  assert.equal(tree.setattr(999, { mode: 0 }), ERRNO.ENOENT);
});

test('a new size sets the modification time', () => {
  const grown = ok(tree.setattr(ino, { size: 12 }));
  assert.deepEqual([grown.size, grown.mtime.seconds], [12, fixture.now()]);
  assert.deepEqual(ok(tree.setattr(ino, { size: 3, mtime: T0 })).mtime, T0);
});

test('extended attributes: set, replace, list, remove', () => {
  const name = bytes('user.a');
  assert.equal(tree.setxattr(ino, name, bytes('1'), XATTR.REPLACE), ERRNO.ENODATA);
  assert.equal(tree.setxattr(ino, name, bytes('1'), XATTR.CREATE), 0);
  assert.equal(tree.setxattr(ino, name, bytes('2'), XATTR.CREATE), ERRNO.EEXIST);
  assert.equal(tree.setxattr(ino, name, bytes('3'), XATTR.REPLACE), 0);
  assert.equal(tree.setxattr(ino, bytes('user.b'), bytes(''), 0), 0);
  assert.equal(ok(tree.getattr(ino)).ctime.seconds, fixture.now());
  const again = fixture.reopen();
  assert.equal(Buffer.from(ok(again.getxattr(ino, name))).toString(), '3');
  assert.equal(ok(again.getxattr(ino, bytes('user.b'))).length, 0);
  const listed = Buffer.from(ok(again.listxattr(ino)))
    .toString()
    .split('\0');
  assert.deepEqual(listed.sort(), ['', 'user.a', 'user.b']);
  assert.equal(tree.removexattr(ino, name), 0);
  assert.equal(tree.removexattr(ino, name), ERRNO.ENODATA);
  assert.equal(tree.getxattr(ino, name), ERRNO.ENODATA);
});

test('extended attributes keep to the bounds of Linux', () => {
  assert.equal(tree.setxattr(ino, bytes('user.a'), Buffer.alloc(65_536), 0), 0);
  assert.equal(tree.setxattr(ino, bytes('user.b'), Buffer.alloc(65_537), 0), ERRNO.E2BIG);
  assert.equal(tree.setxattr(ino, Buffer.alloc(256, 97), bytes(''), 0), ERRNO.ERANGE);
  assert.equal(tree.setxattr(ino, bytes(''), bytes(''), 0), ERRNO.ERANGE);
  assert.equal(tree.setxattr(ino, bytes('user.c'), bytes(''), 3), ERRNO.EINVAL);
  assert.equal(tree.setxattr(999, bytes('user.c'), bytes(''), 0), ERRNO.ENOENT);
  const acl = bytes('system.posix_acl_access');
  assert.equal(tree.setxattr(ino, acl, bytes(''), 0), ERRNO.EOPNOTSUPP);
  assert.equal(tree.getxattr(ino, acl), ERRNO.EOPNOTSUPP);
  assert.equal(tree.setxattr(ino, bytes('system.posix'), bytes(''), 0), 0);
  const nameOf = (index: number): Buffer => Buffer.alloc(255, String(index).padStart(4, '.'));
  let errno = 0;
  let count = 0;
  tree.transact(() => {
    for (; errno === 0 && count < 400; count++) {
      errno = tree.setxattr(ino, nameOf(count), bytes(''), 0);
    }
  });
  assert.equal(errno, ERRNO.ENOSPC);
  assert.ok(ok(tree.listxattr(ino)).length <= 65_536);
});

test('the number of inodes survives a restart once it is saved', () => {
  directory(tree, ROOT_INO, 'd');
  assert.deepEqual(tree.statistics(), { inodes: 3 });
  tree.saveCounters();
  assert.deepEqual(fixture.reopen().statistics(), { inodes: 3 });
});

test('a value that was swapped, cut or changed is EIO and is reported', () => {
  const { kv, sealer, damage } = fixture;
  const other = file(tree, ROOT_INO, 'g');
  const keyOf = (number: number): Buffer => {
    const key = Buffer.alloc(9, 0);
    key[0] = 0x69;
    key.writeUInt32BE(number, 5);
    return key;
  };
  const storedAt = (number: number): Buffer =>
    kv.read((snapshot) => Buffer.from(snapshot.get(keyOf(number)) ?? []));
  const good = storedAt(ino);
  const flipped = Buffer.from(good);
  flipped[20] ^= 1;
  const foreign = Buffer.from(sealer.seal(keyOf(ino), Buffer.from([0x91, 9])));
  const nonsense = Buffer.from(sealer.seal(keyOf(ino), Buffer.from([0xc1, 0xdc])));
  for (const bad of [storedAt(other), flipped, good.subarray(0, 10), foreign, nonsense]) {
    kv.transact((transaction) => transaction.put(keyOf(ino), bad));
    damage.length = 0;
    const fresh = fixture.reopen();
    assert.equal(fresh.getattr(ino), ERRNO.EIO);
    assert.equal(fresh.lookup(ROOT_INO, bytes('f')), ERRNO.EIO);
    assert.equal(fresh.unlink(ROOT_INO, bytes('f')), ERRNO.EIO);
    assert.ok(damage.length >= 3 && damage.every((text) => text.startsWith('value of key i:')));
  }
  kv.transact((transaction) => transaction.put(keyOf(ino), good));
  assert.equal(ok(fixture.reopen().getattr(ino)).mode, FILE);
});

test('a store without counters refuses to make inodes', () => {
  const { kv } = fixture;
  kv.transact((transaction) => transaction.remove(Uint8Array.of(0x73)));
  const fresh = fixture.reopen();
  const request = { mode: FILE, owner: { uid: 0, gid: 0 } };
  assert.equal(fresh.create(ROOT_INO, bytes('x'), request), ERRNO.EIO);
  assert.equal(fresh.lookup(ROOT_INO, bytes('x')), ERRNO.ENOENT);
});

test('nothing of a name, a target or an attribute is stored in the clear', () => {
  const kv = new MemoryKv();
  const { tree: sealed } = newFixture(kv);
  const secret = 'very-secret-name';
  const secretIno = file(sealed, ROOT_INO, secret);
  ok(sealed.symlink(ROOT_INO, bytes(`${secret}-link`), bytes(secret), { uid: 0, gid: 0 }));
  sealed.setxattr(secretIno, bytes(`user.${secret}`), bytes(secret), 0);
  sealed.applyContent(secretIno, [{ kind: 'inline', bytes: bytes(secret) }], {
    size: 16,
    mtime: T0,
  });
  kv.scan(Uint8Array.of(0), Uint8Array.of(255), (key, value) => {
    assert.ok(!Buffer.from(key).includes(secret) && !Buffer.from(value).includes(secret));
    return true;
  });
});
