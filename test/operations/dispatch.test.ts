import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { OPCODE, OPCODE_COUNT, ROOT_NODE } from '../../engine/fuse-protocol.ts';
import { PENDING } from '../../workers/tree/operations.ts';
import { ANSWER_BYTES_MIN, Answer } from '../../workers/tree/answer.ts';
import { cstring, dirents, Fixture, join, readBody, words } from './fixture.ts';

const E = constants.errno;

/** What an operation code is called. */
function nameOf(opcode: number): string {
  return Object.entries(OPCODE).find(([, code]) => code === opcode)?.[0] ?? `${opcode}`;
}

describe('the table of operations', () => {
  it('tells the kernel to do without what is optional', () => {
    const fixture = new Fixture();
    const optional = [
      'ACCESS',
      'GETLK',
      'SETLK',
      'SETLKW',
      'BMAP',
      'IOCTL',
      'POLL',
      'SETUPMAPPING',
      'REMOVEMAPPING',
      'NOTIFY_REPLY',
    ] as const;
    for (const name of optional) {
      assert.equal(fixture.send(OPCODE[name], Buffer.alloc(64)).outcome, -E.ENOSYS, name);
    }
    for (const opcode of [0, 7, 19, OPCODE_COUNT, 4096, -1, 0.5, Number.NaN]) {
      assert.equal(fixture.send(opcode, Buffer.alloc(64)).outcome, -E.ENOSYS, String(opcode));
    }
  });

  it('never lets the kernel believe that what others serve is not needed', () => {
    const fixture = new Fixture();
    const others = ['READ', 'WRITE', 'FLUSH', 'FSYNC', 'SYNCFS', 'INIT', 'FORGET'] as const;
    for (const name of others) {
      assert.equal(fixture.send(OPCODE[name], Buffer.alloc(64)).outcome, -E.EIO, name);
    }
  });
});

describe('Answer', () => {
  it('writes from where it begins, and nowhere else', () => {
    const fixture = new Fixture();
    const buffer = Buffer.alloc(8192 + ANSWER_BYTES_MIN, 0xee);
    const answer = new Answer(buffer).begin(8192, buffer.length);
    const body = words(0, 0, 0, 0);
    const request = { slot: 0, opcode: OPCODE.GETATTR, node: 1, uid: 0, gid: 0, pid: 0, body };
    assert.equal(fixture.operations.handle(request, answer), 104);
    assert.equal(answer.start, 8192);
    assert.equal(answer.length, 104);
    const untouched = [buffer.subarray(0, 8192), buffer.subarray(8192 + 104)];
    assert.ok(untouched.every((part) => part.every((byte) => byte === 0xee)));
  });

  it('refuses to begin where an answer may not fit', () => {
    const answer = new Answer(Buffer.alloc(2 * ANSWER_BYTES_MIN));
    const end = 2 * ANSWER_BYTES_MIN;
    assert.throws(() => answer.begin(end - ANSWER_BYTES_MIN + 1, end), RangeError);
    assert.throws(() => answer.begin(-1, end), RangeError);
    assert.throws(() => answer.begin(0, end + 1), RangeError);
    assert.throws(() => new Answer(Buffer.alloc(ANSWER_BYTES_MIN - 1)), RangeError);
  });

  it('writes padding too', () => {
    const fixture = new Fixture();
    fixture.file('a');
    const bodies: [number, Buffer][] = [
      [OPCODE.LOOKUP, cstring('a')],
      [OPCODE.LOOKUP, cstring('missing')],
      [OPCODE.GETATTR, words(0, 0, 0, 0)],
      [OPCODE.CREATE, join(words(1, 0o644, 0, 0), cstring('c'))],
      [OPCODE.OPENDIR, words(0, 0)],
      [OPCODE.STATFS, Buffer.alloc(0)],
      [OPCODE.READDIR, readBody(0n, 4096)],
      [OPCODE.READDIRPLUS, readBody(0n, 4096)],
    ];
    for (const [opcode, body] of bodies) {
      fixture.buffer.fill(0xee);
      const { outcome, bytes } = fixture.send(opcode, body);
      assert.ok(outcome > 0);
      assert.ok(!bytes.includes(0xee), nameOf(opcode));
    }
  });
});

describe('shared memory', () => {
  it('may hold requests and answers, and may change once the call is over', () => {
    const fixture = new Fixture();
    const slot = new Uint8Array(new SharedArrayBuffer(1024));
    const out = new Uint8Array(new SharedArrayBuffer(2 * ANSWER_BYTES_MIN));
    const answer = new Answer(out);
    const send = (opcode: number, node: number, content: Uint8Array): Buffer => {
      const body = slot.subarray(0, content.length);
      body.set(content);
      answer.begin(0, out.length);
      const request = { slot: 0, opcode, node, uid: 0, gid: 0, pid: 0, body };
      const outcome = fixture.operations.handle(request, answer);
      assert.ok(outcome >= 0, `${nameOf(opcode)}: ${outcome}`);
      slot.fill(0xff);
      return Buffer.from(out.slice(0, outcome));
    };
    const link = send(OPCODE.SYMLINK, ROOT_NODE, join(cstring('name'), cstring('target')));
    const node = Number(link.readBigUInt64LE(0));
    const value = Buffer.from('value');
    send(OPCODE.SETXATTR, node, join(words(5, 0), cstring('user.x'), value));
    assert.equal(send(OPCODE.READLINK, node, Buffer.alloc(0)).toString(), 'target');
    const read = send(OPCODE.GETXATTR, node, join(words(64, 0), cstring('user.x')));
    assert.deepEqual(read, value);
    const listed = send(OPCODE.READDIR, ROOT_NODE, readBody(0n, 4096));
    assert.deepEqual(
      dirents(listed).map(({ name }) => name),
      ['.', '..', 'name'],
    );
  });
});

describe('anything that may arrive', () => {
  const nodes = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(ROOT_NODE, ROOT_NODE, 2, 3, 4) },
    { weight: 1, arbitrary: fc.constantFrom(0, -1, 2 ** 53, 2 ** 64, 40) },
  );
  const served = new Set<number>();
  const names = fc.constantFrom('a', 'b', 'd', 'user.x', 'a', 'b', '.', '..', '', 'x/y');
  const numbers = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(0, 1) },
    { weight: 2, arbitrary: fc.nat({ max: 1 << 12 }) },
    { weight: 1, arbitrary: fc.nat({ max: 0xffff_ffff }) },
  );
  /** Words of the structures that arrive. */
  const structures = fc
    .constantFrom(0, 0, 2, 4, 10, 22)
    .chain((count) => fc.array(numbers, { minLength: count, maxLength: count }));
  /**
   * Structures of a true length with few set bits and names behind them reach further than noise
   * does.
   */
  const shaped = fc
    .tuple(structures, fc.array(names, { maxLength: 3 }), fc.uint8Array({ maxLength: 4 }))
    .map(([values, texts, rest]) => join(words(...values), ...texts.map(cstring), rest));
  const bodies = fc.oneof(
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }) },
    { weight: 4, arbitrary: shaped },
  );
  const { LOOKUP, SETATTR, MKNOD, OPEN, CREATE, READDIRPLUS } = OPCODE;
  const often = [LOOKUP, SETATTR, MKNOD, OPEN, CREATE, READDIRPLUS];
  const opcodes = fc.oneof(
    fc.integer({ min: 0, max: OPCODE_COUNT + 2 }),
    fc.constantFrom(...often),
  );
  const requests = fc.array(fc.tuple(opcodes, nodes, bodies), {
    minLength: 1,
    maxLength: 60,
    size: 'max',
  });

  it('never throws, and yields an errno, PENDING or the length of an answer', () => {
    const property = fc.property(requests, (sequence) => {
      const fixture = new Fixture();
      fixture.file('a');
      fixture.directory('d');
      for (const [opcode, node, body] of sequence) {
        const { outcome } = fixture.send(opcode, body, { node });
        const failed = outcome < 0 && (outcome > -4096 || outcome === PENDING);
        if (!failed) served.add(opcode);
        const answered = outcome >= 0 && outcome <= fixture.buffer.length;
        assert.ok(Number.isInteger(outcome) && (failed || answered), `outcome ${outcome}`);
      }
    });
    fc.assert(property, { numRuns: 600 });
    for (const opcode of often) assert.ok(served.has(opcode), nameOf(opcode));
  });
});
