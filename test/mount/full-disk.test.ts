import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { mountTest } from '../support/family.ts';
import { detach } from '../support/mount-table.ts';
import { type Mount, runMillrace, temporaryDirectory, withMount } from '../support/mount.ts';
import { type Outcome, Syscalls } from '../support/syscalls.ts';

const PIECE_BYTES = 4 * 1_048_576;
const PIECES = 25;
const FULL = ['ENOSPC', 'EIO', 'EDQUOT'];
/** How often fsync is tried once there is room; a store may need a moment to notice. */
const TRIES = 50;

async function onSmallStore(
  body: (mount: Mount, calls: Syscalls, enlarge: () => void) => Promise<void>,
  { flags = [], size = '64m' }: { flags?: readonly string[]; size?: string } = {},
): Promise<void> {
  const store = temporaryDirectory('small-store');
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', store]);
  const enlarge = (): void => {
    execFileSync('mount', ['-o', 'remount,size=512m', store]);
  };
  try {
    await withMount({ storeDir: store, flags }, async (mount) => {
      const calls = new Syscalls({ onStuck: () => mount.abort() });
      try {
        await body(mount, calls, enlarge);
      } finally {
        await calls.close();
      }
    });
  } finally {
    detach(store);
    rmSync(store, { recursive: true, force: true });
  }
}

function errnoOf(outcome: Outcome): string | undefined {
  return 'errno' in outcome ? outcome.errno : undefined;
}

function piece(number: number): { seed: number; length: number } {
  return { seed: number, length: PIECE_BYTES };
}

/** Writes pieces to their places; yields those that were refused, and with what. */
async function writePieces(
  calls: Syscalls,
  numbers: readonly number[],
): Promise<{ refused: number[]; errnos: string[] }> {
  const refused: number[] = [];
  const errnos: string[] = [];
  for (const number of numbers) {
    const outcome = await calls.call('pwrite', 'f', piece(number), number * PIECE_BYTES);
    const errno = errnoOf(outcome);
    if (errno === undefined) continue;
    refused.push(number);
    errnos.push(errno);
  }
  return { refused, errnos };
}

/** Writes these one behind the other; none may be refused. */
async function writeAll(calls: Syscalls, contents: readonly object[]): Promise<void> {
  for (const [at, content] of contents.entries()) {
    await calls.ok('pwrite', 'f', content, at * PIECE_BYTES);
  }
}

/** Closes the file; what was synced before is there behind a kill as well. */
async function closesForGood(mount: Mount, calls: Syscalls, wanted: unknown): Promise<void> {
  await calls.ok('close', 'f');
  await mount.kill9();
  await mount.remount();
  assert.deepEqual(await calls.ok('hash', `${mount.dir}/file`), wanted);
  assert.equal(await mount.umount(), 0, mount.stderr());
}

async function syncEventually(calls: Syscalls): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    const errno = errnoOf(await calls.call('fsync', 'f'));
    if (errno === undefined) return;
    assert.ok(attempt < TRIES, `fsync still fails with ${errno} though there is room`);
    await pause(200);
  }
}

mountTest(
  'a full store is told, and nothing is lost once there is room again',
  () =>
    onSmallStore(async (mount, calls, enlarge) => {
      const path = `${mount.dir}/file`;
      await calls.ok('open', 'f', path, ['O_RDWR', 'O_CREAT']);
      const all = Array.from({ length: PIECES }, (_, number) => number);
      const { refused, errnos } = await writePieces(calls, all);
      const synced = errnoOf(await calls.call('fsync', 'f'));
      const told = synced === undefined ? errnos : [...errnos, synced];
      assert.ok(told.length > 0, 'more than the store holds was said to be durable');
      for (const errno of told) assert.ok(FULL.includes(errno), errno);
      enlarge();
      assert.deepEqual((await writePieces(calls, refused)).errnos, []);
      await syncEventually(calls);
      const wanted = await calls.ok('hash_of', all.map(piece));
      assert.deepEqual(await calls.ok('hash_handle', 'f'), wanted);
      await closesForGood(mount, calls, wanted);
    }),
  { root: true },
);

mountTest(
  'write, fsync and close do not all succeed on a full store, and older files stay whole',
  () =>
    onSmallStore(async (mount, calls, enlarge) => {
      await calls.ok('write_and_sync', `${mount.dir}/older`, 500, 1, 1_000_003, true);
      const path = `${mount.dir}/file`;
      const failed = await calls.ok('write_until_error', path, 1, PIECE_BYTES, PIECES);
      assert.ok(failed !== null, 'no step failed');
      assert.ok(FULL.includes((failed as { errno: string }).errno), JSON.stringify(failed));
      const older = await calls.ok('hash_of', [{ seed: 500, length: 1_000_003 }]);
      assert.deepEqual(await calls.ok('hash', `${mount.dir}/older`), older);
      enlarge();
      await calls.ok('unlink', path);
      await calls.ok('write_and_sync', `${mount.dir}/newer`, 501, 1, 1_000_003, true);
      assert.deepEqual(await calls.ok('hash', `${mount.dir}/older`), older);
    }),
  { root: true },
);

const SMALL_FILES = 8000;
const LARGER = { size: '80m' };
/** Milliseconds within which there is room again: a collection takes a moment. */
const ROOM_MS = 120_000;

/** Small files, and large ones for as long as there is room at all; how many small ones there are. */
async function fill(mount: Mount, calls: Syscalls): Promise<number> {
  await calls.ok('mkdir', `${mount.dir}/more`);
  await calls.ok('mkdir', `${mount.dir}/small`);
  await calls.ok('write_and_sync', `${mount.dir}/large`, 1, 3, PIECE_BYTES, true);
  const made = await calls.ok('make_files', `${mount.dir}/small`, SMALL_FILES, 100);
  const larger = `${mount.dir}/larger`;
  const outcome = await calls.call('write_until_error', larger, 100, PIECE_BYTES, 2 * PIECES);
  assert.notDeepEqual(outcome, { value: null }, 'the store has room for everything');
  // What is left goes as well, in small portions.
  const more = await calls.ok('make_files', `${mount.dir}/more`, SMALL_FILES, 4000);
  assert.ok(FULL.includes((more as { errno: string }).errno), JSON.stringify(more));
  return (made as { made: number }).made;
}

/** Writes until it succeeds, which it must before long. */
async function writesEventually(calls: Syscalls, path: string): Promise<void> {
  const deadline = Date.now() + ROOM_MS;
  for (;;) {
    const outcome = await calls.call('write_and_sync', path, 700, 1, PIECE_BYTES, true);
    const errno = errnoOf(outcome);
    if (errno === undefined) return;
    assert.ok(Date.now() < deadline, `${path} still cannot be written: ${errno}`);
    await pause(200);
  }
}

mountTest(
  'whoever has filled a store can remove what is in it, and there is room again',
  () =>
    onSmallStore(async (mount, calls) => {
      const small = await fill(mount, calls);
      assert.ok(small > SMALL_FILES / 4, `${small} files`);
      await calls.ok('remove_tree', `${mount.dir}/small`);
      await calls.ok('remove_tree', `${mount.dir}/more`);
      await calls.ok('truncate', `${mount.dir}/larger`, 0);
      for (const name of ['large', 'larger']) await calls.ok('unlink', `${mount.dir}/${name}`);
      await writesEventually(calls, `${mount.dir}/new`);
      assert.equal(await mount.umount(), 0, mount.stderr());
      await mount.remount();
      assert.deepEqual(
        await calls.ok('hash', `${mount.dir}/new`),
        await calls.ok('hash_of', [{ seed: 700, length: PIECE_BYTES }]),
      );
      assert.equal(await mount.umount(), 0, mount.stderr());
    }, LARGER),
  { root: true, timeoutMs: 300_000 },
);

/** A store that is full, and not mounted any more; its large file is removed where `removes` says so. */
function onFullStore(
  removes: boolean,
  body: (mount: Mount, calls: Syscalls) => Promise<void>,
): Promise<void> {
  return onSmallStore(
    async (mount, calls) => {
      await fill(mount, calls);
      // What was written in vain is in no store: it would be sealed into a journal.
      await calls.ok('truncate', `${mount.dir}/larger`, 0);
      if (removes) await calls.ok('unlink', `${mount.dir}/large`);
      assert.equal(await mount.umount(), 0, mount.stderr());
      await body(mount, calls);
    },
    { ...LARGER, flags: ['--gc-interval', '0'] },
  );
}

mountTest(
  'a store that is full is mounted again, and emptied then',
  () =>
    onFullStore(false, async (mount, calls) => {
      await mount.remount();
      await calls.ok('remove_tree', `${mount.dir}/small`);
      await calls.ok('unlink', `${mount.dir}/large`);
      assert.equal(await mount.umount(), 0, mount.stderr());
    }),
  { root: true, timeoutMs: 300_000 },
);

mountTest(
  'a store that is full is cleaned while it is not mounted',
  () =>
    onFullStore(true, async (mount, calls) => {
      const { storeDir, keyFile, journalDir } = mount;
      const places = ['--store', storeDir, '--key-file', keyFile, '--journal-dir', journalDir];
      const cleaned = await runMillrace(['gc', '--grace', '0', ...places]);
      assert.equal(cleaned.status, 0, cleaned.stderr);
      const checked = await runMillrace(['fsck', ...places]);
      assert.equal(checked.status, 0, checked.stderr);
      await mount.remount();
      await calls.ok('write_and_sync', `${mount.dir}/new`, 700, 1, PIECE_BYTES, true);
      assert.equal(await mount.umount(), 0, mount.stderr());
    }),
  { root: true, timeoutMs: 300_000 },
);

/** How often content is written over or removed; a store of 64 MiB has room for it twice, beside its tree. */
const ROUNDS = 8;
const GARBAGE_PIECES = [0, 1, 2, 3, 4];

mountTest(
  'what is written over does not fill the store: writers wait until garbage is collected',
  () =>
    onSmallStore(async (mount, calls) => {
      const path = `${mount.dir}/file`;
      await calls.ok('open', 'f', path, ['O_RDWR', 'O_CREAT']);
      let wanted: unknown;
      for (let round = 0; round < ROUNDS; round++) {
        const pieces = GARBAGE_PIECES.map((number) => piece(100 * round + number));
        await writeAll(calls, pieces);
        await calls.ok('fsync', 'f');
        wanted = await calls.ok('hash_of', pieces);
        assert.deepEqual(await calls.ok('hash_handle', 'f'), wanted, `round ${round}`);
      }
      await closesForGood(mount, calls, wanted);
    }),
  { root: true },
);

mountTest(
  'a stream that is longer than the slab waits for room in the middle of its writes',
  () =>
    onSmallStore(
      async (mount, calls) => {
        const all = Array.from({ length: 24 }, (_, number) => number);
        for (let round = 0; round < 5; round++) {
          const pieces = all.map((number) => piece(3000 + 100 * round + number));
          await calls.ok('open', 'f', `${mount.dir}/file`, ['O_RDWR', 'O_CREAT']);
          await writeAll(calls, pieces);
          await calls.ok('close', 'f');
          assert.deepEqual(
            await calls.ok('hash', `${mount.dir}/file`),
            await calls.ok('hash_of', pieces),
          );
        }
        assert.equal(await mount.umount(), 0, mount.stderr());
      },
      { flags: ['--slab', '64M'], size: '240m' },
    ),
  { root: true },
);

mountTest(
  'what is removed makes room at once for what is closed, and for a commit of everything',
  () =>
    onSmallStore(async (mount, calls) => {
      for (let round = 0; round < ROUNDS; round++) {
        const path = `${mount.dir}/file-${round}`;
        const content = { seed: 1000 + round, length: GARBAGE_PIECES.length * PIECE_BYTES };
        await calls.ok('open', 'f', path, ['O_RDWR', 'O_CREAT']);
        await calls.ok('pwrite', 'f', content, 0);
        if (round % 2 === 0) await calls.ok('close', 'f');
        await calls.ok('utimens_now', `${mount.dir}/.millrace/commit`);
        if (round % 2 === 1) await calls.ok('close', 'f');
        assert.deepEqual(await calls.ok('hash', path), await calls.ok('hash_of', [content]));
        await calls.ok('unlink', path);
      }
      assert.equal(await mount.umount(), 0, mount.stderr());
    }),
  { root: true },
);

mountTest(
  'garbage that is collected on demand only does fill the store',
  () =>
    onSmallStore(
      async (mount, calls) => {
        const errnos: string[] = [];
        for (let round = 0; round < ROUNDS && errnos.length === 0; round++) {
          const content = { seed: 2000 + round, length: GARBAGE_PIECES.length * PIECE_BYTES };
          await calls.ok('open', 'f', `${mount.dir}/file`, ['O_RDWR', 'O_CREAT']);
          const outcomes = [
            await calls.call('pwrite', 'f', content, 0),
            await calls.call('fsync', 'f'),
            await calls.call('close', 'f'),
          ];
          errnos.push(...outcomes.map(errnoOf).filter((errno) => errno !== undefined));
        }
        assert.ok(errnos.length > 0);
        for (const errno of errnos) assert.ok(FULL.includes(errno), errno);
      },
      { flags: ['--gc-interval', '0'] },
    ),
  { root: true },
);
