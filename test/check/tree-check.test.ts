import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import type { FindingCode } from '../../engine/check/finding.ts';
import { Findings } from '../../engine/check/finding.ts';
import { displayName, Paths } from '../../engine/check/paths.ts';
import { RecordReader } from '../../engine/check/reader.ts';
import { repairTree } from '../../engine/check/repair.ts';
import { type CheckedTree, checkTree } from '../../engine/check/tree-check.ts';
import { ERRNO } from '../../engine/tree/errno.ts';
import { COUNTERS_KEY, KEY, KeyMaker } from '../../engine/tree/keys.ts';
import { type Inode, RecordCodec, ROOT_INO } from '../../engine/tree/records.ts';
import {
  newFixture,
  bytes,
  directory,
  extent,
  FILE,
  file,
  listNames,
  ok,
  OWNER,
  T0,
} from '../tree/fixture.ts';
import type { Fixture } from '../tree/fixture.ts';

const codec = new RecordCodec();
const keys = new KeyMaker();
const REGION_BYTES = 4_194_304;

/** Inodes of the tree that is damaged. */
interface Inodes {
  a: number;
  b: number;
  /** /a/f, of two regions; also /a/b/g. */
  f: number;
  /** /a/s, bytes inside of the tree. */
  s: number;
  link: number;
  orphan: number;
  /** Root of the namespace "other", and its file. */
  other: number;
  h: number;
}

/** A tree with a record of every kind. */
function newTree(): Fixture & { inodes: Inodes } {
  const fixture = newFixture();
  const { tree } = fixture;
  const a = directory(tree, ROOT_INO, 'a');
  const b = directory(tree, a, 'b');
  const f = file(tree, a, 'f');
  ok(tree.link(f, b, bytes('g')));
  const changes = [
    { kind: 'extent', extent: extent(0, REGION_BYTES, 1) },
    { kind: 'extent', extent: extent(REGION_BYTES, 5000, 2, 7) },
  ] as const;
  ok(tree.applyContent(f, changes, { size: REGION_BYTES + 5000, mtime: T0 }));
  const s = file(tree, a, 's');
  const inline = [{ kind: 'inline', bytes: bytes('small') }] as const;
  ok(tree.applyContent(s, inline, { size: 5, mtime: T0 }));
  assert.equal(tree.setxattr(s, bytes('user.x'), bytes('y'), 0), 0);
  const link = ok(tree.symlink(ROOT_INO, bytes('l'), bytes('a/f'), OWNER)).ino;
  const orphan = ok(tree.createUnnamed(ROOT_INO, { mode: FILE, owner: OWNER })).ino;
  const other = ok(tree.openNamespace(bytes('other'), OWNER)).root;
  const h = file(tree, other, 'h');
  return { ...fixture, inodes: { a, b, f, s, link, orphan, other, h } };
}

function check({ kv, sealer }: Fixture): CheckedTree {
  return checkTree({ kv, sealer });
}

/** What was found, with its paths, in order of codes. */
function told(fixture: Fixture, checked: CheckedTree = check(fixture)): string[] {
  const reader = new RecordReader(fixture, new Findings());
  const { findings, inodes } = checked;
  const paths = new Paths({ reader, inodes }, findings.list);
  return findings.list.map((each) => [each.code, ...paths.of(each)].join(' ')).sort();
}

function repair(fixture: Fixture): void {
  const { kv, sealer } = fixture;
  repairTree(check(fixture), { kv, sealer, owner: OWNER, now: T0 });
}

function records({ kv }: Fixture): [key: Buffer, sealed: Buffer][] {
  const all: [Buffer, Buffer][] = [];
  const [from, to] = [new Uint8Array(1), new Uint8Array(16).fill(255)];
  kv.read((snapshot) =>
    snapshot.scan(from, to, (key, sealed) => all.push([Buffer.from(key), Buffer.from(sealed)]) > 0),
  );
  return all;
}

function put({ kv }: Fixture, key: Uint8Array, sealed: Uint8Array): void {
  kv.transact((transaction) => transaction.put(key, sealed));
}

function remove({ kv }: Fixture, key: Uint8Array): void {
  kv.transact((transaction) => transaction.remove(key));
}

/** Rewrites an inode as who has the key can. */
function change(fixture: Fixture, ino: number, changed: Partial<Inode>): void {
  const key = new Uint8Array(keys.inode(ino));
  const sealed = fixture.kv.read((snapshot) => snapshot.get(key));
  const plain = sealed === undefined ? undefined : fixture.sealer.open(key, sealed);
  const inode = plain === undefined ? undefined : codec.decodeInode(plain, ino);
  assert.ok(inode);
  put(fixture, key, fixture.sealer.seal(key, codec.encodeInode({ ...inode, ...changed })));
}

function nameKey({ sealer }: Fixture, parent: number, name: string): Uint8Array {
  return new Uint8Array(keys.name(parent, sealer.nameHash(parent, bytes(name))));
}

function xattrKey({ sealer }: Fixture, ino: number, name: string): Uint8Array {
  return new Uint8Array(keys.xattr(ino, sealer.nameHash(ino, bytes(name))));
}

/** Two attributes of an inode that counts one. */
function countOneOfTwo(fixture: Fixture & { inodes: Inodes }): void {
  const { tree, inodes } = fixture;
  assert.equal(tree.setxattr(inodes.s, bytes('user.y'), bytes('z'), 0), 0);
  change(fixture, inodes.s, { xattrs: 1 });
}

test('a tree with every kind of record is clean', () => {
  const fixture = newTree();
  const checked = check(fixture);
  assert.deepEqual(told(fixture, checked), []);
  assert.equal(checked.inodes.length, fixture.tree.statistics().inodes);
  assert.equal(checked.names, 7);
});

test('every extent is told, in the order of files and offsets', () => {
  const { kv, sealer, inodes } = newTree();
  const seen: string[] = [];
  checkTree({ kv, sealer, onExtent: (each) => seen.push(`${each.offset}+${each.length}`) });
  assert.ok(inodes.f > 0);
  assert.deepEqual(seen, [`0+${REGION_BYTES}`, `${REGION_BYTES}+5000`]);
});

const DAMAGED: Readonly<Record<number, FindingCode>> = {
  [KEY.INODE]: 'INODE_DAMAGED',
  [KEY.NAME]: 'NAME_DAMAGED',
  [KEY.REGION]: 'REGION_DAMAGED',
  [KEY.XATTR]: 'XATTR_DAMAGED',
  [KEY.ORPHAN]: 'ORPHAN_DAMAGED',
  [KEY.NAMESPACE]: 'NAMESPACE_DAMAGED',
  [KEY.COUNTERS]: 'COUNTERS_DAMAGED',
};

test('any bit that is flipped in any value is found', () => {
  const fixture = newTree();
  for (const [key, sealed] of records(fixture)) {
    const code = DAMAGED[key[0]];
    for (let bit = 0; bit < sealed.length * 8; bit += 7) {
      const damaged = Buffer.from(sealed);
      damaged[bit >> 3] ^= 1 << (bit & 7);
      put(fixture, key, damaged);
      const { findings } = check(fixture);
      const found = findings.list.filter((each) => each.code === code);
      assert.equal(found.length, 1, `bit ${bit} of ${key.toString('hex')}`);
      assert.ok(found[0].subject.includes(key.toString('hex', 1)));
    }
    put(fixture, key, sealed);
  }
  assert.deepEqual(told(fixture), []);
});

test('a damaged record is told with the paths that need it', () => {
  const fixture = newTree();
  const { inodes } = fixture;
  const cases: [key: Uint8Array, expected: string[]][] = [
    [Buffer.from(keys.inode(inodes.f)), ['INODE_DAMAGED /a/b/g /a/f']],
    [Buffer.from(keys.region(inodes.f, 1)), ['REGION_DAMAGED /a/b/g /a/f']],
    [Buffer.from(keys.inode(inodes.link)), ['INODE_DAMAGED /l']],
    [Buffer.from(keys.inode(inodes.h)), ['INODE_DAMAGED other:/h']],
    [
      nameKey(fixture, inodes.a, 's'),
      ['INODE_UNREACHABLE /a/<a name that is lost>', 'NAME_DAMAGED /a/<a name that is lost>'],
    ],
    [
      nameKey(fixture, inodes.b, 'g'),
      ['LINK_COUNT_WRONG /a/f', 'NAME_DAMAGED /a/b/<a name that is lost>'],
    ],
    [
      Buffer.from(keys.inode(inodes.b)),
      ['INODE_DAMAGED /a/b', 'LINK_COUNT_WRONG /a/b/g /a/f', 'NAME_STRAY /a/b/g'],
    ],
  ];
  for (const [lent, expected] of cases) {
    const key = Buffer.from(lent);
    const sealed = Buffer.from(fixture.kv.read((snapshot) => snapshot.get(key)) ?? []);
    const damaged = Buffer.from(sealed);
    damaged[damaged.length >> 1] ^= 16;
    put(fixture, key, damaged);
    const sorted = told(fixture).map((line) => {
      const [code, ...paths] = line.split(' /');
      return [code, ...paths.sort()].join(' /');
    });
    assert.deepEqual(sorted, expected);
    put(fixture, key, sealed);
  }
});

test('records that are gone are found', () => {
  const fixture = newTree();
  const { inodes } = fixture;
  const cases: [key: Uint8Array, expected: string[]][] = [
    [
      Buffer.from(keys.inode(inodes.s)),
      ['INODE_MISSING /a/s', 'REGION_STRAY /a/s', 'XATTR_STRAY /a/s'],
    ],
    [Buffer.from(keys.inode(inodes.h)), ['INODE_MISSING other:/h']],
    [Buffer.from(keys.inode(inodes.orphan)), ['ORPHAN_STRAY']],
    [
      Buffer.from(keys.inode(ROOT_INO)),
      ['NAME_STRAY', 'NAME_STRAY', 'INODE_UNREACHABLE', 'INODE_UNREACHABLE', 'ROOT_MISSING'],
    ],
    [nameKey(fixture, inodes.a, 's'), ['INODE_UNREACHABLE /a/<a name that is lost>']],
    [nameKey(fixture, inodes.b, 'g'), ['LINK_COUNT_WRONG /a/f']],
    [
      nameKey(fixture, inodes.a, 'b'),
      ['INODE_UNREACHABLE /a/<a name that is lost>', 'LINK_COUNT_WRONG /a'],
    ],
    [Buffer.from(keys.region(inodes.f, 0)), ['CONTENT_MISSING /a/f']],
    [Buffer.from(keys.region(inodes.s, 0)), ['CONTENT_MISSING /a/s']],
    [xattrKey(fixture, inodes.s, 'user.x'), ['XATTR_MISSING /a/s']],
    [Buffer.from(keys.orphan(inodes.orphan)), ['INODE_UNREACHABLE']],
    [Buffer.from(keys.namespace(fixture.sealer.nameHash(0, bytes('other')))), ['NAMESPACE_LOST']],
    [COUNTERS_KEY, ['COUNTERS_DAMAGED']],
  ];
  for (const [lent, expected] of cases) {
    const key = Buffer.from(lent);
    const sealed = Buffer.from(fixture.kv.read((snapshot) => snapshot.get(key)) ?? []);
    assert.ok(sealed.length > 0);
    remove(fixture, key);
    const found = told(fixture);
    assert.equal(found.length, expected.length, found.join('\n'));
    for (const [index, line] of [...expected].sort().entries()) {
      assert.ok(found[index].startsWith(line), `${found[index]} is not ${line}`);
    }
    put(fixture, key, sealed);
  }
  assert.deepEqual(told(fixture), []);
});

test('records that contradict one another are found', () => {
  const cases: [damage: (fixture: Fixture & { inodes: Inodes }) => void, expected: string[]][] = [
    [(f) => change(f, f.inodes.s, { nlink: 2 }), ['LINK_COUNT_WRONG /a/s']],
    [(f) => change(f, f.inodes.b, { nlink: 3 }), ['LINK_COUNT_WRONG /a/b']],
    [(f) => change(f, f.inodes.b, { parent: ROOT_INO }), ['DIRECTORY_PARENT_WRONG /a/b']],
    [(f) => change(f, f.inodes.s, { allocated: 6 }), ['CONTENT_MISSING /a/s']],
    [(f) => change(f, f.inodes.s, { allocated: 4 }), ['ALLOCATED_WRONG /a/s']],
    [(f) => change(f, f.inodes.s, { size: 4, allocated: 5 }), ['CONTENT_BEHIND_END /a/s']],
    [(f) => change(f, f.inodes.s, { xattrs: 2 }), ['XATTR_MISSING /a/s']],
    // As an older version left it, which did not count them.
    [(f) => change(f, f.inodes.s, { xattrs: 0 }), []],
    [countOneOfTwo, ['XATTR_COUNT_WRONG /a/s']],
    [(f) => change(f, f.inodes.s, { namespace: f.inodes.other }), ['NAMESPACE_WRONG /a/s']],
    [
      (f) => change(f, f.inodes.s, { mode: 0o120777, target: bytes('12345'), allocated: 0 }),
      ['NAME_TYPE_WRONG /a/s', 'REGION_STRAY /a/s'],
    ],
    [(f) => change(f, f.inodes.link, { target: bytes('x') }), ['INODE_INVALID /l']],
    [
      (f) => put(f, Buffer.from(keys.orphan(f.inodes.s)), sealedOrphan(f, f.inodes.s)),
      ['ORPHAN_NAMED /a/s'],
    ],
    [(f) => put(f, bytes('q-unknown'), bytes('?')), ['KEY_UNKNOWN']],
    [(f) => put(f, bytes('i-short'), bytes('?')), ['KEY_UNKNOWN']],
    [putCounters({ nextIno: 3, inodes: 9 }), ['COUNTERS_WRONG']],
    [putCounters({ nextIno: 9999, inodes: 5000 }), ['COUNTERS_WRONG']],
    [misplaceName, ['INODE_UNREACHABLE /a/', 'NAME_INVALID /a/s', 'LINK_COUNT_WRONG /a/']],
    [tieCycle, ['DIRECTORY_CYCLE', 'DIRECTORY_PARENT_WRONG', 'LINK_COUNT_WRONG']],
    [overlap, ['EXTENT_INVALID /a/f']],
  ];
  for (const [damage, expected] of cases) {
    const fixture = newTree();
    damage(fixture);
    const found = told(fixture);
    assert.ok(found.length >= expected.length, `${damage}: ${found.join('\n')}`);
    for (const line of expected) {
      assert.ok(
        found.some((each) => each.startsWith(line)),
        `${line} not in\n${found.join('\n')}`,
      );
    }
  }
});

function sealedOrphan({ sealer }: Fixture, ino: number): Uint8Array {
  return sealer.seal(new Uint8Array(keys.orphan(ino)), codec.encodeOrphan());
}

function putCounters(counters: { nextIno: number; inodes: number }): (fixture: Fixture) => void {
  return (fixture) => {
    const sealed = fixture.sealer.seal(COUNTERS_KEY, codec.encodeCounters(counters));
    put(fixture, COUNTERS_KEY, sealed);
  };
}

/** The name f where s belongs, sealed for that place. */
function misplaceName(fixture: Fixture & { inodes: Inodes }): void {
  const { inodes, sealer } = fixture;
  const key = nameKey(fixture, inodes.a, 's');
  const record = { name: bytes('s2'), ino: inodes.f, type: 0o100000 };
  put(fixture, key, sealer.seal(key, codec.encodeName(record)));
}

/** /a moves into /a/b, and leaves the root. */
function tieCycle(fixture: Fixture & { inodes: Inodes }): void {
  const { inodes, sealer } = fixture;
  remove(fixture, nameKey(fixture, ROOT_INO, 'a'));
  const key = nameKey(fixture, inodes.b, 'a');
  const record = { name: bytes('a'), ino: inodes.a, type: 0o040000 };
  put(fixture, key, sealer.seal(key, codec.encodeName(record)));
}

function overlap(fixture: Fixture & { inodes: Inodes }): void {
  const { inodes, sealer } = fixture;
  const key = new Uint8Array(keys.region(inodes.f, 0));
  const extents = [extent(0, 8192, 1), extent(4096, 4096, 2)];
  put(fixture, key, sealer.seal(key, codec.encodeRegion({ extents }, 0)));
}

test('a repair puts right what can be, and a second check proves it', () => {
  const cases: ((fixture: Fixture & { inodes: Inodes }) => void)[] = [
    (f) => change(f, f.inodes.s, { nlink: 2 }),
    (f) => change(f, ROOT_INO, { nlink: 77 }),
    (f) => change(f, f.inodes.b, { parent: ROOT_INO }),
    (f) => change(f, f.inodes.s, { allocated: 4 }),
    (f) => put(f, Buffer.from(keys.orphan(f.inodes.s)), sealedOrphan(f, f.inodes.s)),
    (f) => remove(f, nameKey(f, f.inodes.a, 's')),
    (f) => remove(f, nameKey(f, f.inodes.a, 'b')),
    (f) => remove(f, nameKey(f, ROOT_INO, 'a')),
    (f) => remove(f, nameKey(f, f.inodes.other, 'h')),
    (f) => remove(f, keys.inode(f.inodes.orphan)),
    (f) => remove(f, keys.inode(ROOT_INO)),
    (f) => remove(f, keys.inode(f.inodes.other)),
    (f) => remove(f, keys.orphan(f.inodes.orphan)),
    (f) => remove(f, keys.namespace(f.sealer.nameHash(0, bytes('other')))),
    (f) => remove(f, COUNTERS_KEY),
    putCounters({ nextIno: 3, inodes: 9 }),
  ];
  for (const damage of cases) {
    const fixture = newTree();
    damage(fixture);
    assert.notDeepEqual(told(fixture), [], `${damage} is not found`);
    repair(fixture);
    assert.deepEqual(told(fixture), [], `${damage}`);
    // The tree can be used, and numbers are given once.
    const tree = fixture.reopen();
    const made = file(tree, ROOT_INO, 'new');
    assert.ok(made > Math.max(...Object.values(fixture.inodes)));
    assert.deepEqual(told(fixture), [], `${damage}, then used`);
  }
});

test('an inode without a name gets one in lost+found, with all that is below', () => {
  const fixture = newTree();
  const { inodes } = fixture;
  remove(fixture, nameKey(fixture, ROOT_INO, 'a'));
  repair(fixture);
  const tree = fixture.reopen();
  const lost = ok(tree.lookup(ROOT_INO, bytes('lost+found')));
  assert.equal(ok(tree.lookup(lost.ino, bytes(`#${inodes.a}`))).ino, inodes.a);
  assert.equal(ok(tree.lookup(inodes.a, bytes('f'))).nlink, 2);
  // What is lost later goes into the same directory.
  remove(fixture, nameKey(fixture, inodes.a, 's'));
  repair(fixture);
  assert.equal(ok(fixture.reopen().lookup(lost.ino, bytes(`#${inodes.s}`))).ino, inodes.s);
  assert.deepEqual(told(fixture), []);
});

test('a root that is gone comes back with every name that lay in it, and nothing else is moved', () => {
  for (const root of ['default', 'other'] as const) {
    const fixture = newTree();
    const { inodes } = fixture;
    const names = (): string[] =>
      [ROOT_INO, inodes.other].map((ino) => listNames(fixture.reopen(), ino).join());
    const before = names();
    remove(fixture, keys.inode(root === 'default' ? ROOT_INO : inodes.other));
    assert.ok(check(fixture).findings.list.some(({ code }) => code === 'ROOT_MISSING'));
    repair(fixture);
    assert.deepEqual(told(fixture), []);
    assert.deepEqual(names(), before);
  }
});

test('what lies in a root that cannot be read gets no second name', () => {
  const fixture = newTree();
  directory(fixture.reopen(), ROOT_INO, 'lost+found');
  const before = records(fixture).length;
  const key = Buffer.from(keys.inode(ROOT_INO));
  const [, sealed] = records(fixture).find(([each]) => each.equals(key)) as [Buffer, Buffer];
  sealed[0] ^= 1;
  put(fixture, key, sealed);
  repair(fixture);
  assert.equal(records(fixture).length, before);
});

test('a namespace that lost its name gets another one', () => {
  const fixture = newTree();
  const { inodes } = fixture;
  remove(fixture, keys.namespace(fixture.sealer.nameHash(0, bytes('other'))));
  repair(fixture);
  const { root } = ok(fixture.reopen().openNamespace(bytes(`lost-${inodes.other}`), OWNER));
  assert.equal(root, inodes.other);
  assert.equal(ok(fixture.reopen().lookup(root, bytes('h'))).ino, inodes.h);
});

test('a repair deletes and overwrites nothing that cannot be read, and goes on telling it', () => {
  const all = records(newTree()).length;
  for (let index = 0; index < all; index++) {
    const fixture = newTree();
    const [key, sealed] = records(fixture)[index];
    if (key[0] === KEY.COUNTERS || key[0] === KEY.ORPHAN) continue;
    const damaged = Buffer.from(sealed);
    damaged[0] ^= 1;
    put(fixture, key, damaged);
    const before = records(fixture).map(([each]) => each.toString('hex'));
    repair(fixture);
    const after = new Map(records(fixture).map(([each, value]) => [each.toString('hex'), value]));
    for (const each of before) assert.ok(after.has(each), `${each} is gone`);
    assert.deepEqual(after.get(key.toString('hex')), damaged);
    assert.ok(check(fixture).findings.list.some(({ code }) => code === DAMAGED[key[0]]));
  }
});

test('content that is missing stays missing after a repair', () => {
  const fixture = newTree();
  remove(fixture, keys.region(fixture.inodes.f, 0));
  repair(fixture);
  assert.deepEqual(
    told(fixture).map((line) => line.split(' ')[0]),
    ['CONTENT_MISSING'],
  );
});

test('a count of attributes that is too small is put right, one that is too large stays', () => {
  const fixture = newTree();
  countOneOfTwo(fixture);
  repair(fixture);
  assert.deepEqual(told(fixture), []);
  remove(fixture, xattrKey(fixture, fixture.inodes.s, 'user.y'));
  repair(fixture);
  assert.deepEqual(told(fixture), ['XATTR_MISSING /a/s']);
  const tree = fixture.reopen();
  assert.equal(tree.getxattr(fixture.inodes.s, bytes('user.y')), ERRNO.EIO);
  assert.equal(tree.listxattr(fixture.inodes.s), ERRNO.EIO);
  assert.equal(tree.setxattr(fixture.inodes.s, bytes('user.y'), bytes('z'), 0), 0);
  assert.deepEqual(told(fixture), []);
});

test('names that a terminal would act on are escaped', () => {
  assert.equal(displayName(bytes('plain name')), 'plain name');
  assert.equal(displayName(Buffer.from('größe')), 'größe');
  assert.equal(displayName(bytes('a\u001b[2Jb\n')), 'a\\x1b[2Jb\\x0a');
  assert.equal(displayName(Buffer.from([0xff, 0x61])), '\\xffa');
  assert.equal(displayName(bytes('a\\b')), 'a\\x5cb');
});
