import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import { namespaceNameProblem } from '../../engine/namespace-name.ts';
import { ERRNO } from '../../engine/tree/errno.ts';
import { ROOT_INO, type Tree } from '../../engine/tree/tree.ts';
import { bytes, directory, file, listNames, newFixture, OWNER, ok } from './fixture.ts';

function open(tree: Tree, name: string): number {
  return ok(tree.openNamespace(bytes(name), OWNER)).root;
}

test('the default namespace is the tree that every store has', () => {
  const { tree } = newFixture();
  file(tree, ROOT_INO, 'f');
  assert.equal(open(tree, 'default'), ROOT_INO);
  const names = ok(tree.namespaces()).map(({ name }) => Buffer.from(name).toString());
  assert.deepEqual(names, ['default']);
});

test('a namespace is made once and found again, with a root of its own', () => {
  const { tree, reopen } = newFixture();
  const [a, b] = [open(tree, 'a'), open(tree, 'b')];
  assert.notEqual(a, b);
  assert.equal(open(tree, 'a'), a);
  const inside = file(tree, a, 'f');
  assert.deepEqual([listNames(tree, a), listNames(tree, b)], [['f'], []]);
  assert.deepEqual(listNames(tree, ROOT_INO), []);
  assert.equal(tree.statistics().inodes, 4);
  const again = reopen();
  assert.equal(open(again, 'b'), b);
  assert.equal(ok(again.lookup(a, bytes('f'))).ino, inside);
  const found = ok(again.namespaces());
  assert.deepEqual(
    found.map(({ name, root }) => [Buffer.from(name).toString(), root]),
    [
      ['default', ROOT_INO],
      ['a', a],
      ['b', b],
    ],
  );
});

test('nothing moves or is linked from one namespace to another, however deep', () => {
  const { tree, reopen } = newFixture();
  const [a, b] = [open(tree, 'a'), open(tree, 'b')];
  const deep = directory(tree, directory(tree, a, 'd'), 'e');
  const inside = file(tree, deep, 'f');
  const other = directory(tree, b, 'd');
  file(tree, other, 'f');
  for (const seen of [tree, reopen()]) {
    for (const target of [b, other, ROOT_INO]) {
      assert.equal(seen.rename(deep, bytes('f'), target, bytes('g'), 0), ERRNO.EXDEV);
      assert.equal(seen.link(inside, target, bytes('g')), ERRNO.EXDEV);
      assert.equal(seen.rename(a, bytes('d'), target, bytes('g'), 0), ERRNO.EXDEV);
    }
    assert.equal(seen.rename(deep, bytes('f'), other, bytes('f'), 2), ERRNO.EXDEV);
  }
  const unnamed = ok(tree.createUnnamed(deep, { mode: 0o100644, owner: OWNER })).ino;
  assert.equal(tree.linkUnnamed(unnamed, b, bytes('g')), ERRNO.EXDEV);
  ok(tree.linkUnnamed(unnamed, a, bytes('g')));
  ok(tree.rename(deep, bytes('f'), a, bytes('moved'), 0));
  assert.equal(tree.link(inside, other, bytes('g')), ERRNO.EXDEV);
  ok(tree.link(inside, deep, bytes('again')));
});

test('names that no namespace can have', () => {
  const { tree } = newFixture();
  const bad = ['', '.', '..', '.millrace', 'a/b', 'a\0', 'x'.repeat(256), '\u00e9'.repeat(128)];
  for (const name of bad) {
    assert.equal(typeof namespaceNameProblem(name), 'string', name);
    assert.equal(tree.openNamespace(Buffer.from(name), OWNER), ERRNO.EINVAL);
  }
  assert.equal(tree.openNamespace(Uint8Array.of(0xff, 0xfe), OWNER), ERRNO.EINVAL);
  for (const name of ['a', '...', 'x'.repeat(255), ' ', 'caf\u00e9', 'a\nb']) {
    assert.equal(namespaceNameProblem(name), undefined, name);
    ok(tree.openNamespace(Buffer.from(name), OWNER));
  }
});

test('a root of a namespace that is damaged is told, not made anew', () => {
  const { tree, kv, reopen, damage } = newFixture();
  open(tree, 'a');
  const keys: Uint8Array[] = [];
  kv.read((snapshot) =>
    snapshot.scan(Uint8Array.of(0x6e), Uint8Array.of(0x6f), (key) => keys.push(key.slice()) > 0),
  );
  assert.equal(keys.length, 1);
  kv.transact((transaction) => transaction.put(keys[0], Uint8Array.of(1, 2, 3)));
  assert.equal(reopen().openNamespace(bytes('a'), OWNER), ERRNO.EIO);
  assert.equal(reopen().namespaces(), ERRNO.EIO);
  assert.equal(damage.length, 2);
});
