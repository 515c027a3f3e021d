import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { describe, it } from 'node:test';
import { INODE_SLOTS } from '../../engine/layout.ts';
import { CONTROL_HANDLES_MAX, OPEN_FILES_MAX } from '../../engine/limits.ts';
import { allocateBuffers, SharedMemory } from '../../engine/shared-memory.ts';
import {
  XATTR_LIST_BYTES_MAX,
  XATTR_NAME_BYTES_MAX,
  XATTR_VALUE_BYTES_MAX,
} from '../../engine/tree/xattrs.ts';
import type { Attributes } from '../../engine/tree/types.ts';
import { Answer } from '../../workers/tree/answer.ts';
import { OPCODE } from '../../engine/fuse-protocol.ts';
import type { Request } from '../../workers/tree/request.ts';
import { type OpenInode, Slots } from '../../workers/tree/slots.ts';
import { ControlFiles } from '../../workers/tree/virtual/control-files.ts';
import { ITEM } from '../../workers/tree/virtual/numbers.ts';
import { cstring, Fixture, join, u64, words } from './fixture.ts';

const { ENFILE, ENOSPC, E2BIG, ERANGE } = constants.errno;
const TIME = { seconds: 1, nanoseconds: 0 };

function attributesOf(ino: number): Attributes {
  const times = { atime: TIME, mtime: TIME, ctime: TIME, btime: TIME };
  const owner = { uid: 0, gid: 0, rdev: 0 };
  return { ino, mode: 0o100644, nlink: 1, size: 0, allocated: 0, ...owner, ...times };
}

interface Ground {
  slots: Slots;
  told: string[];
  open(ino: number): OpenInode;
  refuses(ino: number): void;
}

function ground(openMax: number): Ground {
  const told: string[] = [];
  const memory = new SharedMemory(allocateBuffers({ frames: 1, dataWorkers: 1, skip: () => 0 }));
  const slots = new Slots(memory, { openMax, onLimit: (what) => told.push(what) });
  return {
    slots,
    told,
    open(ino) {
      const open = slots.open(attributesOf(ino), true);
      assert.ok(typeof open !== 'number', `errno ${String(open)}`);
      return open;
    },
    refuses(ino) {
      assert.equal(slots.open(attributesOf(ino), true), -ENFILE);
    },
  };
}

describe('open files', () => {
  it('are as many as the bound says, however often each is open', () => {
    const { open, refuses, slots, told } = ground(3);
    const [first] = [1, 2, 3].map(open);
    open(2);
    assert.deepEqual(told, []);
    refuses(4);
    refuses(5);
    assert.equal(told.length, 1);
    assert.match(told[0], /^3 files are open.*ENFILE.*max_open_files/);
    slots.close(first, true);
    open(4);
    // Told once only while the bound is nearly reached all the time.
    refuses(1);
    assert.equal(told.length, 1 + 1);
  });

  it('are told again when many were closed in between', () => {
    const { open, refuses, slots, told } = ground(10);
    const all = Array.from({ length: 10 }, (_, i) => open(i + 1));
    refuses(99);
    refuses(99);
    assert.equal(told.length, 1);
    slots.close(all[0], true);
    open(1);
    refuses(99);
    assert.equal(told.length, 1);
    for (const each of all.slice(0, 5)) slots.close(each, true);
    for (let ino = 1; ino <= 5; ino++) open(ino);
    refuses(99);
    assert.equal(told.length, 2);
  });

  it('have slots enough at the highest bound, with closed ones beside them', () => {
    const { open, refuses, slots, told } = ground(OPEN_FILES_MAX);
    const all = Array.from({ length: OPEN_FILES_MAX }, (_, i) => open(i + 1));
    refuses(OPEN_FILES_MAX + 1);
    // Closed ones keep their slots as long as workers have not forgotten them.
    const closed = INODE_SLOTS - OPEN_FILES_MAX;
    for (let i = 0; i < closed; i++) {
      slots.close(all[i], true);
      open(OPEN_FILES_MAX + 1 + i);
    }
    assert.equal(told.length, 1);
    for (const each of all.slice(closed, OPEN_FILES_MAX / 4)) slots.close(each, true);
    refuses(INODE_SLOTS + 1);
    assert.equal(told.length, 2);
    assert.match(told[1], /^\d+ closed files cannot be stored/);
    slots.free(all[0]);
    open(INODE_SLOTS + 1);
  });
});

describe('handles of control files', () => {
  it('are bounded', () => {
    const control = {
      isDirty: false,
      lastError: '',
      commitEverything: () => {},
      hash: () => {},
      status: () => ({}),
      answerLater: () => {},
    };
    const files = new ControlFiles(control);
    const file = { item: ITEM.STATUS, namespace: 'default', root: 1 };
    const bytes = Buffer.alloc(4096);
    const answer = new Answer(bytes);
    const open = (): number => {
      const request: Request = {
        slot: 0,
        opcode: 0,
        node: 1,
        uid: 0,
        gid: 0,
        pid: 0,
        body: words(0, 0),
      };
      return files.open(file, request, answer.begin(0, 4096));
    };
    const handles = Array.from({ length: CONTROL_HANDLES_MAX }, () => {
      assert.equal(open(), 16);
      return bytes.readBigUInt64LE(0);
    });
    assert.equal(open(), -ENFILE);
    const body = join(u64(handles[7]), Buffer.alloc(16));
    const request: Request = { slot: 0, opcode: 0, node: 1, uid: 0, gid: 0, pid: 0, body };
    assert.equal(files.release(request), 0);
    assert.equal(open(), 16);
    assert.equal(open(), -ENFILE);
  });
});

describe('extended attributes', () => {
  const set = (fixture: Fixture, node: number, name: string, bytes = 1): number => {
    const body = join(words(bytes, 0), cstring(name), Buffer.alloc(bytes, 7));
    return fixture.send(OPCODE.SETXATTR, body, { node }).outcome;
  };

  it('have values and names up to their bounds', () => {
    const fixture = new Fixture();
    const node = fixture.file('a');
    assert.equal(set(fixture, node, 'user.a', XATTR_VALUE_BYTES_MAX), 0);
    assert.equal(set(fixture, node, 'user.a', XATTR_VALUE_BYTES_MAX + 1), -E2BIG);
    const longest = `user.${'n'.repeat(XATTR_NAME_BYTES_MAX - 5)}`;
    assert.equal(set(fixture, node, longest), 0);
    assert.equal(set(fixture, node, `${longest}n`), -ERANGE);
  });

  it('are as many as their list has room for', () => {
    const fixture = new Fixture();
    const node = fixture.file('a');
    const name = (n: number): string => `user.${String(n).padStart(XATTR_NAME_BYTES_MAX - 5, '0')}`;
    const most = XATTR_LIST_BYTES_MAX / (XATTR_NAME_BYTES_MAX + 1);
    for (let n = 0; n < most; n++) assert.equal(set(fixture, node, name(n)), 0);
    assert.equal(set(fixture, node, 'user.a'), -ENOSPC);
    assert.equal(set(fixture, node, name(3), 100), 0);
    const size = fixture.send(OPCODE.LISTXATTR, words(0, 0), { node });
    assert.equal(size.bytes.readUInt32LE(0), XATTR_LIST_BYTES_MAX);
    const list = fixture.send(OPCODE.LISTXATTR, words(XATTR_LIST_BYTES_MAX, 0), { node });
    assert.equal(list.outcome, XATTR_LIST_BYTES_MAX);
    const tooSmall = fixture.send(OPCODE.LISTXATTR, words(XATTR_LIST_BYTES_MAX - 1, 0), { node });
    assert.equal(tooSmall.outcome, -ERANGE);
    assert.equal(fixture.send(OPCODE.REMOVEXATTR, cstring(name(0)), { node }).outcome, 0);
    assert.equal(set(fixture, node, 'user.a'), 0);
  });
});
