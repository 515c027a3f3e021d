/** A thread that dies ends the mount with a clear error; whoever waits for it gets an error, and nobody hangs. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { mountTest } from '../support/family.ts';
import { withMount } from '../support/mount.ts';

for (const death of ['data:40', 'tree:60']) {
  mountTest(`a worker that dies (${death}) ends the mount: errors, status 1, no hang`, () =>
    withMount({ environment: { MILLRACE_TEST_DIE: death } }, async (mount) => {
      const ended = once(mount.child, 'exit');
      const content = randomBytes(1 << 20);
      let failure: unknown;
      const file = await open(join(mount.dir, 'file'), 'w');
      try {
        for (let i = 0; i < 4000; i++) await file.write(content);
        await file.sync();
      } catch (error) {
        failure = error;
      } finally {
        await file.close().catch(() => {}); // It ends with the connection.
      }
      assert.ok(failure instanceof Error, 'the writer was told');
      const [status] = await ended;
      assert.equal(status, 1, mount.stderr());
      assert.match(mount.stderr(), /a thread of the mount died/);
    }),
  );
}
