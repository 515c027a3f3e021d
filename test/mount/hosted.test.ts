import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { family } from '../support/family.ts';

const MIB = 1_048_576;
const FILES = 1500;

const { both, mountOnly } = family();

both('many small files, one after the other, and streams that begin beside them', async (p) => {
  const other = p.process();
  const third = p.process();
  await p.ok('mkdir', p.at('small'));
  const busy = p.ok('many_files', p.at('small'), FILES, 100);
  await other.ok('write_and_sync', p.at('stream'), 100, 30, 2 * MIB + 5, false);
  await third.ok('write_and_sync', p.at('another'), 200, 30, 300_001, true);
  await busy;
  for (const name of ['stream', 'another']) await p.ok('hash', p.at(name));
});

mountOnly('unmounts, and dies, while it reads small requests itself', async (mount, p) => {
  await p.own('mkdir', p.at('files'));
  const left = await p.own('many_files', p.at('files'), FILES, 100);
  assert.equal(await mount.umount(), 0, mount.stderr());
  await mount.remount();
  await p.own('mkdir', p.at('more'));
  await p.own('many_files', p.at('more'), FILES, 100);
  await mount.kill9();
  await mount.remount();
  for (const folder of ['files', 'more']) {
    assert.equal(readdirSync(p.at(folder)).length, left);
  }
});
