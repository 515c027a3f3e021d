import assert from 'node:assert/strict';
import { family } from '../support/family.ts';

interface StatVfs {
  f_bsize: number;
  f_frsize: number;
  f_blocks: number;
  f_bfree: number;
  f_bavail: number;
  f_namemax: number;
}

const { both } = family();

both('tells a size, no more free than that, and names of 255 bytes', async (p) => {
  const told = (await p.own('statvfs', p.root)) as StatVfs;
  assert.equal(told.f_namemax, 255);
  assert.ok(told.f_bsize > 0);
  assert.ok(told.f_frsize > 0);
  assert.ok(told.f_blocks > 0);
  assert.ok(told.f_bfree > 0);
  assert.ok(told.f_bfree <= told.f_blocks);
  assert.ok(told.f_bavail <= told.f_bfree);
});

both('is the same of a file as of the directory that holds it', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  const directory = (await p.own('statvfs', p.root)) as StatVfs;
  const file = (await p.own('statvfs', p.at('file'))) as StatVfs;
  assert.equal(file.f_bsize, directory.f_bsize);
  assert.equal(file.f_blocks, directory.f_blocks);
  await p.fails('ENOENT', 'statvfs', p.at('missing'));
});

both('a file lies on the device of its directory', async (p) => {
  await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  assert.equal(await p.own('device', p.at('file')), await p.own('device', p.root));
});
