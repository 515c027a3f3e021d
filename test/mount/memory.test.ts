import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mountTest } from '../support/family.ts';
import { type Mount, withMount } from '../support/mount.ts';
import { Syscalls } from '../support/syscalls.ts';

const MIB = 1_048_576;
const SLAB_BYTES = 64 * MIB;
/** What the process may take beside the slab: the runtimes, their heaps and the Kv's pages. */
const BESIDE_SLAB_BYTES = 300 * MIB;
const PIECE_BYTES = 16 * MIB;
const PIECES = 64;

function peakBytes(mount: Mount): number {
  const status = readFileSync(`/proc/${mount.pid}/status`, 'latin1');
  const kib = /^VmHWM:\s*(\d+) kB$/m.exec(status)?.[1];
  assert.ok(kib !== undefined, 'no VmHWM in /proc');
  return Number(kib) * 1_024;
}

const SLOW_STORE = {
  flags: ['--slab', '64M'],
  environment: { MILLRACE_STORE_FAULTS: 'put-delay-ms=20' },
} as const;

mountTest('memory stays bounded while 1 GiB is written to a slow store', () =>
  withMount(SLOW_STORE, async (mount) => {
    const calls = new Syscalls({ onStuck: () => mount.abort() });
    try {
      await calls.ok('open', 'f', `${mount.dir}/file`, ['O_RDWR', 'O_CREAT']);
      for (let seed = 0; seed < PIECES; seed += 1) {
        await calls.ok('write', 'f', { seed, length: PIECE_BYTES });
      }
      await calls.ok('fsync', 'f');
      const last = { seed: PIECES - 1, length: PIECE_BYTES };
      const offset = (PIECES - 1) * PIECE_BYTES;
      assert.equal(await calls.ok('pread_expect', 'f', last, offset), true);
    } finally {
      await calls.close();
    }
    const peak = peakBytes(mount);
    const bound = SLAB_BYTES + BESIDE_SLAB_BYTES;
    assert.ok(peak < bound, `peak ${Math.round(peak / MIB)} MiB`);
    assert.equal(await mount.umount(), 0, mount.stderr());
  }),
);
