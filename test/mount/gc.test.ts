import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  copyFile,
  open,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { ask } from '../../bin/order-socket.ts';
import { findServing } from '../../bin/serving-record.ts';
import { LmdbKv } from '../../engine/kv/lmdb-kv.ts';
import type { SweepReport } from '../../engine/native.ts';
import { KEY } from '../../engine/tree/keys.ts';
import { mountTest } from '../support/family.ts';
import { eventually, type Mount, runMillrace, withMount } from '../support/mount.ts';
import { Draws, testSeed } from '../support/random.ts';
import { objectsOf, objectsUsage } from '../support/store-objects.ts';

const MIB = 2 ** 20;

/** A mount that commands can find: it says so a moment after it stands. */
function withServed(
  flags: readonly string[],
  body: (mount: Mount) => Promise<void>,
): Promise<void> {
  return withMount({ flags }, async (mount) => {
    assert.ok(await eventually(() => findServing(mount.storeDir) !== undefined, 30_000));
    await body(mount);
  });
}

/** What `millrace gc` says with these flags. */
async function gc({ storeDir }: Mount, ...flags: string[]): Promise<SweepReport> {
  const result = await runMillrace(['gc', '--store', storeDir, '--json', ...flags]);
  assert.equal(result.status, 0, result.stderr);
  return JSON.parse(result.stdout);
}

/** The same without a process of its own. */
async function collect({ storeDir }: Mount): Promise<SweepReport> {
  const serving = findServing(storeDir);
  assert.ok(serving !== undefined, 'nobody serves the store');
  return ask(serving, { order: 'gc', graceSeconds: 0, dryRun: false });
}

async function fsckIsClean({ storeDir, keyFile }: Mount): Promise<number> {
  const words = ['fsck', '--deep', '--json', '--store', storeDir, '--key-file', keyFile];
  const { status, stdout, stderr } = await runMillrace(words);
  assert.equal(status, 0, `${stdout} ${stderr}`);
  return (JSON.parse(stdout) as { chunks: { unused: number } }).chunks.unused;
}

mountTest('garbage of a mounted store is deleted, and its room comes back', async () => {
  await withServed([], async (mount) => {
    const at = (name: string): string => join(mount.dir, name);
    const [large, kept] = [randomBytes(9 * MIB + 77), randomBytes(6 * MIB)];
    await writeFile(at('large'), large);
    await copyFile(at('large'), at('copy'));
    await writeFile(at('kept'), kept);
    await writeFile(at('small'), 'inside of the tree');
    // Commits what the copy names.
    await writeFile(at('.millrace/commit'), '1');
    const before = { objects: objectsOf(mount.storeDir), bytes: objectsUsage(mount.storeDir) };
    assert.equal((await gc(mount)).deleted, 0);
    await rm(at('large'));
    assert.equal((await gc(mount)).deleted, 0, 'the copy needs it');
    assert.ok((await readFile(at('copy'))).equals(large));
    await writeFile(at('copy'), 'short');
    assert.equal((await gc(mount, '--grace', '1h')).deleted, 0);
    const counted = await gc(mount, '--dry-run');
    assert.ok(counted.deleted >= 3 && counted.deletedBytes > 9 * MIB);
    assert.deepEqual(objectsOf(mount.storeDir), before.objects);
    const swept = await gc(mount);
    assert.deepEqual([swept.deleted, swept.used], [counted.deleted, counted.used]);
    assert.ok(before.bytes - objectsUsage(mount.storeDir) >= 9 * MIB);
    assert.ok((await readFile(at('kept'))).equals(kept));
    await writeFile(at('large'), large);
    assert.ok((await readFile(at('large'))).equals(large), 'what was deleted can come back');
    const status = JSON.parse(await readFile(at('.millrace/status'), 'utf8'));
    assert.equal(status.gc.phase, 'idle');
    assert.equal(status.gc.last.deleted, swept.deleted);
    assert.equal(await mount.umount(), 0, mount.stderr());
    assert.equal(await fsckIsClean(mount), 0);
  });
});

const asRoot = { root: true } as const; // Who else may look at the descriptors of a process that hides its memory?

mountTest(
  'no descriptor keeps what was deleted',
  async () => {
    await withServed([], async (mount) => {
      const path = join(mount.dir, 'file');
      await writeFile(path, randomBytes(9 * MIB));
      await readFile(path);
      const descriptors = `/proc/${mount.pid}/fd`;
      const held = async (): Promise<string[]> => {
        const names = await readdir(descriptors);
        const targets = names.map((name) => readlink(join(descriptors, name)).catch(() => ''));
        return (await Promise.all(targets)).filter((target) => target.includes('/chunks/'));
      };
      // Past the pages that the kernel keeps.
      await writeFile(join(mount.dir, '.millrace/commit'), '1');
      execFileSync('dd', [`if=${path}`, 'of=/dev/null', 'bs=1M', 'iflag=direct', 'status=none']);
      assert.ok((await held()).some((target) => /\/[0-9a-f]{62}$/.test(target)));
      await writeFile(path, 'short');
      assert.equal((await gc(mount)).deleted, 3);
      assert.deepEqual(
        (await held()).filter((target) => target.endsWith('(deleted)')),
        [],
      );
    });
  },
  asRoot,
);

mountTest('files that are open, unlinked or not yet committed keep their content', async () => {
  await withServed(['-o', 'commit_interval=0'], async (mount) => {
    const at = (name: string): string => join(mount.dir, name);
    const [unlinked, written] = [randomBytes(9 * MIB), randomBytes(9 * MIB)];
    await writeFile(at('unlinked'), unlinked);
    const reader = await open(at('unlinked'), 'r');
    await rm(at('unlinked'));
    const writer = await open(at('written'), 'w+');
    await writer.write(written);
    for (let round = 0; round < 2; round++) {
      await collect(mount);
      const bytes = Buffer.alloc(9 * MIB);
      await reader.read(bytes, 0, bytes.length, 0);
      assert.ok(bytes.equals(unlinked));
      await writer.read(bytes, 0, bytes.length, 0);
      assert.ok(bytes.equals(written));
    }
    await reader.close();
    await writer.sync();
    await writer.close();
    // The kernel lets go of an inode in its own time.
    let left = 4;
    for (let tries = 0; tries < 50 && left > 3; tries++) {
      await collect(mount);
      left = objectsOf(mount.storeDir).length;
    }
    assert.equal(left, 3);
    assert.ok((await readFile(at('written'))).equals(written));
    assert.equal(await mount.umount(), 0, mount.stderr());
    assert.equal(await fsckIsClean(mount), 0);
  });
});

mountTest('garbage is collected on a schedule, unless that is switched off', async () => {
  await withMount({ flags: ['--gc-interval', '1s'] }, async (mount) => {
    await writeFile(join(mount.dir, 'file'), randomBytes(6 * MIB));
    await writeFile(join(mount.dir, 'file'), 'short');
    // Scheduled collections spare what is younger than the interval.
    assert.ok(await eventually(() => objectsOf(mount.storeDir).length === 0, 60_000, 100));
  });
  await withMount({ flags: ['--gc-interval', '0'] }, async ({ dir }) => {
    const status = JSON.parse(await readFile(join(dir, '.millrace/status'), 'utf8'));
    assert.deepEqual(status.gc, {
      intervalSeconds: 0,
      phase: 'idle',
      regionsMarked: 0,
      last: null,
    });
  });
});

/** Sizes of contents: a few bytes, some segments, a region, a region and more. */
const SIZES = [100, 5000, 70_000, 300_000, 4 * MIB, 4 * MIB + 9000] as const;
const FILES = 4;

/** A program that makes and removes files, out of few contents, and knows what they must be. */
class Writer {
  readonly #dir: string;
  readonly #draws: Draws;
  readonly #pool: readonly Buffer[];
  readonly #files = new Map<string, Buffer>();
  readonly #name: string;

  constructor(name: string, { dir }: Mount, draws: Draws, pool: readonly Buffer[]) {
    this.#name = name;
    this.#dir = dir;
    this.#draws = draws;
    this.#pool = pool;
  }

  async work(steps: number): Promise<void> {
    const actions = [
      () => this.#write(),
      () => this.#write(),
      () => this.#write(),
      () => this.#overwrite(),
      () => this.#copy(),
      () => this.#copy(),
      () => this.#truncate(),
      () => this.#remove(),
      () => this.#rename(),
      () => this.#read(),
      () => this.#read(),
    ];
    for (let step = 0; step < steps; step++) await this.#draws.pick(actions)();
  }

  async verify(): Promise<void> {
    for (const [path, content] of this.#files) await this.#compare(path, content);
  }

  #any(): string {
    return join(this.#dir, `${this.#name}${this.#draws.below(FILES)}`);
  }

  async #write(): Promise<void> {
    const [path, content] = [this.#any(), this.#draws.pick(this.#pool)];
    const file = await open(path, 'w');
    await file.write(content);
    if (this.#draws.below(3) === 0) await file.sync();
    await file.close();
    this.#files.set(path, content);
  }

  /** Part of a content over a part of a file, where regions begin and where they do not. */
  async #overwrite(): Promise<void> {
    const path = this.#any();
    const old = this.#files.get(path);
    if (old === undefined) return;
    const content = this.#draws.pick(this.#pool);
    const offset = this.#draws.pick([0, 4096, 4 * MIB, this.#draws.below(old.length + 1)]);
    const file = await open(path, 'r+');
    await file.write(content, 0, content.length, offset);
    await file.close();
    const changed = Buffer.alloc(Math.max(old.length, offset + content.length));
    old.copy(changed);
    content.copy(changed, offset);
    this.#files.set(path, changed);
  }

  async #copy(): Promise<void> {
    const [from, to] = [this.#any(), this.#any()];
    const content = this.#files.get(from);
    if (content === undefined || from === to) return;
    await copyFile(from, to);
    this.#files.set(to, content);
    if (this.#draws.below(2) === 0) await this.#removeFile(from);
  }

  async #truncate(): Promise<void> {
    const path = this.#any();
    const old = this.#files.get(path);
    if (old === undefined) return;
    const size = this.#draws.below(old.length + 1);
    await truncate(path, size);
    this.#files.set(path, old.subarray(0, size));
  }

  async #remove(): Promise<void> {
    const path = this.#any();
    if (this.#files.has(path)) await this.#removeFile(path);
  }

  async #removeFile(path: string): Promise<void> {
    await rm(path);
    this.#files.delete(path);
  }

  async #rename(): Promise<void> {
    const [from, to] = [this.#any(), this.#any()];
    const content = this.#files.get(from);
    if (content === undefined || from === to) return;
    await rename(from, to);
    this.#files.delete(from);
    this.#files.set(to, content);
  }

  async #read(): Promise<void> {
    const path = this.#any();
    const content = this.#files.get(path);
    if (content !== undefined) await this.#compare(path, content);
  }

  async #compare(path: string, content: Buffer): Promise<void> {
    assert.equal((await stat(path)).size, content.length);
    assert.ok((await readFile(path)).equals(content), `${path} holds something else`);
  }
}

mountTest('programs that write what was just deleted lose nothing to collections', async () => {
  const seed = testSeed();
  const draws = new Draws(seed);
  const flags = ['--slab', '64M', '-o', 'commit_interval=50', '-o', 'meta_ttl_ms=0'];
  await withServed(flags, async (mount) => {
    const pool = SIZES.map((size) => randomBytes(size));
    const writers = [0, 1, 2].map(
      (n) => new Writer(`w${n}-`, mount, new Draws(seed * 3 + n), pool),
    );
    let isDone = false;
    let deleted = 0;
    const collections = async (): Promise<void> => {
      while (!isDone) deleted += (await collect(mount)).deleted;
    };
    const context = `seed ${seed}: `;
    const work = Promise.all(writers.map((writer) => writer.work(150)));
    const ended = work.finally(() => {
      isDone = true;
    });
    await Promise.all([ended, collections()]).catch((error: Error) => {
      error.message = context + error.message;
      throw error;
    });
    assert.ok(deleted > 0, 'nothing was ever deleted: this proves nothing');
    for (const writer of writers) await writer.verify();
    if (draws.below(2) === 0) await mount.kill9();
    else assert.equal(await mount.umount(), 0, mount.stderr());
    assert.doesNotMatch(mount.stderr(), /cannot be read/);
    await fsckIsClean(mount);
    await mount.remount();
    for (const writer of writers) await writer.verify();
    assert.ok(await eventually(() => findServing(mount.storeDir) !== undefined, 30_000));
    await collect(mount);
    assert.equal(await mount.umount(), 0, mount.stderr());
    assert.equal(await fsckIsClean(mount), 0, `${context}garbage is left`);
  });
});

mountTest('nothing is deleted while a record of content cannot be read', async () => {
  await withServed([], async (mount) => {
    const at = (name: string): string => join(mount.dir, name);
    await writeFile(at('damaged'), randomBytes(5000));
    await writeFile(at('garbage'), randomBytes(5000));
    assert.equal(await mount.umount(), 0, mount.stderr());
    const kv = await LmdbKv.open({ path: join(mount.storeDir, 'tree', 'data.mdb') });
    kv.transact((transaction) => {
      const records: [Buffer, Buffer][] = [];
      kv.scan(Uint8Array.of(KEY.REGION), Uint8Array.of(KEY.REGION + 1), (key, value) => {
        records.push([Buffer.from(key), Buffer.from(value)]);
        return true;
      });
      assert.equal(records.length, 2);
      const [key, value] = records[0] as [Buffer, Buffer];
      value[value.length >> 1] = (value[value.length >> 1] as number) ^ 1;
      transaction.put(key, value);
    });
    await kv.close();
    await mount.remount();
    await rm(at('garbage'));
    const before = objectsOf(mount.storeDir);
    assert.equal(before.length, 2);
    const refused = await runMillrace(['gc', '--store', mount.storeDir]);
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /cannot be read.*nothing was deleted[\s\S]*next: .*fsck/);
    assert.deepEqual(objectsOf(mount.storeDir), before);
    const { gc } = JSON.parse(await readFile(at('.millrace/status'), 'utf8'));
    assert.match(gc.last.failure, /nothing was deleted/);
    // What made it fail is gone: the next one succeeds.
    await rm(at('damaged'));
    assert.equal((await collect(mount)).deleted, 2);
  });
});

mountTest('an unmount waits for no collection, and collections wait for one another', async () => {
  const seed = testSeed();
  const draws = new Draws(seed);
  await withServed([], async (mount) => {
    const at = (name: string): string => join(mount.dir, name);
    let kept = Buffer.alloc(0);
    for (let round = 0; round < 4; round++) {
      kept = randomBytes(70_000);
      for (let n = 0; n < 60; n++) await writeFile(at(`${n}`), randomBytes(5000 + n));
      for (let n = 0; n < 60; n++) await rm(at(`${n}`));
      await writeFile(at('kept'), kept);
      const asked = [collect(mount), collect(mount), collect(mount)];
      const ended = Promise.allSettled(asked);
      await pause(draws.below(60));
      assert.equal(await mount.umount(), 0, `seed ${seed}: ${mount.stderr()}`);
      for (const outcome of await ended) {
        if (outcome.status === 'fulfilled') continue;
        assert.match(String(outcome.reason), /the mount (ends|has ended)|does not answer/);
      }
      await fsckIsClean(mount);
      await mount.remount();
      assert.ok(await eventually(() => findServing(mount.storeDir) !== undefined, 30_000));
      assert.ok((await readFile(at('kept'))).equals(kept));
    }
    const both = await Promise.all([collect(mount), collect(mount)]);
    assert.equal(both[1].deleted, 0);
    assert.equal(objectsOf(mount.storeDir).length, 1);
  });
});
