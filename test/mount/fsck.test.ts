import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { LmdbKv } from '../../engine/kv/lmdb-kv.ts';
import { mountTest } from '../support/family.ts';
import { runMillrace, withMount } from '../support/mount.ts';
import { Draws, testSeed } from '../support/random.ts';
import { chunkOf, type Ground, onStore } from '../support/store-ground.ts';
import { objectsOf } from '../support/store-objects.ts';

const MIB = 2 ** 20;

/** Files of every kind; the contents of those that have chunks. */
function fill(dir: string): Map<string, Buffer> {
  const contents = new Map([
    ['/d/large', randomBytes(9 * MIB + 77)],
    ['/d/e/medium', randomBytes(100_000)],
    ['/d/e/5000', randomBytes(5000)],
  ]);
  mkdirSync(join(dir, 'd/e'), { recursive: true });
  for (const [path, content] of contents) writeFileSync(join(dir, path), content);
  linkSync(join(dir, 'd/large'), join(dir, 'other-name'));
  writeFileSync(join(dir, 'small'), 'inside of the tree');
  symlinkSync('d/large', join(dir, 'link'));
  return contents;
}

/** The paths that a finding must name for a chunk, found by taking its object away. */
async function ownersOf({ fsck }: Ground, object: string): Promise<string[]> {
  renameSync(object, `${object}.away`);
  const { findings } = await fsck();
  renameSync(`${object}.away`, object);
  return [...(findings[0]?.paths ?? [])].sort();
}

mountTest('a store is clean after a mount, and a store in use is refused', () =>
  onStore(async (ground) => {
    await ground.mounted(async ({ dir }) => {
      fill(dir);
      const busy = await runMillrace(['fsck', '--store', ground.store, '--key-file', ground.key]);
      assert.equal(busy.status, 1);
      assert.match(busy.stderr, /another process uses the store.* \[STORE_BUSY\]$/m);
    });
    writeFileSync(join(ground.store, 'tmp', '1-1'), 'left over');
    const shallow = await ground.fsck();
    assert.deepEqual([shallow.status, shallow.findings], [0, []]);
    assert.deepEqual(shallow.leftovers, { files: 1, bytes: 9 });
    const deep = await ground.fsck('--deep');
    assert.deepEqual([deep.status, deep.findings], [0, []]);
    assert.equal(deep.chunks.used, 5);
    assert.equal(deep.chunks.unused, 0);
    const text = await runMillrace(['fsck', '--store', ground.store, '--key-file', ground.key]);
    assert.match(text.stdout, /5 chunks.*\nclean\n$/);
  }),
);

mountTest('a bit that is flipped anywhere in an object is found, and never read', () =>
  onStore(async (ground) => {
    let contents = new Map<string, Buffer>();
    const draws = new Draws(testSeed());
    await ground.mounted(({ dir }) => {
      contents = fill(dir);
    });
    for (const object of objectsOf(ground.store).slice(0, 3)) {
      const whole = readFileSync(object);
      const owners = await ownersOf(ground, object);
      assert.ok(owners.length > 0);
      // Every bit of an object is flipped in native/store/tests/upkeep.rs.
      const places = [draws.below(whole.length), draws.below(Math.min(8192, whole.length))];
      const damaged = Buffer.from(whole);
      for (const at of places) {
        whole.copy(damaged);
        damaged[at] ^= 1 << draws.below(8);
        writeFileSync(object, damaged);
        const { status, findings } = await ground.fsck('--deep');
        assert.equal(status, 1);
        assert.deepEqual(
          findings.map(({ code, subject }) => [code, subject]),
          [['CHUNK_DAMAGED', chunkOf(object)]],
          `byte ${at} of ${whole.length}`,
        );
        assert.deepEqual([...findings[0].paths].sort(), owners);
      }
      const mount = await ground.mounted(({ dir }) => {
        for (const [path, content] of contents) {
          if (!owners.includes(path)) assert.ok(readFileSync(join(dir, path)).equals(content));
          else assert.throws(() => readFileSync(join(dir, path)), { code: 'EIO' });
        }
      });
      assert.match(mount.stderr(), new RegExp(chunkOf(object)));
      writeFileSync(object, whole);
    }
    assert.equal((await ground.fsck('--deep')).status, 0);
  }),
);

mountTest('damaged content that is stored again is whole for every file that needs it', () =>
  onStore(async (ground) => {
    let contents = new Map<string, Buffer>();
    await ground.mounted(({ dir }) => {
      contents = fill(dir);
    });
    for (const object of objectsOf(ground.store)) truncateSync(object, 100);
    const damaged = await ground.fsck('--deep');
    assert.equal(damaged.findings.length, 5);
    assert.match(damaged.findings[0].advice, /^Move its object out of chunks/);
    for (const object of objectsOf(ground.store)) unlinkSync(object);
    await ground.mounted(({ dir }) => {
      let number = 0;
      for (const content of contents.values()) writeFileSync(join(dir, `${number++}`), content);
    });
    assert.equal((await ground.fsck('--deep')).status, 0);
    await ground.mounted(({ dir }) => {
      for (const [path, content] of contents) {
        assert.ok(readFileSync(join(dir, path)).equals(content));
      }
    });
  }),
);

mountTest('objects that are gone, shorter or longer are found without opening any', () =>
  onStore(async (ground) => {
    await ground.mounted(({ dir }) => {
      fill(dir);
    });
    for (const object of objectsOf(ground.store).slice(0, 2)) {
      const whole = readFileSync(object);
      const cases = [
        [(): void => truncateSync(object, whole.length - 1), 'CHUNK_LENGTH'],
        [(): void => truncateSync(object, 0), 'CHUNK_LENGTH'],
        [(): void => writeFileSync(object, 'x', { flag: 'a' }), 'CHUNK_LENGTH'],
        [(): void => unlinkSync(object), 'CHUNK_MISSING'],
      ] as const;
      for (const [damage, expected] of cases) {
        damage();
        const { status, findings } = await ground.fsck();
        assert.equal(status, 1);
        assert.deepEqual(
          findings.map(({ code, subject }) => [code, subject]),
          [[expected, chunkOf(object)]],
        );
        assert.ok(findings[0].paths.some((path) => path.startsWith('/d/')));
        writeFileSync(object, whole);
      }
      assert.equal((await ground.fsck('--repair')).status, 0);
    }
  }),
);

/** Changes the records of a kind, one after another, and puts each back behind `look`. */
async function withRecords(
  store: string,
  change: (value: Buffer) => Buffer | undefined,
  look: (key: Buffer) => Promise<void>,
): Promise<void> {
  const file = join(store, 'tree', 'data.mdb');
  const records: [Buffer, Buffer][] = [];
  const kv = await LmdbKv.open({ path: file });
  // Keys that begin with NUL are the Kv's own: they are no records of the tree, and not sealed.
  kv.scan(Uint8Array.of(1), new Uint8Array(16).fill(255), (key, value) => {
    records.push([Buffer.from(key), Buffer.from(value)]);
    return true;
  });
  await kv.close();
  const put = async (key: Buffer, value: Buffer | undefined): Promise<void> => {
    const open = await LmdbKv.open({ path: file });
    open.transact((transaction) => {
      if (value === undefined) transaction.remove(key);
      else transaction.put(key, value);
    });
    await open.close();
  };
  for (const [key, value] of records) {
    await put(key, change(value));
    await look(key);
    await put(key, value);
  }
}

/** Bytes at the end of a sealed value that check its key (engine/store/FORMAT.md). */
const CHECK_BYTES = 4;

mountTest('a bit that is flipped in any record of the tree is found', () =>
  onStore(async (ground) => {
    await ground.mounted(({ dir }) => {
      fill(dir);
    });
    const draws = new Draws(testSeed());
    let isCheckFlipped = false;
    const flip = (value: Buffer): Buffer => {
      const damaged = Buffer.from(value);
      const at = draws.below(damaged.length);
      damaged[at] ^= 1 << draws.below(8);
      isCheckFlipped = at >= damaged.length - CHECK_BYTES;
      return damaged;
    };
    let kindSwept: number | undefined;
    const pathOf: Record<string, RegExp | undefined> = {
      INODE_DAMAGED: /^\//,
      NAME_DAMAGED: /^\/.*<a name that is lost>$/,
      REGION_DAMAGED: /^\/(d|other-name|small)/,
    };
    await withRecords(ground.store, flip, async (key) => {
      const { status, findings } = await ground.fsck();
      assert.equal(status, 1, key.toString('hex'));
      if (isCheckFlipped) {
        // Nobody knows then whether the key is the one that was flipped.
        assert.deepEqual(
          findings.map(({ code }) => code),
          ['TREE_PAGE_DAMAGED'],
        );
        return;
      }
      const found = findings.find(({ subject }) => subject.includes(key.toString('hex', 1)));
      assert.match(found?.code ?? '', /_DAMAGED$/);
      const path = pathOf[found?.code ?? ''];
      if (path !== undefined) assert.match(found?.paths[0] ?? '', path);
      if (key[0] === kindSwept) return;
      kindSwept = key[0];
      const swept = await ground.gc();
      assert.equal(swept.status, 1);
      assert.match(swept.stderr, /nothing was deleted/);
    });
    assert.equal((await ground.fsck('--deep')).status, 0);
    assert.equal(objectsOf(ground.store).length, 5);
  }),
);

mountTest('a file whose name is gone comes back in lost+found', () =>
  onStore(async (ground) => {
    let contents = new Map<string, Buffer>();
    await ground.mounted(({ dir }) => {
      contents = fill(dir);
    });
    const file = join(ground.store, 'tree', 'data.mdb');
    const kv = await LmdbKv.open({ path: file });
    const names: Buffer[] = [];
    const [from, to] = [Uint8Array.of(0x64), Uint8Array.of(0x65)];
    kv.scan(from, to, (key) => names.push(Buffer.from(key)) > 0);
    kv.transact((transaction) => {
      for (const name of names) transaction.remove(name);
    });
    await kv.close();
    const found = await ground.fsck();
    assert.equal(found.status, 1);
    assert.ok(found.findings.every(({ code }) => /UNREACHABLE|LINK_COUNT/.test(code)));
    const repaired = await ground.fsck('--repair', '--deep');
    assert.equal(repaired.status, 4, JSON.stringify(repaired.findings));
    assert.ok(repaired.findings.every((finding) => finding.repaired));
    assert.equal((await ground.fsck('--deep')).status, 0);
    await ground.mounted(({ dir }) => {
      const lost = join(dir, 'lost+found');
      const hashes = new Set<string>();
      for (const name of readdirSync(lost)) {
        const path = join(lost, name);
        if (execFileSync('stat', ['-c', '%F', path]).toString() !== 'regular file\n') continue;
        hashes.add(hashOf(readFileSync(path)));
        assert.equal(statSync(path).nlink, 1);
      }
      for (const content of contents.values()) assert.ok(hashes.has(hashOf(content)));
    });
  }),
);

function hashOf(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

/** Random work on a few files and directories; calls that fail are part of it. */
function work(dir: string, steps: number, draws: Draws): void {
  const names = Array.from({ length: 12 }, (_, index) => `n${index}`);
  const some = (): string => {
    const parts = Array.from({ length: 1 + draws.below(3) }, () => draws.pick(names));
    return join(dir, ...parts);
  };
  const bytes = (most: number): Buffer => randomBytes(1 + draws.below(most));
  const actions: (() => void)[] = [
    () => mkdirSync(some()),
    () => writeFileSync(some(), bytes(3000)),
    () => writeFileSync(some(), bytes(6 * MIB)),
    () => {
      const file = openSync(some(), 'r+');
      try {
        writeSync(file, bytes(300_000), 0, undefined, draws.below(9 * MIB));
        if (draws.below(3) === 0) ftruncateSync(file, draws.below(9 * MIB));
      } finally {
        closeSync(file);
      }
    },
    () => truncateSync(some(), draws.below(10_000)),
    () => truncateSync(some(), draws.below(20 * MIB)),
    () => renameSync(some(), some()),
    () => renameSync(some(), some()),
    () => linkSync(some(), some()),
    () => symlinkSync('somewhere', some()),
    () => unlinkSync(some()),
    () => rmSync(some(), { recursive: true }),
    () => {
      const from = some();
      execFileSync('cp', ['--reflink=auto', from, some()], { stdio: 'ignore' });
    },
    () => {
      const file = openSync(some(), 'r+');
      const args = ['-p', '-o', `${draws.below(MIB)}`, '-l', `${MIB}`, `/dev/fd/3`];
      try {
        execFileSync('fallocate', args, { stdio: ['ignore', 'ignore', 'ignore', file] });
      } finally {
        closeSync(file);
      }
    },
  ];
  for (let step = 0; step < steps; step++) {
    try {
      draws.pick(actions)();
    } catch (error) {
      const { code, status } = error as { code?: string; status?: number };
      assert.match(
        code ?? `exit ${status}`,
        /^(E(NOENT|EXIST|NOTDIR|ISDIR|NOTEMPTY|INVAL|PERM|LOOP|RR_\w+)|exit 1)$/,
      );
    }
  }
}

mountTest('a store is clean after random work, and after one that a kill ended', () =>
  onStore(async (ground) => {
    const seed = testSeed();
    const draws = new Draws(seed);
    await ground.mounted(({ dir }) => work(dir, 600, draws));
    const first = await ground.fsck('--deep');
    assert.deepEqual([first.status, first.findings], [0, []], `seed ${seed}`);
    await withMount({ storeDir: ground.store }, async (mount) => {
      work(mount.dir, 600, draws);
      await mount.kill9();
    });
    const second = await ground.fsck('--deep');
    assert.deepEqual([second.status, second.findings], [0, []], `seed ${seed}, after the kill`);
    const { unused, unusedBytes, usedBytes } = second.chunks;
    const counted = JSON.parse((await ground.gc('--dry-run', '--json')).stdout);
    const swept = JSON.parse((await ground.gc('--json')).stdout);
    assert.deepEqual({ ...swept, dryRun: true, leftovers: counted.leftovers }, counted);
    // Files without a name go too, and with them what only they needed.
    assert.ok(swept.deleted >= unused && swept.deletedBytes >= unusedBytes);
    if (swept.orphans === 0) assert.equal(swept.deleted, unused);
    const third = await ground.fsck('--deep');
    assert.deepEqual([third.status, third.findings, third.chunks.unused], [0, [], 0]);
    assert.equal(third.chunks.usedBytes, usedBytes - (swept.deletedBytes - unusedBytes));
  }),
);

mountTest('gc deletes what no file needs, and nothing else', () =>
  onStore(async (ground) => {
    let contents = new Map<string, Buffer>();
    await ground.mounted(({ dir }) => {
      contents = fill(dir);
      rmSync(join(dir, 'd/e/medium'));
      rmSync(join(dir, 'd/large'));
    });
    // A file that is open when its mount is killed stays as one without a name.
    await withMount({ storeDir: ground.store }, async (mount) => {
      const file = openSync(join(mount.dir, 'd/e/5000'), 'r');
      rmSync(join(mount.dir, 'd/e/5000'));
      // sync(1) would not reach the mount: the kernel asks only some of them.
      writeFileSync(join(mount.dir, '.millrace/commit'), '1');
      await mount.kill9();
      assert.throws(() => readSync(file, Buffer.alloc(1)), { code: 'ENOTCONN' });
      closeSync(file);
    });
    writeFileSync(join(ground.store, 'tmp', '1-1'), 'left over');
    const before = objectsOf(ground.store);
    const young = JSON.parse((await ground.gc('--grace', '1h', '--json')).stdout);
    assert.deepEqual([young.deleted, young.young, young.leftovers.files], [0, 2, 1]);
    assert.ok(young.orphans >= 1);
    const counted = JSON.parse((await ground.gc('--dry-run', '--json')).stdout);
    assert.deepEqual([counted.deleted, counted.orphans], [2, 0]);
    assert.ok(counted.deletedBytes > 105_000 && counted.deletedBytes < 115_000);
    assert.deepEqual(objectsOf(ground.store), before);
    assert.match((await ground.gc()).stdout, /^deleted 2 chunks/);
    assert.equal(objectsOf(ground.store).length, before.length - 2);
    assert.equal(existsSync(join(ground.store, 'tmp', '1-1')), false);
    assert.equal((await ground.fsck('--deep')).status, 0);
    await ground.mounted(({ dir }) => {
      assert.ok(readFileSync(join(dir, 'other-name')).equals(contents.get('/d/large') as Buffer));
      // What was deleted can be stored again.
      writeFileSync(join(dir, 'again'), contents.get('/d/e/medium') as Buffer);
    });
    assert.equal((await ground.fsck('--deep')).status, 0);
    assert.equal((await ground.gc('--grace', 'soon')).status, 2);
  }),
);

mountTest('a store without its tree is refused, and nothing is made or deleted', () =>
  onStore(async (ground) => {
    await ground.mounted(({ dir }) => {
      fill(dir);
    });
    rmSync(join(ground.store, 'tree', 'data.mdb'));
    for (const command of ['fsck', 'gc']) {
      const result = await runMillrace([
        command,
        '--store',
        ground.store,
        '--key-file',
        ground.key,
      ]);
      assert.equal(result.status, 1);
      assert.match(result.stderr, /the tree of the store .* is missing/);
    }
    assert.equal(existsSync(join(ground.store, 'tree', 'data.mdb')), false);
    assert.equal(objectsOf(ground.store).length, 5);
  }),
);
