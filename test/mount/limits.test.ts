import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { mountTest } from '../support/family.ts';
import { withMount } from '../support/mount.ts';

const OPEN_MAX = 50;
const PATIENCE_MS = 20_000;

/** Opens a file, again and again while the bound is reached: the kernel tells of a close when it likes. */
async function openLater(path: string): Promise<number> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return openSync(path, 'w');
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENFILE' || Date.now() > deadline) throw error;
      await pause(10);
    }
  }
}

mountTest(
  'files beyond the bound of -o max_open_files get ENFILE, and leave nothing behind',
  async () => {
    await withMount({ flags: ['-o', `max_open_files=${OPEN_MAX}`] }, async (mount) => {
      const path = (number: number): string => join(mount.dir, `file-${number}`);
      const files = Array.from({ length: OPEN_MAX }, (_, number) => openSync(path(number), 'w'));
      for (const number of [OPEN_MAX, OPEN_MAX + 1]) {
        assert.throws(() => openSync(path(number), 'w'), { code: 'ENFILE' });
        assert.ok(!existsSync(path(number)));
      }
      // What is open can be opened again, and directories are no files.
      closeSync(openSync(path(0), 'r'));
      assert.equal(readdirSync(mount.dir).length, OPEN_MAX);
      closeSync(files[0]);
      files[0] = await openLater(path(OPEN_MAX));
      assert.throws(() => openSync(path(0), 'r'), { code: 'ENFILE' });
      for (const file of files) closeSync(file);
      await mount.umount();
      const told = mount.stderr().match(/files are open, which is the bound.*max_open_files/g);
      assert.equal(told?.length, 1, mount.stderr());
    });
  },
);

mountTest('closed files make room for others at a bound', async () => {
  await withMount({ flags: ['-o', `max_open_files=${OPEN_MAX}`] }, async (mount) => {
    for (let number = 0; number < 10 * OPEN_MAX; number++) {
      closeSync(await openLater(join(mount.dir, `file-${number}`)));
    }
    assert.equal(readdirSync(mount.dir).length, 10 * OPEN_MAX);
  });
});
