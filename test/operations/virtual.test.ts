import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { FATTR, FOPEN, OPCODE, OPCODE_COUNT, ROOT_NODE } from '../../engine/fuse-protocol.ts';
import type { Answer } from '../../workers/tree/answer.ts';
import { NO_SLOT } from '../../workers/tree/file-handle.ts';
import { PENDING } from '../../workers/tree/operations.ts';
import type { Control } from '../../workers/tree/virtual/control.ts';
import { ITEM, nodeOf as virtualNode } from '../../workers/tree/virtual/numbers.ts';
import {
  cstring,
  dirents,
  Fixture,
  join,
  nodeOf,
  readBody,
  setattrBody,
  u64,
  words,
} from './fixture.ts';

const E = constants.errno;

/** A mount whose commits and hashes end when the test says so. */
class FakeControl implements Control {
  isDirty = true;
  lastError = '';
  readonly commits: ((errno: number) => void)[] = [];
  readonly hashes: ((hash: Uint8Array | number) => void)[] = [];
  /** Outcomes of requests that were answered later. */
  readonly answered: number[] = [];
  answer: Answer | undefined;

  commitEverything(done: (errno: number) => void): void {
    this.commits.push(done);
  }

  hash(_root: number, done: (hash: Uint8Array | number) => void): void {
    this.hashes.push(done);
  }

  status(namespace: string): object {
    return { namespace };
  }

  answerLater(_slot: number, write: (answer: Answer) => number): void {
    this.answered.push(write((this.answer as Answer).begin(0, 8192)));
  }
}

interface Ground {
  fixture: Fixture;
  control: FakeControl;
}

function shared(): Ground {
  const control = new FakeControl();
  const fixture = new Fixture(1500, (tree) => {
    const namespaces = ['default', 'b'].map((name) => {
      const found = tree.openNamespace(Buffer.from(name), { uid: 1, gid: 1 });
      if (typeof found === 'number') throw new Error(`errno ${found}`);
      return found;
    });
    return { namespaces, owner: { uid: 7, gid: 8 }, control };
  });
  control.answer = fixture.answer;
  return { fixture, control };
}

const DEFAULT = virtualNode(1, ITEM.ROOT);
const COMMIT = virtualNode(2, ITEM.COMMIT);

describe('namespaces as directories', () => {
  it('have nodes of their own, and the inodes of their roots', () => {
    const { fixture } = shared();
    const found = fixture.send(OPCODE.LOOKUP, cstring('default'));
    assert.equal(nodeOf(found), DEFAULT);
    assert.equal(fixture.stat(DEFAULT).ino, 1);
    const file = fixture.file('f', DEFAULT);
    assert.equal(nodeOf(fixture.send(OPCODE.LOOKUP, cstring('f'), { node: DEFAULT })), file);
    const { uid, gid, mode, nlink } = fixture.stat(ROOT_NODE);
    assert.deepEqual([uid, gid, mode, nlink], [7, 8, 0o040555, 4]);
  });

  it('are listed from any place on', () => {
    const { fixture } = shared();
    const names = ['.', '..', 'default', 'b'];
    for (let from = 0; from <= names.length; from++) {
      for (const opcode of [OPCODE.READDIR, OPCODE.READDIRPLUS]) {
        const { bytes } = fixture.send(opcode, readBody(BigInt(from), 4096));
        const found = dirents(bytes, opcode === OPCODE.READDIRPLUS);
        assert.deepEqual(
          found.map(({ name }) => name),
          names.slice(from),
        );
        assert.deepEqual(
          found.map(({ node }) => node),
          found.map(() => 0),
        );
      }
    }
    assert.equal(fixture.send(OPCODE.READDIR, readBody(0n, 8)).outcome, -E.EINVAL);
    assert.equal(fixture.send(OPCODE.READDIR, readBody(2n ** 63n, 4096)).outcome, 0);
  });

  it('keep their names apart in RENAME and LINK, whichever side names them', () => {
    const { fixture } = shared();
    const other = virtualNode(2, ITEM.ROOT);
    const file = fixture.file('f', DEFAULT);
    const directory = fixture.directory('d', other);
    const rename = (node: number, to: number, names: string): number =>
      fixture.send(OPCODE.RENAME, join(u64(to), cstring(names)), { node }).outcome;
    assert.equal(rename(DEFAULT, other, 'f\0g'), -E.EXDEV);
    assert.equal(rename(DEFAULT, directory, 'f\0g'), -E.EXDEV);
    assert.equal(rename(DEFAULT, ROOT_NODE, 'f\0g'), -E.EPERM);
    assert.equal(rename(DEFAULT, virtualNode(1, ITEM.DIRECTORY), 'f\0g'), -E.EPERM);
    assert.equal(rename(DEFAULT, virtualNode(9, ITEM.ROOT), 'f\0g'), -E.ESTALE);
    assert.equal(rename(DEFAULT, DEFAULT, 'f\0.millrace'), -E.EPERM);
    assert.equal(rename(ROOT_NODE, DEFAULT, 'b\0c'), -E.EBUSY);
    assert.equal(rename(DEFAULT, DEFAULT, 'f\0g'), 0);
    const link = (ino: number, node: number): number =>
      fixture.send(OPCODE.LINK, join(u64(ino), cstring('h')), { node }).outcome;
    assert.equal(link(file, other), -E.EXDEV);
    assert.equal(link(COMMIT, other), -E.EPERM);
    assert.ok(link(file, DEFAULT) > 0);
  });
});

describe('control files', () => {
  const open = (fixture: Fixture, node: number, flags: number): Buffer => {
    const { outcome, bytes } = fixture.send(OPCODE.OPEN, words(flags, 0), { node });
    assert.equal(outcome, 16);
    assert.equal(bytes.readUInt32LE(0), NO_SLOT);
    assert.equal(bytes.readUInt32LE(8), FOPEN.DIRECT_IO);
    return bytes.subarray(0, 8);
  };
  const transfer = (handle: Buffer, offset: number, size: number): Buffer =>
    join(handle, u64(offset), words(size, 0), u64(0), words(0, 0));

  it('are found by name only, unless the tree has the name', () => {
    const { fixture } = shared();
    const hidden = (): number =>
      nodeOf(fixture.send(OPCODE.LOOKUP, cstring('.millrace'), { node: DEFAULT }));
    assert.equal(hidden(), virtualNode(1, ITEM.DIRECTORY));
    assert.equal(fixture.send(OPCODE.LOOKUP, cstring('.millrace')).outcome, -E.ENOENT);
    const { tree } = fixture;
    const real = tree.mkdir(1, Buffer.from('.millrace'), {
      mode: 0o755,
      owner: { uid: 0, gid: 0 },
    });
    assert.equal(hidden(), (real as { ino: number }).ino);
    const removed = fixture.send(OPCODE.RMDIR, cstring('.millrace'), { node: DEFAULT });
    assert.equal(removed.outcome, 0);
    assert.equal(hidden(), virtualNode(1, ITEM.DIRECTORY));
    const make = fixture.send(OPCODE.MKDIR, join(words(0o755, 0), cstring('.millrace')), {
      node: DEFAULT,
    });
    assert.equal(make.outcome, -E.EEXIST);
  });

  it('commit when they are written or touched, and answer when that has ended', () => {
    const { fixture, control } = shared();
    const handle = open(fixture, COMMIT, 1);
    const write = fixture.send(OPCODE.WRITE, transfer(handle, 0, 5), { node: COMMIT });
    assert.equal(write.outcome, PENDING);
    control.commits.shift()?.(0);
    assert.deepEqual(control.answered.splice(0), [8]);
    assert.equal(fixture.buffer.readUInt32LE(0), 5);
    for (const valid of [FATTR.SIZE, FATTR.MTIME | FATTR.ATIME | FATTR.MTIME_NOW]) {
      const touch = fixture.send(OPCODE.SETATTR, setattrBody({ valid }), { node: COMMIT });
      assert.equal(touch.outcome, PENDING);
      control.commits.shift()?.(valid === FATTR.SIZE ? 0 : E.ENOSPC);
    }
    assert.deepEqual(control.answered, [104, -E.EIO]);
    const chmod = setattrBody({ valid: FATTR.MODE, mode: 0o777 });
    assert.equal(fixture.send(OPCODE.SETATTR, chmod, { node: COMMIT }).outcome, -E.EPERM);
    assert.equal(control.commits.length, 0);
  });

  it('give each reader one text, and a hash when it is there', () => {
    const { fixture, control } = shared();
    const node = virtualNode(2, ITEM.HASH);
    const handle = open(fixture, node, 0);
    assert.equal(fixture.send(OPCODE.READ, transfer(handle, 0, 4), { node }).outcome, PENDING);
    control.hashes.shift()?.(new Uint8Array(32).fill(0xab));
    assert.deepEqual(control.answered, [4]);
    const rest = fixture.send(OPCODE.READ, transfer(handle, 4, 4096), { node });
    assert.equal(rest.bytes.toString(), `${'ab'.repeat(30)}\n`);
    assert.equal(fixture.send(OPCODE.READ, transfer(handle, 65, 4096), { node }).outcome, 0);
    assert.equal(fixture.send(OPCODE.READ, transfer(handle, 0, 4096), { node }).outcome, PENDING);
    const closed = join(handle, words(0, 0), u64(0));
    assert.equal(fixture.send(OPCODE.RELEASE, closed, { node }).outcome, 0);
    control.hashes.shift()?.(E.EAGAIN);
    assert.deepEqual(control.answered, [4, -E.EAGAIN]);
    assert.equal(fixture.send(OPCODE.READ, transfer(handle, 4, 1), { node }).outcome, -E.EBADF);
    const status = open(fixture, virtualNode(2, ITEM.STATUS), 0);
    const text = fixture.send(OPCODE.READ, transfer(status, 0, 4096), {
      node: virtualNode(2, ITEM.STATUS),
    });
    assert.equal(text.bytes.toString(), '{"namespace":"b"}\n');
  });

  it('make the kernel do without what is optional, and nothing else', () => {
    const { fixture } = shared();
    for (const node of [ROOT_NODE, virtualNode(1, ITEM.DIRECTORY), COMMIT]) {
      for (const opcode of [OPCODE.ACCESS, OPCODE.IOCTL, OPCODE.POLL, OPCODE.BMAP]) {
        assert.equal(fixture.send(opcode, Buffer.alloc(64), { node }).outcome, -E.ENOSYS);
      }
      const others = [OPCODE.READ, OPCODE.WRITE, OPCODE.LSEEK, OPCODE.SETXATTR, OPCODE.FALLOCATE];
      for (const opcode of others) {
        assert.notEqual(fixture.send(opcode, Buffer.alloc(64), { node }).outcome, -E.ENOSYS);
      }
    }
  });

  it('never throw, and never change a tree, whatever comes', () => {
    const { fixture } = shared();
    const nodes = [0, 1, 2, 3].flatMap((view) =>
      [0, 1, 2, 3, 4, 5, 6, 15].map((item) => virtualNode(view, item)),
    );
    const roots = [virtualNode(1, ITEM.ROOT), virtualNode(2, ITEM.ROOT)];
    const others = nodes.filter((node) => !roots.includes(node));
    const before = fixture.tree.statistics();
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: OPCODE_COUNT }),
        fc.constantFrom(...others, 0, -1, 2 ** 53, Number.NaN),
        fc.uint8Array({ maxLength: 128 }),
        (opcode, node, body) => {
          const { outcome } = fixture.send(opcode, body, { node });
          assert.ok(outcome >= PENDING && outcome <= fixture.buffer.length);
        },
      ),
      { numRuns: 3000 },
    );
    assert.deepEqual(fixture.tree.statistics(), before);
  });
});
