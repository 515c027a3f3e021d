import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { spawn, spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { copyFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { compileShim } from '../crash/shim.ts';
import { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import { LmdbKv } from '../../engine/kv/lmdb-kv.ts';
import { Draws, testSeed } from '../support/random.ts';

const REFUSED = fileURLToPath(new URL('./refused.js', import.meta.url));
const COMMITTER = fileURLToPath(new URL('./committer.js', import.meta.url));
const KEYS = 400;
const PAGE_BYTES = 4096;

async function inDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-lmdb-'));
  try {
    await body(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** What a program hears that works on when a call was refused (refused.ts). */
function hear(directory: string, call: 'sync' | 'commit', order: string): string[] {
  const path = join(directory, 'kv.mdb');
  const { stdout } = spawnSync(process.execPath, [REFUSED, path, call, order], {
    encoding: 'utf8',
    env: {
      ...process.env,
      LD_PRELOAD: compileShim('failing', directory),
      MILLRACE_FAILING_PREFIX: path,
      MILLRACE_FAILING_FILE: join(directory, 'control'),
    },
  });
  return stdout.trim().split('\n');
}

async function assertHolds(directory: string, value: string): Promise<void> {
  const kv = await LmdbKv.open({ path: join(directory, 'kv.mdb') });
  kv.read((snapshot) => assert.equal(String(snapshot.get(Buffer.from('key'))), value));
  await kv.close();
}

test('a flush that fails is told to every later commit and sync; reads go on', () =>
  inDirectory(async (directory) => {
    assert.deepEqual(hear(directory, 'sync', 'flush 5 1'), [
      'sync: STORE_IO',
      'commit: STORE_IO',
      'sync again: STORE_IO',
      'before',
      'read: done',
      'close: STORE_IO',
    ]);
    await assertHolds(directory, 'before');
  }));

test('a write that fails within a commit is told to everybody; what was committed is there later', () =>
  inDirectory(async (directory) => {
    assert.deepEqual(hear(directory, 'commit', 'write 5 1'), [
      'commit: STORE_IO',
      'commit: STORE_IO',
      'sync again: STORE_IO',
      'read: STORE_IO',
      'close: STORE_IO',
    ]);
    await assertHolds(directory, 'before');
  }));

test('without room for a commit none is begun, until there is room again', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'kv.mdb');
    const asked: number[] = [];
    const granted: number[] = [];
    let errno: number = constants.errno.ENOSPC;
    const reserve = (_file: number, bytes: number): number => {
      (errno === 0 ? granted : asked).push(bytes);
      return errno;
    };
    const kv = await LmdbKv.open({ path, reserve });
    const commit = (): void => kv.transact((tx) => tx.put(Buffer.from('key'), Buffer.from('kept')));
    assert.throws(commit, { code: 'STORE_IO', message: /ENOSPC/ });
    kv.read((snapshot) => assert.equal(snapshot.get(Buffer.from('key')), undefined));
    errno = 0;
    await pause(30);
    commit();
    commit();
    assert.equal(granted.length, 1, 'room that was set aside is not asked for again');
    assert.ok(asked.length > 1, 'less is asked for where there is not so much');
    assert.deepEqual(
      asked,
      asked.toSorted((a, b) => b - a),
    );
    assert.ok(granted.every((bytes) => bytes > statSync(path).size));
    await kv.close();
    await assertHolds(directory, 'kept');
  }));

test('a file system that sets nothing aside is asked once', () =>
  inDirectory(async (directory) => {
    let asked = 0;
    const reserve = (): number => {
      asked += 1;
      return constants.errno.EOPNOTSUPP;
    };
    const kv = await LmdbKv.open({ path: join(directory, 'kv.mdb'), reserve });
    fill(kv, 1);
    await kv.close();
    assert.equal(asked, 1);
  }));

test('room is set aside for all that a large transaction writes', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'kv.mdb');
    let reserved = 0;
    const reserve = (_file: number, bytes: number): number => {
      reserved = Math.max(reserved, bytes);
      return 0;
    };
    const kv = new BufferedKv(await LmdbKv.open({ path, reserve }));
    for (let round = 0; round < 2; round++) {
      const before = statSync(path).size;
      // The records of a large file's regions: 40 MiB of them.
      kv.transact((transaction) => {
        for (let i = 0; i < 2048; i++) transaction.put(keyOf(i), Buffer.alloc(20_480, round));
      });
      assert.equal(kv.isFailing, false);
      const { size } = statSync(path);
      assert.ok(size - before > 40 << 20);
      assert.ok(reserved > size, `${reserved} bytes were set aside for ${size}`);
    }
    await kv.close();
  }));

test('no commit makes the file longer than was set aside for it, whatever it changes', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'kv.mdb');
    let reserved = 0;
    let least = 0;
    const reserve = (_file: number, bytes: number): number => {
      if (bytes <= reserved) return 0;
      least = Math.min(least, bytes);
      return constants.errno.ENOSPC;
    };
    const kv = await LmdbKv.open({ path, reserve });
    const seed = testSeed();
    const draws = new Draws(seed);
    for (let round = 0; round < 300; round++) {
      const keys = draws.pick([1, 3, 30, 300]);
      const most = draws.pick([0, 40, 200, 1500, 9000, 60_000]);
      const changes = Array.from({ length: keys }, () => {
        const value = draws.below(3) === 0 ? undefined : Buffer.alloc(draws.below(most + 1), round);
        return { key: keyOf(draws.below(20_000)), value };
      });
      const bytes = changes.reduce((sum, { value }) => sum + 8 + (value?.length ?? 0), 0);
      const commit = (): void =>
        kv.transact(
          (transaction) => {
            for (const { key, value } of changes) {
              if (value === undefined) transaction.remove(key);
              else transaction.put(key, value);
            }
          },
          { keys, bytes },
        );
      least = Number.POSITIVE_INFINITY;
      try {
        commit();
      } catch {
        // No more than it cannot do without.
        reserved = least;
        commit();
      }
      const { size } = statSync(path);
      assert.ok(size <= reserved, `seed ${seed}, round ${round}: ${size} bytes of ${reserved}`);
      if (round % 50 === 49) await kv.sync();
    }
    await kv.close();
  }));

test('a Kv that is short of room goes on removing, where it is synced when it wants that', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'kv.mdb');
    let disk = Number.POSITIVE_INFINITY;
    let reserved = 0;
    let syncs = 0;
    const reserve = (_file: number, bytes: number): number => {
      if (bytes > disk) return constants.errno.ENOSPC;
      reserved = Math.max(reserved, bytes);
      return 0;
    };
    const kv = new BufferedKv(await LmdbKv.open({ path, reserve }));
    const keys = 60_000;
    for (let i = 0; i < keys; i++) {
      kv.transact((transaction) => transaction.put(keyOf(i), Buffer.alloc(150, 1)));
      if (i % 1024 === 0) await kv.renew();
    }
    assert.equal(kv.isShort, false);
    // Others take all that is not set aside.
    disk = reserved;
    for (let i = 0; i < keys; i++) {
      kv.transact((transaction) => transaction.remove(keyOf(i)));
      assert.equal(kv.isFailing, false, `removal ${i}`);
      if (!kv.wantsSync) continue;
      syncs += 1;
      await kv.renew();
    }
    kv.writeBack();
    assert.ok(kv.isShort);
    assert.ok(syncs > 0);
    assert.ok(statSync(path).size <= disk);
    disk = Number.POSITIVE_INFINITY;
    await pause(30);
    assert.equal(kv.isShort, false, 'there is room again');
    await kv.close();
  }));

function keyOf(index: number): Buffer {
  const key = Buffer.alloc(8);
  key.writeUInt32BE((index * 2_654_435_761) >>> 0);
  key.writeUInt32BE(index, 4);
  return key;
}

/** Commits one value for every key, a few keys at a time. */
function fill(kv: LmdbKv, value: number): void {
  for (let first = 0; first < KEYS; first += 7) {
    kv.transact((transaction) => {
      for (let i = first; i < Math.min(KEYS, first + 7); i++) {
        transaction.put(keyOf(i), Buffer.alloc(150, value));
      }
    });
  }
}

function assertFilledWith(kv: LmdbKv, value: number): void {
  for (let i = 0; i < KEYS; i++) {
    const found = kv.get(keyOf(i));
    assert.ok(found !== undefined && Buffer.alloc(150, value).equals(Buffer.from(found)), `${i}`);
  }
  let count = 0;
  kv.scan(Buffer.of(0), Buffer.alloc(9, 255), () => ++count > 0);
  assert.equal(count, KEYS);
}

test('a process that is killed loses no commit', async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, 'kv.mdb');
    const child = spawn(process.execPath, [COMMITTER, path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let committed = 0;
    for await (const text of child.stdout.setEncoding('latin1')) {
      committed = Number(String(text).trim().split('\n').at(-1));
      if (committed >= 300) child.kill('SIGKILL');
    }
    const kv = await LmdbKv.open({ path });
    const key = Buffer.alloc(4);
    let found = 0;
    for (; ; found++) {
      key.writeUInt32BE(found);
      if (kv.get(key) === undefined) break;
    }
    assert.ok(committed >= 300 && found >= committed, `${found} of ${committed}`);
    await kv.close();
  });
});

test('after a power loss the file is what the last sync made it', async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, 'kv.mdb');
    const kv = await LmdbKv.open({ path, bootId: 'first' });
    fill(kv, 1);
    await kv.sync();
    fill(kv, 2);
    await kv.sync();
    const synced = await readFile(path);
    for (let round = 3; round < 9; round++) fill(kv, round);
    const later = await readFile(path);

    for (let seed = 1; seed <= 25; seed++) {
      const lost = join(directory, `lost-${seed}.mdb`);
      await writeFile(lost, mixPages(synced, later, seed));
      await copyFile(`${path}-anchor`, `${lost}-anchor`);
      const restored = await LmdbKv.open({ path: lost, bootId: 'second' });
      assertFilledWith(restored, 2);
      fill(restored, 77);
      assertFilledWith(restored, 77);
      await restored.close();
    }
    await kv.close();
  });
});

/** A disk after a power loss: each page is either as it was synced or as it was written later. */
function mixPages(synced: Buffer, later: Buffer, seed: number): Buffer {
  const mixed = Buffer.from(later);
  let state = seed;
  for (let at = 0; at < synced.length; at += PAGE_BYTES) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    if (state >>> 31 === 1) synced.copy(mixed, at, at, at + PAGE_BYTES);
  }
  return mixed;
}

test('a machine that did not restart keeps what was not synced', async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, 'kv.mdb');
    const kv = await LmdbKv.open({ path, bootId: 'first' });
    fill(kv, 1);
    await kv.sync();
    fill(kv, 2);
    const copy = join(directory, 'copy.mdb');
    await copyFile(path, copy);
    await copyFile(`${path}-anchor`, `${copy}-anchor`);
    const again = await LmdbKv.open({ path: copy, bootId: 'first' });
    assertFilledWith(again, 2);
    await again.close();
    await kv.close();
  });
});

test('a torn anchor slot gives way to the one before', async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, 'kv.mdb');
    const kv = await LmdbKv.open({ path, bootId: 'first' });
    fill(kv, 1);
    await kv.sync();
    const copy = join(directory, 'copy.mdb');
    await copyFile(path, copy);
    const anchor = await readFile(`${path}-anchor`);
    await kv.close();
    const anchorPath = `${copy}-anchor`;
    const newest = 256 * 1024 * (slotSequence(anchor, 0) > slotSequence(anchor, 1) ? 0 : 1);
    anchor[newest + 500] ^= 1;
    await writeFile(anchorPath, anchor);
    const restored = await LmdbKv.open({ path: copy, bootId: 'second' });
    assert.equal(restored.get(keyOf(1)), undefined);
    fill(restored, 5);
    assertFilledWith(restored, 5);
    await restored.close();
  });
});

function slotSequence(anchor: Buffer, slot: number): bigint {
  return anchor.readBigUInt64LE(slot * 256 * 1024 + 8);
}

test('syncs that are asked for while one runs are one, and cover what was committed before', async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, 'kv.mdb');
    const kv = await LmdbKv.open({ path, bootId: 'first' });
    const running = kv.sync();
    fill(kv, 4);
    const joined = kv.sync();
    assert.equal(kv.sync(), joined);
    assert.notEqual(running, joined);
    await joined;
    const anchor = await readFile(`${path}-anchor`);
    const sequence = Math.max(Number(slotSequence(anchor, 0)), Number(slotSequence(anchor, 1)));
    assert.equal(sequence, 3);
    const copy = join(directory, 'copy.mdb');
    await copyFile(path, copy);
    await copyFile(`${path}-anchor`, `${copy}-anchor`);
    const restored = await LmdbKv.open({ path: copy, bootId: 'second' });
    assertFilledWith(restored, 4);
    await restored.close();
    await kv.close();
  });
});

test('syncs reuse what they free, and files are their owner’s alone', async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, 'kv.mdb');
    const kv = await LmdbKv.open({ path });
    fill(kv, 1);
    await kv.sync();
    fill(kv, 1);
    await kv.sync();
    const early = (await stat(path)).size;
    for (let round = 0; round < 12; round++) {
      fill(kv, round);
      await kv.sync();
    }
    assert.ok((await stat(path)).size < early * 3);
    for (const suffix of ['', '-lock', '-anchor']) {
      assert.equal((await stat(path + suffix)).mode & 0o777, 0o600, suffix);
    }
    await kv.close();
  });
});
