import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { describe, it } from 'node:test';
import { OPCODE, ROOT_NODE } from '../../engine/fuse-protocol.ts';
import { PENDING } from '../../workers/tree/operations.ts';
import { cstring, type Dirent, dirents, Fixture, join, readBody, words } from './fixture.ts';

const E = constants.errno;
const NAMES = 1000;

/** Reads a directory to its end in pieces of `size` bytes; `between` runs after each piece. */
function listAll(
  fixture: Fixture,
  node: number,
  size: number,
  plus: boolean,
  between: (piece: Dirent[]) => void = () => {},
): Dirent[] {
  const all: Dirent[] = [];
  for (let offset = 0n; ; offset = all.at(-1)?.offset ?? 0n) {
    const opcode = plus ? OPCODE.READDIRPLUS : OPCODE.READDIR;
    const { outcome, bytes } = fixture.send(opcode, readBody(offset, size), { node });
    assert.ok(outcome >= 0 && outcome <= size, `outcome ${outcome}`);
    if (outcome === 0) return all;
    const piece = dirents(bytes, plus);
    all.push(...piece);
    between(piece);
  }
}

function filled(): { fixture: Fixture; node: number; names: Map<string, number> } {
  const fixture = new Fixture();
  const node = fixture.directory('many');
  const names = new Map<string, number>();
  for (let index = 0; index < NAMES; index++) {
    const name = `name-${index}`.padEnd(index % 40, 'x');
    names.set(name, fixture.file(name, node));
  }
  return { fixture, node, names };
}

describe('READDIR', () => {
  it('starts with the dots, and aligns and types what follows', () => {
    const fixture = new Fixture();
    const file = fixture.file('seven__');
    const directory = fixture.directory('eight___');
    const { bytes } = fixture.send(OPCODE.READDIR, readBody(0n, 4096));
    const found = dirents(bytes);
    assert.deepEqual(
      found.slice(0, 2).map((entry) => [entry.name, entry.type, entry.offset]),
      [
        ['.', 4, 1n],
        ['..', 4, 2n],
      ],
    );
    assert.ok(found.every((entry) => entry.ino > 0));
    const rest = new Map(found.slice(2).map((entry) => [entry.name, entry]));
    assert.equal(rest.get('seven__')?.ino, file);
    assert.equal(rest.get('seven__')?.type, 8);
    assert.equal(rest.get('eight___')?.ino, directory);
    assert.equal(rest.get('eight___')?.type, 4);
    assert.equal(bytes.length, 32 + 32 + 32 + 32);
    assert.ok(found.slice(2).every((entry) => entry.offset > 2n));
  });

  for (const plus of [false, true]) {
    const kind = plus ? 'READDIRPLUS' : 'READDIR';
    it(`${kind} lists each of ${NAMES} names once, however small the pieces`, () => {
      const { fixture, node, names } = filled();
      for (const size of plus ? [224, 1000] : [96, 333, 4096]) {
        const found = listAll(fixture, node, size, plus);
        assert.deepEqual(
          found.map((entry) => entry.name).sort(),
          ['.', '..', ...names.keys()].sort(),
        );
        for (const { name, ino } of found.slice(2)) assert.equal(ino, names.get(name));
      }
    });

    it(`${kind} lists what stays exactly once while other names go and come`, () => {
      const { fixture, node, names } = filled();
      const removed = new Set<string>();
      const candidates = [...names.keys()].filter((_, index) => index % 2 === 0);
      let added = 0;
      const found = listAll(fixture, node, 512, plus, (piece) => {
        const victims = [
          piece.at(-1)?.name ?? '',
          candidates.pop() ?? '',
          candidates.shift() ?? '',
        ];
        for (const name of victims) {
          if (!names.has(name) || removed.has(name)) continue;
          assert.equal(fixture.send(OPCODE.UNLINK, cstring(name), { node }).outcome, 0);
          removed.add(name);
        }
        fixture.file(`new-${added++}`, node);
      });
      const seen = found.map((entry) => entry.name);
      assert.equal(new Set(seen).size, seen.length, 'no name twice');
      assert.ok(removed.size > 10);
      const listed = new Set(seen);
      for (const name of names.keys()) assert.ok(removed.has(name) || listed.has(name), name);
    });
  }

  it('is EINVAL when not even one entry fits, and ends with no bytes', () => {
    const fixture = new Fixture();
    fixture.file('a-rather-long-name');
    const read = (offset: bigint, size: number): number =>
      fixture.send(OPCODE.READDIR, readBody(offset, size)).outcome;
    assert.equal(read(0n, 31), -E.EINVAL);
    assert.equal(read(1n, 31), -E.EINVAL);
    assert.equal(read(2n, 40), -E.EINVAL);
    assert.equal(read(1n, 32), 32);
    const all = dirents(fixture.send(OPCODE.READDIR, readBody(0n, 4096)).bytes);
    assert.equal(read(all.at(-1)?.offset ?? 0n, 4096), 0);
    assert.equal(read(all.at(-1)?.offset ?? 0n, 0), 0);
  });

  it('survives cookies that nobody gave out', () => {
    const fixture = new Fixture();
    fixture.file('a');
    for (const offset of [2n ** 53n + 1n, 2n ** 32n, 2n ** 32n + 1n, 2n ** 31n]) {
      const { outcome } = fixture.send(OPCODE.READDIR, readBody(offset, 4096));
      assert.ok(outcome >= 0, String(offset));
    }
    for (const offset of [2n ** 53n + 2n, 2n ** 63n - 1n, -1n]) {
      const { outcome } = fixture.send(OPCODE.READDIR, readBody(offset, 4096));
      assert.equal(outcome, -E.EINVAL, String(offset));
    }
  });

  it('refuses files, what is gone, and short bodies', () => {
    const fixture = new Fixture();
    const body = readBody(0n, 4096);
    const node = fixture.file('a');
    assert.equal(fixture.send(OPCODE.READDIR, body, { node }).outcome, -E.ENOTDIR);
    assert.equal(fixture.send(OPCODE.READDIR, body, { node: 4711 }).outcome, -E.ESTALE);
    assert.equal(fixture.send(OPCODE.READDIRPLUS, body.subarray(1)).outcome, -E.EIO);
  });
});

describe('READDIRPLUS', () => {
  it('names the inodes with attributes, but not those of the dots', () => {
    const fixture = new Fixture();
    const open = fixture.file('open');
    fixture.directory('d');
    fixture.send(OPCODE.OPEN, words(1, 0), { node: open });
    fixture.inodes.slots[0].size = 77;
    const { bytes } = fixture.send(OPCODE.READDIRPLUS, readBody(0n, 4096));
    const found = dirents(bytes, true);
    assert.deepEqual(
      found.slice(0, 2).map((entry) => entry.node),
      [0, 0],
    );
    for (const { name, node, ino, attr } of found.slice(2)) {
      assert.equal(node, ino);
      assert.equal(attr?.ino, ino);
      assert.equal(attr?.size, name === 'open' ? 77 : 4096);
    }
    assert.equal(found.length, 4);
  });
});

describe('OPENDIR, RELEASEDIR, FSYNCDIR', () => {
  it('opens without a slot and caches nothing', () => {
    const { outcome, bytes } = new Fixture().send(OPCODE.OPENDIR, words(0, 0));
    assert.equal(outcome, 16);
    assert.deepEqual(bytes, words(0xffff_ffff, 0, 0, 0));
  });

  it('closes, and leaves the sync to the store', () => {
    const fixture = new Fixture();
    const release = join(words(0xffff_ffff, 0, 0, 0), words(0, 0));
    assert.equal(fixture.send(OPCODE.RELEASEDIR, release).outcome, 0);
    const sync = fixture.send(OPCODE.FSYNCDIR, words(0xffff_ffff, 0, 0, 0), { node: ROOT_NODE });
    assert.equal(sync.outcome, PENDING);
    assert.equal(fixture.inodes.synced, 1);
  });
});
