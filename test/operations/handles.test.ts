import assert from 'node:assert/strict';
import { constants as fs } from 'node:fs';
import { constants } from 'node:os';
import { describe, it } from 'node:test';
import { FOPEN, OPCODE, ROOT_NODE } from '../../engine/fuse-protocol.ts';
import { cstring, entryAttr, Fixture, join, nodeOf, type Reply, u64, words } from './fixture.ts';

const E = constants.errno;
const DIRECT = FOPEN.DIRECT_IO | FOPEN.PARALLEL_DIRECT_WRITES;

function openFile(fixture: Fixture, node: number, flags: number): Reply {
  return fixture.send(OPCODE.OPEN, words(flags, 0), { node });
}

function createFile(fixture: Fixture, name: string, flags: number, mode = 0o100644): Reply {
  return fixture.send(OPCODE.CREATE, join(words(flags, mode, 0o22, 0), cstring(name)));
}

function releaseBody(slot: number, high: number): Buffer {
  return words(slot, high, 0, 0, 0, 0);
}

describe('TMPFILE', () => {
  const send = (fixture: Fixture, flags: number): Reply =>
    fixture.send(OPCODE.TMPFILE, join(words(flags, 0o100640, 0o22, 0), cstring('/')));

  it('makes an open file without a name, which may get one', () => {
    const fixture = new Fixture();
    const made = send(fixture, fs.O_RDWR);
    assert.equal(made.outcome, 144);
    assert.deepEqual([entryAttr(made).mode, entryAttr(made).nlink], [0o100640, 0]);
    const ino = nodeOf(made);
    assert.equal(fixture.inodes.slots[0].writers, 1);
    assert.ok(fixture.inodes.linkable.has(ino));
    const link = (name: string): Reply => fixture.send(OPCODE.LINK, join(u64(ino), cstring(name)));
    assert.equal(entryAttr(link('a')).nlink, 1);
    assert.ok(!fixture.inodes.linkable.has(ino));
    assert.equal(entryAttr(link('b')).nlink, 2);
  });

  it('gives no name to what was made with O_EXCL, and needs a directory', () => {
    const fixture = new Fixture();
    const ino = nodeOf(send(fixture, fs.O_RDWR | fs.O_EXCL));
    assert.deepEqual(fixture.inodes.gone, [ino]);
    const link = fixture.send(OPCODE.LINK, join(u64(ino), cstring('a')));
    assert.equal(link.outcome, -E.ENOENT);
    const body = join(words(2, 0o100640, 0, 0), cstring('/'));
    const node = fixture.file('f');
    assert.equal(fixture.send(OPCODE.TMPFILE, body, { node }).outcome, -E.ENOTDIR);
    assert.equal(fixture.send(OPCODE.TMPFILE, words(2)).outcome, -E.EIO);
  });

  it('leaves nothing when it cannot be opened', () => {
    const fixture = new Fixture();
    fixture.inodes.failure = -E.ENFILE;
    const { inodes } = fixture.tree.statistics();
    assert.equal(send(fixture, fs.O_RDWR).outcome, -E.ENFILE);
    assert.equal(fixture.tree.statistics().inodes, inodes);
  });
});

describe('OPEN and RELEASE', () => {
  it('tells the fronts what a WRITE would take, where there is something', () => {
    const fixture = new Fixture();
    const capability = join(words(1, 0), cstring('security.capability'), Buffer.from('x'));
    const expected: [string, number, boolean, number | undefined][] = [
      ['plain', 0o755, false, undefined],
      ['set-user-id', 0o4644, false, 1],
      ['set-group-id', 0o2755, false, 1],
      ['no privilege', 0o2745, false, undefined],
      ['capable', 0o755, true, 2],
      ['both', 0o6755, true, 3],
    ];
    for (const [name, mode, capable, bits] of expected) {
      const node = nodeOf(createFile(fixture, name, fs.O_RDONLY, mode));
      if (capable) fixture.send(OPCODE.SETXATTR, capability, { node });
      openFile(fixture, node, fs.O_WRONLY);
      const slot = fixture.inodes.slotOf(node);
      assert.equal(fixture.inodes.privileges[slot], bits, name);
    }
  });

  it('chooses cache and handle by access', () => {
    const fixture = new Fixture();
    const node = fixture.file('a');
    const expected: [number, number, number][] = [
      [fs.O_RDONLY, 0, FOPEN.KEEP_CACHE | FOPEN.NOFLUSH],
      [fs.O_RDONLY | fs.O_DIRECT, 0, FOPEN.DIRECT_IO | FOPEN.NOFLUSH],
      [fs.O_WRONLY, 1, DIRECT],
      [fs.O_RDWR, 1, DIRECT],
      [fs.O_RDWR | fs.O_DIRECT, 1, DIRECT],
      [fs.O_WRONLY | fs.O_APPEND, 3, DIRECT],
      [fs.O_RDONLY | fs.O_APPEND, 2, FOPEN.KEEP_CACHE | FOPEN.NOFLUSH],
    ];
    for (const [flags, high, fopen] of expected) {
      const { outcome, bytes } = openFile(fixture, node, flags);
      assert.equal(outcome, 16);
      assert.deepEqual(bytes, words(0, high, fopen, 0), `flags ${flags.toString(8)}`);
    }
    assert.equal(fixture.inodes.slots[0].openers, expected.length);
    assert.equal(fixture.inodes.slots[0].writers, 4);
  });

  it('gives back by release what open took', () => {
    const fixture = new Fixture();
    const node = fixture.file('a');
    openFile(fixture, node, fs.O_RDONLY);
    openFile(fixture, node, fs.O_RDWR);
    const release = (high: number): number =>
      fixture.send(OPCODE.RELEASE, releaseBody(0, high), { node }).outcome;
    assert.equal(release(1), 0);
    assert.equal(fixture.inodes.slots[0].openers, 1);
    assert.equal(fixture.inodes.slots[0].writers, 0);
    assert.equal(release(2), 0);
    assert.equal(fixture.inodes.slots[0].openers, 0);
    assert.equal(fixture.inodes.slots[0].writers, 0);
    const none = fixture.send(OPCODE.RELEASE, releaseBody(0xffff_ffff, 0));
    assert.equal(none.outcome, 0);
    assert.equal(fixture.send(OPCODE.RELEASE, words(0, 0, 0, 0, 0)).outcome, -E.EIO);
  });

  it('opens an inode without a name while it is open', () => {
    const fixture = new Fixture();
    const node = fixture.file('a');
    openFile(fixture, node, fs.O_RDONLY);
    fixture.send(OPCODE.UNLINK, cstring('a'));
    assert.equal(openFile(fixture, node, fs.O_RDWR).outcome, 16);
    assert.equal(fixture.stat(node).nlink, 0);
  });

  it('fails for directories, fifos, what is gone, and when all slots are taken', () => {
    const fixture = new Fixture();
    assert.equal(openFile(fixture, ROOT_NODE, 0).outcome, -E.EISDIR);
    const fifo = join(words(0o010644, 0, 0, 0), cstring('p'));
    assert.equal(openFile(fixture, nodeOf(fixture.send(OPCODE.MKNOD, fifo)), 0).outcome, -E.EINVAL);
    assert.equal(openFile(fixture, 4711, 0).outcome, -E.ESTALE);
    assert.equal(fixture.send(OPCODE.OPEN, words(0)).outcome, -E.EIO);
    fixture.inodes.failure = -E.ENFILE;
    assert.equal(openFile(fixture, fixture.file('a'), 0).outcome, -E.ENFILE);
  });
});

describe('CREATE', () => {
  it('answers entry and handle', () => {
    const fixture = new Fixture();
    const reply = createFile(fixture, 'a', fs.O_WRONLY | fs.O_CREAT | fs.O_EXCL, 0o104640);
    assert.equal(reply.outcome, 144);
    const attr = entryAttr(reply);
    assert.equal(attr.mode, 0o104640);
    assert.equal(attr.nlink, 1);
    assert.equal(attr.uid, 1000);
    assert.deepEqual(reply.bytes.subarray(128), words(0, 1, DIRECT, 0));
    assert.equal(fixture.inodes.slotOf(nodeOf(reply)), 0);
  });

  it('lets the kernel look again when the name was taken meanwhile, unless O_EXCL', () => {
    const fixture = new Fixture();
    fixture.file('a');
    assert.equal(createFile(fixture, 'a', fs.O_RDWR | fs.O_CREAT).outcome, -E.ESTALE);
    assert.equal(createFile(fixture, 'a', fs.O_RDWR | fs.O_CREAT | fs.O_EXCL).outcome, -E.EEXIST);
  });

  it('leaves no file behind that could not be opened', () => {
    const fixture = new Fixture();
    fixture.inodes.failure = -E.ENFILE;
    assert.equal(createFile(fixture, 'a', fs.O_WRONLY).outcome, -E.ENFILE);
    fixture.inodes.failure = 0;
    assert.equal(fixture.inodes.gone.length, 1);
    assert.equal(createFile(fixture, 'a', fs.O_WRONLY | fs.O_EXCL).outcome, 144);
  });

  it('refuses what is no name, and short bodies', () => {
    const fixture = new Fixture();
    assert.equal(createFile(fixture, 'x/y', fs.O_WRONLY).outcome, -E.EINVAL);
    assert.equal(createFile(fixture, '', fs.O_WRONLY).outcome, -E.ENOENT);
    assert.equal(fixture.send(OPCODE.CREATE, words(0, 0, 0)).outcome, -E.EIO);
    const inFile = join(words(1, 0o644, 0, 0), cstring('a'));
    const node = fixture.file('f');
    assert.equal(fixture.send(OPCODE.CREATE, inFile, { node }).outcome, -E.ENOTDIR);
  });
});
