import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import { ERRNO } from '../../engine/tree/errno.ts';
import { ROOT_INO } from '../../engine/tree/tree.ts';
import { bytes, directory, FILE, file, listNames, newFixture, OWNER, ok } from './fixture.ts';

test('format makes the root once', () => {
  const { tree, reopen } = newFixture();
  const root = ok(tree.getattr(ROOT_INO));
  assert.equal(root.mode, 0o040755);
  assert.equal(root.nlink, 2);
  assert.equal(root.size, 4096);
  directory(tree, ROOT_INO, 'd');
  const again = reopen();
  again.format({ uid: 5, gid: 5 });
  assert.equal(ok(again.getattr(ROOT_INO)).uid, OWNER.uid);
  assert.deepEqual(listNames(again, ROOT_INO), ['d']);
});

test('create answers the new inode, changes the directory, and refuses what it must', () => {
  const { tree, now } = newFixture();
  const made = ok(tree.create(ROOT_INO, bytes('a'), { mode: FILE, owner: OWNER }));
  assert.deepEqual([made.mode, made.nlink, made.size, made.uid], [FILE, 1, 0, OWNER.uid]);
  assert.equal(made.btime.seconds, now());
  assert.equal(ok(tree.getattr(ROOT_INO)).mtime.seconds, now());
  assert.deepEqual(ok(tree.lookup(ROOT_INO, bytes('a'))), made);
  const request = { mode: FILE, owner: OWNER };
  assert.equal(tree.create(ROOT_INO, bytes('a'), request), ERRNO.EEXIST);
  assert.equal(tree.create(made.ino, bytes('b'), request), ERRNO.ENOTDIR);
  assert.equal(tree.create(999, bytes('b'), request), ERRNO.ENOENT);
  assert.equal(tree.create(ROOT_INO, Buffer.alloc(256, 97), request), ERRNO.ENAMETOOLONG);
  assert.equal(tree.create(ROOT_INO, bytes(''), request), ERRNO.ENOENT);
  assert.equal(tree.create(ROOT_INO, bytes('a/b'), request), ERRNO.EINVAL);
  assert.equal(tree.create(ROOT_INO, bytes('d'), { ...request, mode: 0o040755 }), ERRNO.EINVAL);
  ok(tree.create(ROOT_INO, Buffer.alloc(255, 97), request));
  assert.equal(tree.lookup(made.ino, bytes('x')), ERRNO.ENOTDIR);
  assert.equal(tree.lookup(ROOT_INO, bytes('x')), ERRNO.ENOENT);
});

test('devices keep their number, other types have none', () => {
  const { tree } = newFixture();
  for (const [type, expected] of [
    [0o020000, 7],
    [0o060000, 7],
    [0o010000, 0],
    [0o140000, 0],
  ]) {
    const request = { mode: type | 0o600, rdev: 7, owner: OWNER };
    assert.equal(ok(tree.create(ROOT_INO, bytes(`n${type}`), request)).rdev, expected);
  }
});

test('a set-group-id directory hands on its group, and the bit to directories', () => {
  const { tree } = newFixture();
  const parent = directory(tree, ROOT_INO, 'shared');
  ok(tree.setattr(parent, { mode: 0o2775, gid: 77 }));
  const child = ok(tree.create(parent, bytes('f'), { mode: FILE, owner: OWNER }));
  assert.deepEqual([child.gid, child.mode], [77, FILE]);
  const sub = ok(tree.mkdir(parent, bytes('d'), { mode: 0o755, owner: OWNER }));
  assert.deepEqual([sub.gid, sub.mode], [77, 0o042755]);
});

test('names are bytes, and numbers are never given twice', () => {
  const { tree, reopen } = newFixture();
  const raw = Buffer.of(0xff, 0x80, 0x01, 0xfe);
  const first = ok(tree.create(ROOT_INO, raw, { mode: FILE, owner: OWNER })).ino;
  assert.equal(ok(tree.lookup(ROOT_INO, raw)).ino, first);
  ok(tree.unlink(ROOT_INO, raw));
  assert.ok(tree.reclaim(first));
  const later = reopen();
  assert.ok(file(later, ROOT_INO, 'x') > first);
});

test('an aborted batch leaves nothing, and what was cached is forgotten', () => {
  const { tree } = newFixture();
  const before = ok(tree.getattr(ROOT_INO));
  const batch = (): void => {
    tree.transact(() => {
      for (let i = 0; i < 3000; i++) file(tree, ROOT_INO, `f${i}`);
      throw new Error('no');
    });
  };
  assert.throws(batch, /no/);
  assert.deepEqual(ok(tree.getattr(ROOT_INO)), before);
  assert.deepEqual(listNames(tree, ROOT_INO), []);
  assert.equal(tree.statistics().inodes, 1);
  const ino = file(tree, ROOT_INO, 'after');
  assert.equal(ok(tree.lookup(ROOT_INO, bytes('after'))).ino, ino);
});

test('a failed operation in a batch leaves the others in place', () => {
  const { tree, reopen } = newFixture();
  tree.transact(() => {
    file(tree, ROOT_INO, 'a');
    assert.equal(tree.mkdir(ROOT_INO, bytes('a'), { mode: 0o755, owner: OWNER }), ERRNO.EEXIST);
    assert.equal(tree.rename(ROOT_INO, bytes('zz'), ROOT_INO, bytes('a'), 0), ERRNO.ENOENT);
    file(tree, ROOT_INO, 'b');
  });
  const again = reopen();
  assert.deepEqual(listNames(again, ROOT_INO), ['a', 'b']);
  assert.equal(ok(again.getattr(ROOT_INO)).nlink, 2);
});

test('links count, and the last one makes an orphan, readable until reclaimed', () => {
  const { tree } = newFixture();
  const ino = file(tree, ROOT_INO, 'a');
  assert.equal(ok(tree.link(ino, ROOT_INO, bytes('b'))).nlink, 2);
  assert.equal(tree.link(ino, ROOT_INO, bytes('b')), ERRNO.EEXIST);
  assert.equal(tree.link(directory(tree, ROOT_INO, 'd'), ROOT_INO, bytes('e')), ERRNO.EPERM);
  assert.deepEqual(ok(tree.unlink(ROOT_INO, bytes('a'))), { ino, nlink: 1 });
  assert.deepEqual(ok(tree.unlink(ROOT_INO, bytes('b'))), { ino, nlink: 0 });
  assert.equal(ok(tree.getattr(ino)).nlink, 0);
  assert.equal(tree.link(ino, ROOT_INO, bytes('c')), ERRNO.ENOENT);
  const orphans: number[] = [];
  tree.orphans((orphan) => orphans.push(orphan) > 0);
  assert.deepEqual(orphans, [ino]);
  const { inodes } = tree.statistics();
  assert.ok(tree.reclaim(ino));
  assert.equal(tree.getattr(ino), ERRNO.ENOENT);
  assert.equal(tree.statistics().inodes, inodes - 1);
  assert.ok(tree.reclaim(ino));
});

test('reclaim never touches what has a name', () => {
  const { tree } = newFixture();
  const ino = file(tree, ROOT_INO, 'a');
  assert.ok(tree.reclaim(ino));
  assert.equal(ok(tree.getattr(ino)).nlink, 1);
});

test('rmdir takes empty directories only, and nothing can be made in a removed one', () => {
  const { tree } = newFixture();
  const d = directory(tree, ROOT_INO, 'd');
  assert.equal(ok(tree.getattr(ROOT_INO)).nlink, 3);
  file(tree, d, 'f');
  assert.equal(tree.rmdir(ROOT_INO, bytes('d')), ERRNO.ENOTEMPTY);
  assert.equal(tree.rmdir(d, bytes('f')), ERRNO.ENOTDIR);
  assert.equal(tree.unlink(ROOT_INO, bytes('d')), ERRNO.EISDIR);
  ok(tree.unlink(d, bytes('f')));
  assert.deepEqual(ok(tree.rmdir(ROOT_INO, bytes('d'))), { ino: d });
  assert.equal(ok(tree.getattr(ROOT_INO)).nlink, 2);
  assert.equal(ok(tree.getattr(d)).nlink, 0);
  assert.equal(tree.create(d, bytes('g'), { mode: FILE, owner: OWNER }), ERRNO.ENOENT);
});

test('symbolic links keep any target of 1 to 4095 bytes', () => {
  const { tree, reopen } = newFixture();
  const target = Buffer.alloc(4095, 0xfe);
  const made = ok(tree.symlink(ROOT_INO, bytes('l'), target, OWNER));
  assert.deepEqual([made.mode, made.size], [0o120777, 4095]);
  target.fill(0);
  assert.deepEqual(Buffer.from(ok(reopen().readlink(made.ino))), Buffer.alloc(4095, 0xfe));
  assert.equal(tree.symlink(ROOT_INO, bytes('m'), bytes(''), OWNER), ERRNO.ENOENT);
  assert.equal(tree.symlink(ROOT_INO, bytes('m'), Buffer.alloc(4096), OWNER), ERRNO.ENAMETOOLONG);
  assert.equal(tree.readlink(ROOT_INO), ERRNO.EINVAL);
});

test('a listing goes on behind its cookie while names come and go', () => {
  const { tree } = newFixture();
  const count = 500;
  for (let i = 0; i < count; i++) file(tree, ROOT_INO, `stay${i}`);
  const seen = new Map<string, number>();
  let cookie = 0;
  for (let round = 0, more = true; more; round++) {
    more = false;
    let left = 7;
    tree.readdir(ROOT_INO, cookie, (entry) => {
      if (left-- === 0) {
        more = true;
        return false;
      }
      assert.ok(entry.cookie > cookie && entry.cookie >= 3 && Number.isSafeInteger(entry.cookie));
      cookie = entry.cookie;
      const name = Buffer.from(entry.name).toString('latin1');
      seen.set(name, (seen.get(name) ?? 0) + 1);
      return true;
    });
    file(tree, ROOT_INO, `new${round}`);
    if (round > 0) ok(tree.unlink(ROOT_INO, bytes(`new${round - 1}`)));
  }
  for (let i = 0; i < count; i++) assert.equal(seen.get(`stay${i}`), 1);
  assert.equal(
    tree.readdir(ROOT_INO, Number.MAX_SAFE_INTEGER, () => assert.fail()),
    0,
  );
  assert.equal(
    tree.readdir(file(tree, ROOT_INO, 'f'), 0, () => true),
    ERRNO.ENOTDIR,
  );
});

test('a file has 65,000 names at most', () => {
  const { tree } = newFixture();
  const ino = file(tree, ROOT_INO, 'first');
  tree.transact(() => {
    for (let i = 1; i < 65_000; i++) ok(tree.link(ino, ROOT_INO, bytes(`n${i}`)));
  });
  assert.equal(ok(tree.getattr(ino)).nlink, 65_000);
  assert.equal(tree.link(ino, ROOT_INO, bytes('one more')), ERRNO.EMLINK);
  ok(tree.unlink(ROOT_INO, bytes('first')));
  ok(tree.link(ino, ROOT_INO, bytes('one more')));
});
