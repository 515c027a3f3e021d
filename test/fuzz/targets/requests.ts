/**
 * Requests of the kernel in the tree worker: out of shared memory, as the fronts leave them there, through the table of
 * operations, into a tree that must be sound afterwards.
 */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { checkTree } from '../../../engine/check/tree-check.ts';
import { OPCODE } from '../../../engine/fuse-protocol.ts';
import { FRAME_BYTES, REQUEST_BODY_BYTES, request as cell } from '../../../engine/layout.ts';
import { allocateBuffers, SharedMemory } from '../../../engine/shared-memory.ts';
import type { Tree } from '../../../engine/tree/tree.ts';
import { Answer } from '../../../workers/tree/answer.ts';
import { PENDING } from '../../../workers/tree/operations.ts';
import type { Request } from '../../../workers/tree/request.ts';
import { RequestReader } from '../../../workers/tree/request-reader.ts';
import type { Control } from '../../../workers/tree/virtual/control.ts';
import type { View } from '../../../workers/tree/virtual/view.ts';
import { cstring, Fixture, join, readBody, u64, words } from '../../operations/fixture.ts';
import type { FuzzTarget } from '../target.ts';

/** What the requests that Millrace knows are called. */
const NAMES = new Map<number, string>(
  Object.entries(OPCODE).map(([name, opcode]) => [opcode, name]),
);

const IN_HEADER_BYTES = 40;
const REQUESTS_MAX = 24;
const ZEROS_BYTES = 16 * 1024;
/** Flag of a record: the mount shows two namespaces, with control files. The first record decides. */
const VIRTUAL = 4;
/** The request slot and the frame that the requests lie in. */
const SLOT = 9;
const FRAME = 1;
/** Where the answer may lie in its buffer, and what lies around it. */
const ANSWER_AT = 4096;
const ANSWER_END = ANSWER_AT + 65_536;
const UNTOUCHED = 0xee;

const memory = new SharedMemory(allocateBuffers({ frames: 2, dataWorkers: 1, skip: () => 0 }));
const reader = new RequestReader(memory);
const buffer = Buffer.alloc(ANSWER_END + ANSWER_AT, UNTOUCHED);
const BLANK = Buffer.alloc(ANSWER_AT, UNTOUCHED);

/** Commits and hashes end when the input is over, as they might in a mount. */
class LateControl implements Control {
  readonly isDirty: boolean = true;
  readonly lastError: string = '';
  readonly #later: (() => void)[] = [];
  readonly #answer = new Answer(Buffer.alloc(8192));

  commitEverything(done: (errno: number) => void): void {
    this.#later.push(() => done(0));
  }

  hash(_root: number, done: (hash: Uint8Array | number) => void): void {
    this.#later.push(() => done(new Uint8Array(32)));
  }

  status(namespace: string): object {
    return { namespace };
  }

  answerLater(_slot: number, write: (answer: Answer) => number): void {
    checkOutcome(write(this.#answer.begin(0, 8192)), 8192);
  }

  end(): void {
    for (const done of this.#later) done();
  }
}

function viewOf(tree: Tree, control: Control): View {
  const namespaces = ['default', 'b'].map((name) => {
    const opened = tree.openNamespace(Buffer.from(name), { uid: 0, gid: 0 });
    assert.ok(typeof opened !== 'number');
    return { name: Buffer.from(name), root: opened.root };
  });
  return { namespaces, owner: { uid: 0, gid: 0 }, control };
}

/** Puts a request where a front puts it: the start of a body into the slot, the rest into a frame. */
function place(message: Buffer, zeros: number): Request {
  const body = message.subarray(IN_HEADER_BYTES);
  const bytes = Math.min(body.length + zeros, FRAME_BYTES);
  const near = Math.min(bytes, REQUEST_BODY_BYTES);
  const start = memory.bodyByte(SLOT);
  memory.control.fill(0, start, start + near);
  memory.control.set(body.subarray(0, near), start);
  if (bytes > near) {
    const frame = memory.frameBytes(FRAME, FRAME_BYTES);
    frame.fill(0, 0, bytes - near);
    frame.set(body.subarray(near), 0);
  }
  const word = memory.requestWord(SLOT, 0);
  memory.words[word + cell.OPCODE / 4] = message.readUInt32LE(4);
  memory.doubles[(word + cell.NODE / 4) / 2] = Number(message.readBigUInt64LE(16));
  memory.words[word + cell.UID / 4] = message.readUInt32LE(24);
  memory.words[word + cell.GID / 4] = message.readUInt32LE(28);
  memory.words[word + cell.PID / 4] = message.readUInt32LE(32);
  memory.words[word + cell.BODY_LENGTH / 4] = bytes;
  memory.words[word + cell.FRAME / 4] = FRAME;
  const request = reader.read(SLOT);
  assert.equal(request.body.length, bytes);
  return request;
}

function checkOutcome(outcome: number, room: number): void {
  const isErrno = outcome < 0 && outcome > -4096;
  const isAnswer = outcome >= 0 && outcome <= room;
  assert.ok(
    Number.isInteger(outcome) && (isErrno || isAnswer || outcome === PENDING),
    `${outcome}`,
  );
}

function serve(fixture: Fixture, answer: Answer, request: Request): void {
  const outcome = fixture.operations.handle(request, answer.begin(ANSWER_AT, ANSWER_END));
  checkOutcome(outcome, ANSWER_END - ANSWER_AT);
  const name = NAMES.get(request.opcode);
  const [before, behind] = [buffer.subarray(0, ANSWER_AT), buffer.subarray(ANSWER_END)];
  assert.ok(before.equals(BLANK), `${name} wrote before its answer`);
  assert.ok(behind.equals(BLANK), `${name} wrote behind its answer`);
}

/** The next request of an input; its records are those of the native target `session`. */
function nextRequest(bytes: Buffer, at: number): { request: Request | undefined; end: number } {
  const zeros = bytes[at + 1] * ZEROS_BYTES;
  const start = at + 4;
  const end = start + bytes.readUInt16LE(at + 2);
  const message = bytes.subarray(start, end);
  // What is no request, a front does not queue.
  return { request: message.length < IN_HEADER_BYTES ? undefined : place(message, zeros), end };
}

function run(bytes: Buffer): void {
  const control = new LateControl();
  const isVirtual = bytes.length > 0 && (bytes[0] & VIRTUAL) !== 0;
  const fixture = new Fixture(1500, (tree) => (isVirtual ? viewOf(tree, control) : undefined));
  const answer = new Answer(buffer);
  for (let at = 0, n = 0; at + 4 <= bytes.length && n < REQUESTS_MAX; n++) {
    const { request, end } = nextRequest(bytes, at);
    if (request !== undefined) serve(fixture, answer, request);
    at = end;
  }
  control.end();
  const { findings } = checkTree({ kv: fixture.kv, sealer: fixture.sealer });
  assert.deepStrictEqual(findings.list, [], 'the tree is damaged');
}

function seeds(): Buffer[] {
  const request = (flags: number, opcode: number, node: number | bigint, body: Buffer): Buffer => {
    const head = Buffer.alloc(4 + IN_HEADER_BYTES);
    head[0] = flags;
    head.writeUInt16LE(IN_HEADER_BYTES + body.length, 2);
    head.writeUInt32LE(IN_HEADER_BYTES + body.length, 4);
    head.writeUInt32LE(opcode, 8);
    head.writeBigUInt64LE(BigInt(node), 20);
    return Buffer.concat([head, body]);
  };
  const make = join(words(0o100644, 0, 0, 0), cstring('a'));
  const view = 2n ** 52n;
  return [
    Buffer.concat([
      request(0, OPCODE.MKNOD, 1, make),
      request(0, OPCODE.LINK, 1, join(u64(2), cstring('b'))),
      request(0, OPCODE.RENAME2, 1, join(u64(1), words(2, 0), cstring('a'), cstring('b'))),
      request(0, OPCODE.SETXATTR, 2, join(words(5, 0), cstring('user.x'), Buffer.from('value'))),
      request(0, OPCODE.LISTXATTR, 2, words(0, 0)),
      request(0, OPCODE.READDIRPLUS, 1, readBody(0n, 4096)),
    ]),
    Buffer.concat([
      request(VIRTUAL, OPCODE.READDIR, 1, readBody(0n, 4096)),
      request(0, OPCODE.LOOKUP, view, cstring('.millrace')),
      request(0, OPCODE.OPEN, view + 2n, words(1, 0)),
      request(
        0,
        OPCODE.WRITE,
        view + 2n,
        join(u64(0xffff_ffff), u64(0), words(1, 0), u64(0), words(0, 0)),
      ),
      request(0, OPCODE.READ, view + 21n, readBody(0n, 4096)),
    ]),
  ];
}

export const requests: FuzzTarget = {
  name: 'requests',
  says: 'requests of the kernel in the tree worker (workers/tree), and the tree afterwards',
  run,
  seeds,
  corpus: 'native/fuzz/corpus/session',
  words: ['user.', 'system.posix_acl_', 'security.capability', '.millrace', 'a\0', 'b\0', '..\0'],
};
