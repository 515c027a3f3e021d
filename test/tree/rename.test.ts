import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { ERRNO } from '../../engine/tree/errno.ts';
import { RENAME } from '../../engine/tree/rename.ts';
import { ROOT_INO, type Tree } from '../../engine/tree/tree.ts';
import { bytes, directory, file, listNames, newFixture, ok } from './fixture.ts';

let tree: Tree;
let now: () => number;

beforeEach(() => {
  ({ tree, now } = newFixture());
});

function move(from: number, name: string, to: number, newName: string, flags = 0): unknown {
  return tree.rename(from, bytes(name), to, bytes(newName), flags);
}

test('a file replaces a file, which becomes an orphan', () => {
  const a = file(tree, ROOT_INO, 'a');
  const b = file(tree, ROOT_INO, 'b');
  assert.deepEqual(move(ROOT_INO, 'a', ROOT_INO, 'b'), { replaced: b });
  assert.deepEqual(listNames(tree, ROOT_INO), ['b']);
  assert.equal(ok(tree.lookup(ROOT_INO, bytes('b'))).ino, a);
  assert.equal(ok(tree.getattr(b)).nlink, 0);
  assert.equal(ok(tree.getattr(a)).ctime.seconds, now());
});

test('a replaced file that has another name is no orphan', () => {
  file(tree, ROOT_INO, 'a');
  const b = file(tree, ROOT_INO, 'b');
  ok(tree.link(b, ROOT_INO, bytes('c')));
  assert.deepEqual(move(ROOT_INO, 'a', ROOT_INO, 'b'), { replaced: 0 });
  assert.equal(ok(tree.getattr(b)).nlink, 1);
});

test('two names of one file: nothing happens', () => {
  const a = file(tree, ROOT_INO, 'a');
  ok(tree.link(a, ROOT_INO, bytes('b')));
  const before = ok(tree.getattr(a));
  assert.deepEqual(move(ROOT_INO, 'a', ROOT_INO, 'b'), { replaced: 0 });
  assert.deepEqual(listNames(tree, ROOT_INO), ['a', 'b']);
  assert.deepEqual(ok(tree.getattr(a)), before);
  assert.equal(move(ROOT_INO, 'a', ROOT_INO, 'b', RENAME.NOREPLACE), ERRNO.EEXIST);
});

test('directories move with their links', () => {
  const from = directory(tree, ROOT_INO, 'from');
  const to = directory(tree, ROOT_INO, 'to');
  const d = directory(tree, from, 'd');
  assert.deepEqual(move(from, 'd', to, 'e'), { replaced: 0 });
  assert.equal(ok(tree.getattr(from)).nlink, 2);
  assert.equal(ok(tree.getattr(to)).nlink, 3);
  assert.equal(move(to, 'e', d, 'x'), ERRNO.EINVAL);
  const target = directory(tree, ROOT_INO, 'target');
  assert.deepEqual(move(to, 'e', ROOT_INO, 'target'), { replaced: target });
  assert.equal(ok(tree.getattr(ROOT_INO)).nlink, 5);
  assert.equal(ok(tree.getattr(to)).nlink, 2);
  assert.equal(move(ROOT_INO, 'target', d, 'x'), ERRNO.EINVAL);
});

test('a directory cannot go below itself, however deep', () => {
  const top = directory(tree, ROOT_INO, 'top');
  let at = top;
  for (let i = 0; i < 20; i++) at = directory(tree, at, 'd');
  assert.equal(move(ROOT_INO, 'top', at, 'x'), ERRNO.EINVAL);
  assert.equal(move(ROOT_INO, 'top', top, 'x'), ERRNO.EINVAL);
  const other = directory(tree, at, 'other');
  assert.equal(move(at, 'other', ROOT_INO, 'top', RENAME.EXCHANGE), ERRNO.EINVAL);
  assert.equal(move(at, 'other', ROOT_INO, 'top'), ERRNO.ENOTEMPTY);
  assert.deepEqual(move(at, 'other', ROOT_INO, 'out'), { replaced: 0 });
  assert.equal(ok(tree.lookup(ROOT_INO, bytes('out'))).ino, other);
});

test('types and flags that do not fit are refused', () => {
  file(tree, ROOT_INO, 'f');
  const d = directory(tree, ROOT_INO, 'd');
  const full = directory(tree, ROOT_INO, 'full');
  file(tree, full, 'x');
  assert.equal(move(ROOT_INO, 'f', ROOT_INO, 'd'), ERRNO.EISDIR);
  assert.equal(move(ROOT_INO, 'd', ROOT_INO, 'f'), ERRNO.ENOTDIR);
  assert.equal(move(ROOT_INO, 'd', ROOT_INO, 'full'), ERRNO.ENOTEMPTY);
  assert.equal(move(ROOT_INO, 'none', ROOT_INO, 'f'), ERRNO.ENOENT);
  assert.equal(move(ROOT_INO, 'f', ROOT_INO, 'none', RENAME.EXCHANGE), ERRNO.ENOENT);
  for (const flags of [3, 4, 8]) assert.equal(move(ROOT_INO, 'f', d, 'g', flags), ERRNO.EINVAL);
  assert.deepEqual(listNames(tree, ROOT_INO), ['d', 'f', 'full']);
});

test('an exchange trades types, parents and links', () => {
  const left = directory(tree, ROOT_INO, 'left');
  const right = directory(tree, ROOT_INO, 'right');
  const d = directory(tree, left, 'x');
  const f = file(tree, right, 'y');
  assert.deepEqual(move(left, 'x', right, 'y', RENAME.EXCHANGE), { replaced: 0 });
  assert.equal(ok(tree.lookup(right, bytes('y'))).ino, d);
  assert.equal(ok(tree.lookup(left, bytes('x'))).ino, f);
  assert.equal(ok(tree.getattr(left)).nlink, 2);
  assert.equal(ok(tree.getattr(right)).nlink, 3);
  assert.equal(move(ROOT_INO, 'right', d, 'z'), ERRNO.EINVAL);
});
