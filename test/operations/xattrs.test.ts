import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { describe, it } from 'node:test';
import { OPCODE } from '../../engine/fuse-protocol.ts';
import { cstring, Fixture, join, type Reply, words } from './fixture.ts';

const E = constants.errno;

class Subject {
  readonly fixture: Fixture = new Fixture();
  readonly node: number = this.fixture.file('a');

  set(name: string, value: Uint8Array, flags = 0): number {
    const body = join(words(value.length, flags), cstring(name), value);
    return this.fixture.send(OPCODE.SETXATTR, body, { node: this.node }).outcome;
  }

  get(name: string, size: number): Reply {
    const body = join(words(size, 0), cstring(name));
    return this.fixture.send(OPCODE.GETXATTR, body, { node: this.node });
  }

  list(size: number): Reply {
    return this.fixture.send(OPCODE.LISTXATTR, words(size, 0), { node: this.node });
  }

  remove(name: string, uid = 0): number {
    const from = { node: this.node, uid };
    return this.fixture.send(OPCODE.REMOVEXATTR, cstring(name), from).outcome;
  }
}

describe('SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR', () => {
  it('keeps bytes, tells their size, and removes them', () => {
    const subject = new Subject();
    const value = Buffer.from([0, 1, 2, 0xff, 0]);
    assert.equal(subject.set('user.a', value), 0);
    assert.deepEqual(subject.get('user.a', 0).bytes, words(5, 0));
    assert.deepEqual(subject.get('user.a', 5).bytes, value);
    assert.deepEqual(subject.get('user.a', 4096).bytes, value);
    assert.equal(subject.get('user.a', 4).outcome, -E.ERANGE);
    assert.equal(subject.remove('user.a'), 0);
    assert.equal(subject.get('user.a', 0).outcome, -E.ENODATA);
    assert.equal(subject.remove('user.a'), -E.ENODATA);
  });

  it('has no attributes but those whose change the kernel checks', () => {
    const subject = new Subject();
    const value = Buffer.from('1');
    for (const prefix of ['user.', 'trusted.', 'security.']) {
      assert.equal(subject.set(`${prefix}a`, value), 0);
      assert.equal(subject.remove(`${prefix}a`), 0);
      assert.equal(subject.set(prefix, value), -E.EINVAL);
    }
    for (const name of ['system.a', 'system.posix_acl_access', 'a', 'user', 'users.a']) {
      assert.equal(subject.set(name, value), -E.EOPNOTSUPP, name);
      assert.equal(subject.list(100).outcome, 0, name);
    }
  });

  it('lets root take away what an earlier version let anybody set', () => {
    const subject = new Subject();
    subject.fixture.tree.setxattr(subject.node, Buffer.from('system.a'), Buffer.from('1'), 0);
    assert.equal(subject.remove('system.a', 1000), -E.EOPNOTSUPP);
    assert.equal(subject.remove('system.a', 0), 0);
    assert.equal(subject.list(100).outcome, 0);
  });

  it('keeps empty values, whose answer has no bytes', () => {
    const subject = new Subject();
    assert.equal(subject.set('user.e', Buffer.alloc(0)), 0);
    assert.deepEqual(subject.get('user.e', 0).bytes, words(0, 0));
    assert.equal(subject.get('user.e', 10).outcome, 0);
  });

  it('lists names with their NULs', () => {
    const subject = new Subject();
    assert.equal(subject.list(100).outcome, 0);
    subject.set('user.one', Buffer.from('1'));
    subject.set('user.three', Buffer.from('3'));
    assert.deepEqual(subject.list(0).bytes, words(20, 0));
    const names = subject.list(20).bytes.toString().split('\0').sort();
    assert.deepEqual(names, ['', 'user.one', 'user.three']);
    assert.equal(subject.list(19).outcome, -E.ERANGE);
  });

  it('obeys XATTR_CREATE and XATTR_REPLACE', () => {
    const subject = new Subject();
    const value = Buffer.from('v');
    assert.equal(subject.set('user.a', value, 2), -E.ENODATA);
    assert.equal(subject.set('user.a', value, 1), 0);
    assert.equal(subject.set('user.a', value, 1), -E.EEXIST);
    assert.equal(subject.set('user.a', Buffer.from('w'), 2), 0);
    assert.deepEqual(subject.get('user.a', 9).bytes, Buffer.from('w'));
    assert.equal(subject.set('user.a', value, 3), -E.EINVAL);
    assert.equal(subject.set('user.a', value, 4), -E.EINVAL);
  });

  it('refuses names and bodies that are none', () => {
    const subject = new Subject();
    const { fixture, node } = subject;
    const value = Buffer.from('v');
    assert.equal(subject.set('', value), -E.ERANGE);
    assert.equal(subject.set('u'.repeat(256), value), -E.ERANGE);
    assert.equal(subject.get('', 0).outcome, -E.ERANGE);
    assert.equal(subject.remove(''), -E.ERANGE);
    const send = (opcode: number, body: Buffer): number =>
      fixture.send(opcode, body, { node }).outcome;
    assert.equal(send(OPCODE.SETXATTR, words(1)), -E.EIO);
    assert.equal(send(OPCODE.SETXATTR, join(words(2, 0), cstring('user.a'), value)), -E.EIO);
    assert.equal(send(OPCODE.SETXATTR, join(words(0, 0), Buffer.from('user'))), -E.EINVAL);
    assert.equal(send(OPCODE.GETXATTR, words(0)), -E.EIO);
    assert.equal(send(OPCODE.GETXATTR, join(words(0, 0), Buffer.from('user'))), -E.EINVAL);
    assert.equal(send(OPCODE.LISTXATTR, words(0)), -E.EIO);
    assert.equal(send(OPCODE.REMOVEXATTR, Buffer.from('user')), -E.EINVAL);
    const gone = fixture.send(OPCODE.LISTXATTR, words(0, 0), { node: 4711 });
    assert.equal(gone.outcome, -E.ESTALE);
  });
});
