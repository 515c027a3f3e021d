import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { beforeEach, test } from 'node:test';
import type { Kv } from '../../engine/kv/kv.ts';
import { REGION_BYTES } from '../../engine/layout.ts';
import { REGION_EXTENTS_MAX } from '../../engine/limits.ts';
import { ERRNO } from '../../engine/tree/errno.ts';
import { KeyMaker } from '../../engine/tree/keys.ts';
import { ROOT_INO, type Tree } from '../../engine/tree/tree.ts';
import type { ContentChange, Extent } from '../../engine/tree/types.ts';
import { bytes, directory, extent, file, newFixture, ok, T0 } from './fixture.ts';

let tree: Tree;
let ino: number;
let reopen: () => Tree;

beforeEach(() => {
  ({ tree, reopen } = newFixture());
  ino = file(tree, ROOT_INO, 'f');
});

function apply(size: number, ...changes: ContentChange[]): unknown {
  return tree.applyContent(ino, changes, { size, mtime: T0 });
}

function put(added: Extent): ContentChange {
  return { kind: 'extent', extent: added };
}

function discard(offset: number, length: number): ContentChange {
  return { kind: 'discard', offset, length };
}

function inline(text: string): ContentChange {
  return { kind: 'inline', bytes: bytes(text) };
}

function extents(index: number): Extent[] {
  const content = ok(reopen().region(ino, index));
  assert.ok('extents' in content);
  return content.extents;
}

function inlineText(): string {
  const content = ok(reopen().region(ino, 0));
  assert.ok('inline' in content);
  return Buffer.from(content.inline).toString('latin1');
}

/** All keys of a store. */
function keysOf(kv: Kv): string[] {
  const keys: string[] = [];
  kv.read((snapshot) =>
    snapshot.scan(Uint8Array.of(0), Uint8Array.of(0xff), (key) => {
      keys.push(Buffer.from(key).toString('hex'));
      return true;
    }),
  );
  return keys;
}

test('extents of several regions are kept by region, with size and time', () => {
  const far = 70_000 * REGION_BYTES;
  assert.ok(
    typeof apply(far + 100, put(extent(0, 50, 1)), put(extent(far, 100, 2, 9))) === 'object',
  );
  const attributes = ok(reopen().getattr(ino));
  assert.equal(attributes.size, far + 100);
  assert.deepEqual(attributes.mtime, T0);
  assert.deepEqual(extents(0), [extent(0, 50, 1)]);
  assert.deepEqual(extents(70_000), [extent(far, 100, 2, 9)]);
  assert.deepEqual(extents(1), []);
});

test('a discard trims at both ends and drops whole regions between', () => {
  const all = [0, 1, 2, 3, 4].map((i) => put(extent(i * REGION_BYTES, REGION_BYTES, i + 1)));
  apply(5 * REGION_BYTES, ...all);
  apply(5 * REGION_BYTES, discard(REGION_BYTES + 10, 2 * REGION_BYTES));
  assert.deepEqual(extents(0).length, 1);
  assert.deepEqual(extents(1), [extent(REGION_BYTES, 10, 2)]);
  assert.deepEqual(extents(2), []);
  const rest = extent(3 * REGION_BYTES + 10, REGION_BYTES - 10, 4, 10);
  assert.deepEqual(extents(3), [rest]);
  apply(7, discard(7, Infinity));
  assert.deepEqual(
    [0, 1, 2, 3, 4].map((i) => extents(i).length),
    [1, 0, 0, 0, 0],
  );
});

test('changes count in their order, in one call too', () => {
  apply(9, put(extent(0, 9, 1)), discard(0, Infinity), put(extent(4, 5, 2)));
  assert.deepEqual(extents(0), [extent(4, 5, 2)]);
  apply(9, discard(0, REGION_BYTES), put(extent(0, 2, 3)));
  assert.deepEqual(extents(0), [extent(0, 2, 3)]);
});

test('inline bytes replace region 0 and extents replace inline bytes', () => {
  apply(5, inline('hello'));
  assert.equal(inlineText(), 'hello');
  apply(3, discard(3, Infinity));
  assert.equal(inlineText(), 'hel');
  apply(3, discard(1, 1));
  assert.equal(inlineText(), 'h\0l');
  apply(100, put(extent(0, 100, 1)));
  assert.deepEqual(extents(0), [extent(0, 100, 1)]);
  apply(2, inline('hi'));
  assert.equal(inlineText(), 'hi');
  apply(2, discard(0, Infinity));
  assert.deepEqual(extents(0), []);
});

test('an extent beside inline bytes is refused, beside zeros it is not', () => {
  apply(5, inline('hello'));
  assert.equal(apply(200, put(extent(4, 100, 1))), ERRNO.EINVAL);
  assert.equal(inlineText(), 'hello');
  assert.equal(ok(tree.getattr(ino)).size, 5);
  apply(200, discard(0, 4), put(extent(4, 100, 1)));
  assert.deepEqual(extents(0), [extent(4, 100, 1)]);
});

test('nonsense is refused and changes nothing', () => {
  apply(10, put(extent(0, 10, 1)));
  const crossing = extent(REGION_BYTES - 1, 2, 2);
  assert.equal(apply(20, put(extent(5, 5, 9)), put(crossing)), ERRNO.EINVAL);
  assert.equal(apply(20, { kind: 'inline', bytes: Buffer.alloc(4097) }), ERRNO.EINVAL);
  assert.equal(apply(20, discard(-1, 5)), ERRNO.EINVAL);
  assert.equal(apply(-1), ERRNO.EINVAL);
  assert.deepEqual(extents(0), [extent(0, 10, 1)]);
  const d = directory(tree, ROOT_INO, 'd');
  assert.equal(tree.applyContent(d, [], { size: 0, mtime: T0 }), ERRNO.EISDIR);
  assert.equal(tree.region(d, 0), ERRNO.EISDIR);
});

test('bytes that were handed in may be reused', () => {
  const content = bytes('first');
  tree.applyContent(ino, [{ kind: 'inline', bytes: content }], { size: 5, mtime: T0 });
  content.fill(0);
  assert.equal(inlineText(), 'first');
});

test('setattr to a smaller size forgets the content behind it', () => {
  apply(2 * REGION_BYTES, put(extent(0, 100, 1)), put(extent(REGION_BYTES, 100, 2)));
  assert.equal(ok(tree.setattr(ino, { size: 40 })).size, 40);
  ok(tree.setattr(ino, { size: 2 * REGION_BYTES }));
  assert.deepEqual(extents(0), [extent(0, 40, 1)]);
  assert.deepEqual(extents(1), []);
});

test('a huge orphan is reclaimed in bounded steps', () => {
  const changes: ContentChange[] = [];
  for (let i = 0; i < 700; i++) changes.push(put(extent(i * REGION_BYTES, 10, 1)));
  apply(700 * REGION_BYTES, ...changes);
  tree.setxattr(ino, bytes('user.a'), bytes('b'), 0);
  ok(tree.unlink(ROOT_INO, bytes('f')));
  let steps = 1;
  while (!tree.reclaim(ino)) steps++;
  assert.equal(steps, 3);
  assert.equal(tree.getattr(ino), ERRNO.ENOENT);
});

test('nothing of an orphan is left behind when it is reclaimed, whatever it held', () => {
  const { tree: other, kv } = newFixture();
  const parent = directory(other, ROOT_INO, 'd');
  const kinds: ((held: number) => void)[] = [
    () => {},
    (held) => update(held, 4, inline('text')),
    (held) => update(held, REGION_BYTES, put(extent(REGION_BYTES - 10, 10, 1))),
    (held) => update(held, REGION_BYTES + 1, put(extent(REGION_BYTES, 1, 2))),
    (held) => ok(other.setattr(held, { size: REGION_BYTES })),
    (held) => {
      update(
        held,
        REGION_BYTES + 1,
        put(extent(0, REGION_BYTES, 1)),
        put(extent(REGION_BYTES, 1, 2)),
      );
      ok(other.setattr(held, { size: 5 }));
    },
    (held) => assert.equal(other.setxattr(held, bytes('user.a'), bytes('b'), 0), 0),
  ];
  const update = (held: number, size: number, ...changes: ContentChange[]): unknown =>
    ok(other.applyContent(held, changes, { size, mtime: T0 }));
  for (const [at, fill] of kinds.entries()) {
    const before = keysOf(kv);
    const held = file(other, parent, 'f');
    fill(held);
    assert.notDeepEqual(keysOf(kv), before);
    ok(other.unlink(parent, bytes('f')));
    assert.ok(other.reclaim(held));
    assert.deepEqual(keysOf(kv), before, `kind ${at}`);
  }
});

test('what is missing of a file without holes is EIO, not zeros', () => {
  const fixture = newFixture();
  const keys = new KeyMaker();
  const [size, mtime] = [REGION_BYTES + 50, T0];
  const whole = [put(extent(0, REGION_BYTES, 1)), put(extent(REGION_BYTES, 50, 2))];
  for (const changes of [whole, whole.slice(1)]) {
    const source = file(fixture.tree, ROOT_INO, `f${changes.length}`);
    ok(fixture.tree.applyContent(source, changes, { size, mtime }));
    fixture.kv.transact((transaction) => transaction.remove(keys.region(source, 1)));
    const damaged = fixture.reopen();
    const range = { source, from: 0, length: size, target: ino, to: 0 };
    if (changes === whole) {
      assert.deepEqual(ok(damaged.region(source, 0)), { extents: [extent(0, REGION_BYTES, 1)] });
      assert.equal(damaged.region(source, 1), ERRNO.EIO);
      assert.equal(damaged.copiedContent(range), ERRNO.EIO);
      assert.equal(fixture.damage.length, 2);
    } else {
      // One with a hole may have another: only a check can tell.
      assert.deepEqual(ok(damaged.region(source, 1)), { extents: [] });
      ok(damaged.copiedContent(range) as object);
    }
  }
});

/** So many extents of a byte each, with a hole behind each. */
function apart(count: number, chunk: number): ContentChange[] {
  return Array.from({ length: count }, (_, i) => put(extent(2 * i, 1, chunk)));
}

test('a region takes no more extents than a record has room for, and keeps what it has', () => {
  const most = 2 * REGION_EXTENTS_MAX;
  ok(apply(REGION_BYTES, ...apart(most, 1)) as object);
  const before = extents(0);
  assert.equal(before.length, most);
  assert.equal(apply(REGION_BYTES, put(extent(2 * most, 1, 2))), ERRNO.EFBIG);
  assert.deepEqual(extents(0), before);
  // What leaves as many as there were is taken.
  ok(apply(REGION_BYTES, put(extent(0, 1, 2))) as object);
  ok(apply(REGION_BYTES, put(extent(0, REGION_BYTES, 3))) as object);
  assert.equal(extents(0).length, 1);
});

test('a copy of very many pieces ends at a region, so that it takes one turn only a moment', () => {
  const each = 1500;
  for (let index = 0; index < 5; index++) {
    const pieces = Array.from({ length: each }, (_, i) =>
      put(extent(index * REGION_BYTES + 2 * i, 1, 1)),
    );
    ok(apply((index + 1) * REGION_BYTES, ...pieces) as object);
  }
  const target = file(tree, ROOT_INO, 'target');
  const to = 8 * REGION_BYTES;
  const range = { source: ino, from: REGION_BYTES, length: 4 * REGION_BYTES, target, to };
  const copied = tree.copiedContent(range);
  assert.ok(typeof copied !== 'number');
  assert.equal(copied.length, 3 * REGION_BYTES);
  assert.equal(copied.changes.length, 1 + 3 * each);
  assert.deepEqual(copied.changes[0], discard(to, 3 * REGION_BYTES));
  const rest = { ...range, from: 4 * REGION_BYTES, length: REGION_BYTES };
  const last = tree.copiedContent(rest);
  assert.ok(typeof last !== 'number');
  assert.deepEqual([last.length, last.changes.length], [REGION_BYTES, 1 + each]);
});

test('a commit moves ctime to when the content changed, and not otherwise', () => {
  const created = ok(tree.getattr(ino)).ctime;
  const written = { seconds: created.seconds + 5, nanoseconds: 1 };
  const update = (mtime: typeof written): unknown =>
    ok(tree.applyContent(ino, [inline('text')], { size: 4, mtime }) as object);
  update(written);
  assert.deepEqual(ok(tree.getattr(ino)).ctime, written);
  // Committed once more, or with a time of before: nothing has happened since.
  update(written);
  update({ seconds: 1, nanoseconds: 0 });
  assert.deepEqual(ok(tree.getattr(ino)).ctime, written);
  // What utimensat(2) has set is no moment of a change.
  const far = { seconds: 4_000_000_000, nanoseconds: 0 };
  const { ctime } = ok(tree.setattr(ino, { mtime: far }));
  update(far);
  assert.deepEqual(ok(tree.getattr(ino)).ctime, ctime);
});

test('a copy that would leave too many extents in a region is refused', () => {
  const half = REGION_EXTENTS_MAX / 2;
  ok(apply(REGION_BYTES, ...apart(half, 1)) as object);
  const target = file(tree, ROOT_INO, 'target');
  const range = { source: ino, from: 0, length: 2 * half, target, to: 2 * half };
  const copied = tree.copiedContent(range);
  assert.ok(typeof copied !== 'number');
  assert.equal(copied.changes.length, 1 + half);
  ok(tree.applyContent(target, apart(half, 2), { size: REGION_BYTES, mtime: T0 }));
  assert.equal(tree.copiedContent(range), ERRNO.EOPNOTSUPP);
});
