import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HiddenFiles, isHiddenName } from '../../engine/front/fuse-native/hidden-files.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const NICKNAME = bytes('.fuse_hidden0000000a0000001f');

test('only what libfuse makes is taken for hidden', () => {
  assert.equal(isHiddenName(NICKNAME), true);
  const others = [
    '.fuse_hidden0000000a0000001',
    '.fuse_hidden0000000a0000001g',
    'x'.repeat(28),
    '',
  ];
  for (const other of others) assert.equal(isHiddenName(bytes(other)), false, other);
});

test('a hidden file goes by its nickname, and its name is taken away once', () => {
  const hidden = new HiddenFiles();
  const name = bytes('file');
  hidden.hide(7, NICKNAME, { parent: 3, name });
  name.fill(0); // The caller's memory is used again.
  assert.equal(hidden.find(NICKNAME), 7);
  assert.equal(hidden.isDoomed(7), true);
  assert.equal(hidden.isDoomed(8), false);
  assert.equal(hidden.take(4, bytes('file')), undefined);
  assert.deepEqual(hidden.take(3, bytes('file')), { parent: 3, name: bytes('file') });
  assert.equal(hidden.take(3, bytes('file')), undefined);
  assert.equal(hidden.takeAny(), undefined);
  assert.equal(hidden.isDoomed(7), false);
  assert.equal(hidden.reveal(NICKNAME), 7);
  assert.equal(hidden.find(NICKNAME), 0);
});

test('an inode whose nicknames nobody will unlink loses them all', () => {
  const hidden = new HiddenFiles();
  hidden.hide(7, NICKNAME, { parent: 3, name: bytes('a') });
  hidden.hide(7, bytes('.fuse_hidden0000000a00000020'), { parent: 3, name: bytes('b') });
  hidden.hide(8, bytes('.fuse_hidden0000000b00000021'), { parent: 3, name: bytes('c') });
  assert.equal(hidden.revealNode(7), 2);
  assert.equal(hidden.find(NICKNAME), 0);
  assert.equal(hidden.find(bytes('.fuse_hidden0000000b00000021')), 8);
  let doomed = 0;
  while (hidden.takeAny() !== undefined) doomed += 1;
  assert.equal(doomed, 3);
});
