/** Keys that are rotated between mounts: what was there stays, and what is killed on the way goes on. */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { openChunk, openValue } from '../format/decoder.ts';
import { Keys } from '../format/keys.ts';
import { openChunks, openTree, storedObjects, storedValues } from '../format/store-reader.ts';
import { mountTest } from '../support/family.ts';
import {
  assertClean,
  assertFiles,
  assertRefused,
  CHUNKS_OF_CONTENTS,
  contents,
  EPOCH_KEYS,
  type Kill,
  keyCommand,
  keyFiles,
  killAt,
  mustFail,
  mustSucceed,
  superblockOf,
  unmount,
  withStore,
  writeFiles,
} from '../support/key-store.ts';
import {
  type CommandResult,
  type Mount,
  runMillrace,
  temporaryDirectory,
  withMount,
  writeKey,
} from '../support/mount.ts';
import { searchDirectory, spellings } from '../support/secret-search.ts';

/** The keys of a store in its current epoch, as the second codec derives them. */
function keysOf(store: string): Keys {
  const superblock = superblockOf(store);
  const kek = EPOCH_KEYS[superblock.epoch - 1]!;
  return superblock.epoch === 1 ? new Keys(kek) : new Keys(kek, superblock);
}

/** What was sealed in each epoch: objects and values. */
async function epochsOf(store: string): Promise<{ objects: number[]; values: number[] }> {
  const objects = storedObjects(store).map(({ bytes }) => bytes.readUInt32LE(12));
  const values = (await storedValues(store)).map(({ sealed }) => sealed.readUInt32LE(1));
  const set = (all: number[]): number[] => [...new Set(all)].sort();
  return { objects: set(objects), values: set(values) };
}

function rotate(
  store: string,
  words: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  return keyCommand(['rotate', ...words], store, environment);
}

mountTest('content of three epochs is read, stored once, checked and sealed anew', () =>
  withMount({}, async (mount) => {
    const store = mount.storeDir;
    const base = temporaryDirectory('keys');
    try {
      const keys = keyFiles(base);
      writeFiles(mount.dir, contents(1));
      await unmount(mount);
      for (const epoch of [2, 3]) {
        const [old, next] = [keys[epoch - 2]!, keys[epoch - 1]!];
        const report = await mustSucceed(
          rotate(store, ['--key-file', old, '--new-key-file', next]),
        );
        assert.deepEqual([report['epoch'], report['rotated']], [epoch, true]);
        // The key of the epoch before is refused, and told why.
        await assert.rejects(mount.remount(), /key of the store until .* rotated, to epoch/);
        writeKey(mount.keyFile, EPOCH_KEYS[epoch - 1]!);
        await mount.remount();
        for (let before = 1; before < epoch; before++) assertFiles(mount.dir, contents(before));
        // Content of an earlier epoch is found again: no object comes for it.
        const objects = storedObjects(store).length;
        writeFiles(mount.dir, { again: contents(1)['large-1']! });
        await unmount(mount);
        assert.equal(storedObjects(store).length, objects);
        await mount.remount();
        writeFiles(mount.dir, contents(epoch));
        await unmount(mount);
        await assertClean(store, next);
        openChunks(keysOf(store), store);
        await openTree(keysOf(store), store);
      }
      assert.deepEqual((await epochsOf(store)).objects, [1, 2, 3]);
      await sweepOf(mount, keys[2]!);
      await rewriteOf(store, keys[2]!);
      await mount.remount();
      for (const epoch of [1, 3]) assertFiles(mount.dir, contents(epoch));
      await unmount(mount);
    } finally {
      rmSync(base, { recursive: true });
    }
  }),
);

/** Garbage of an earlier epoch is collected like any other. */
async function sweepOf(mount: Mount, keyFile: string): Promise<void> {
  await mount.remount();
  for (const name of Object.keys(contents(2))) rmSync(join(mount.dir, name));
  await unmount(mount);
  const before = storedObjects(mount.storeDir).length;
  const words = ['gc', '--json', '--store', mount.storeDir, '--key-file', keyFile];
  const report = await mustSucceed(runMillrace(words));
  assert.equal(report['deleted'], CHUNKS_OF_CONTENTS);
  assert.equal(storedObjects(mount.storeDir).length, before - CHUNKS_OF_CONTENTS);
}

/** What was sealed before opens with no earlier key afterwards, and nothing of it is left. */
async function rewriteOf(store: string, keyFile: string): Promise<void> {
  const values = await storedValues(store);
  const old = values.filter(({ sealed }) => sealed.readUInt32LE(1) < 3);
  assert.ok(old.length > 3, `only ${old.length} values of earlier epochs`);
  const tails = old.map(({ sealed }, n) => ({ name: `value ${n}`, bytes: sealed.subarray(-40) }));
  assert.ok(searchDirectory(store, tails).found.length > 0);
  const report = await mustSucceed(rotate(store, ['--rewrite', '--key-file', keyFile]));
  assert.deepEqual([report['rotated'], report['epochs']], [false, [3]]);
  const { resealed, current, unopened } = report['rewritten'] as Record<string, number>;
  assert.deepEqual([resealed! > 0, current! > 0, unopened], [true, true, 0]);
  assert.deepEqual(await epochsOf(store), { objects: [3], values: [3] });
  assert.deepEqual(keysOf(store).epochs, [3]);
  assert.deepEqual(searchDirectory(store, tails).found, []);
  for (const [n, kek] of EPOCH_KEYS.slice(0, 2).entries()) {
    // All that an earlier key derives, whatever epoch it is taken for.
    const leaked = new Keys(kek);
    for (const { id, bytes } of storedObjects(store)) {
      const forged = Buffer.from(bytes);
      forged.writeUInt32LE(1, 12);
      const told = `key of epoch ${n + 1}`;
      for (const object of [bytes, forged]) {
        assert.throws(() => openChunk(leaked, Buffer.from(id, 'hex'), object), told);
      }
    }
    for (const { key, sealed } of await storedValues(store)) {
      assert.throws(() => openValue(leaked, key, sealed));
    }
    assert.throws(() => new Keys(kek, superblockOf(store)));
  }
  await assertClean(store, keyFile);
  const again = await mustSucceed(rotate(store, ['--rewrite', '--key-file', keyFile]));
  assert.equal((again['rewritten'] as Record<string, number>)['resealed'], 0);
  const secrets = EPOCH_KEYS.flatMap((key, n) => spellings(`key of epoch ${n + 1}`, key));
  assert.deepEqual(searchDirectory(store, secrets).found, []);
}

mountTest('a rotation that is killed at any step goes on, and the new key is one', () =>
  withStore(async ({ store, keys, base }) => {
    const points: Kill[] = [
      ['superblock-rewritten', 1],
      ['superblock-replaced', 1],
      ['superblock-saved', 1],
    ];
    const made = join(base, 'made');
    const words = ['--key-file', keys[0]!, '--new-key-file', made];
    await killAt(
      { store, base },
      points,
      (copy, environment) => rotate(copy, words, environment),
      async (copy, point) => {
        assert.equal(statSync(made).mode & 0o777, 0o600);
        const key = readFileSync(made);
        const { epoch } = superblockOf(copy);
        assert.equal(epoch, point.startsWith('superblock-rewritten') ? 1 : 2, point);
        const report = await mustSucceed(rotate(copy, words));
        assert.deepEqual([report['epoch'], report['rotated']], [2, epoch === 1]);
        assert.ok(readFileSync(made).equals(key));
        await assertClean(copy, made);
        await mustFail(
          runMillrace(['fsck', '--store', copy, '--key-file', keys[0]!]),
          /key of the store until/,
        );
        assert.deepEqual(
          readdirSync(copy).filter((name) => name.startsWith('millrace.json')),
          ['millrace.json'],
        );
        rmSync(made);
      },
    );
  }),
);

mountTest('a rewrite that is killed at any step leaves every file whole, and goes on', () =>
  withStore(async ({ store, keys, base }) => {
    await mustSucceed(rotate(store, ['--key-file', keys[0]!, '--new-key-file', keys[1]!]));
    const points: Kill[] = [
      ['tree-resealed', 1],
      ['tree-unanchored', 1],
      ['tree-replaced', 1],
      ['object-written', 2],
      ['object-flushed', 1],
      ['object-replaced', 1],
      ['object-replaced', 3],
      ['superblock-rewritten', 1],
      ['superblock-replaced', 1],
      ['superblock-saved', 1],
    ];
    const words = ['--key-file', keys[1]!, '--rewrite'];
    await killAt(
      { store, base },
      points,
      (copy, environment) => rotate(copy, words, environment),
      async (copy, point) => {
        await assertClean(copy, keys[1]!);
        const chunks = openChunks(keysOf(copy), copy);
        assert.ok(chunks.size >= CHUNKS_OF_CONTENTS, point);
        const report = await mustSucceed(rotate(copy, words));
        assert.deepEqual(report['epochs'], [2], point);
        assert.deepEqual(await epochsOf(copy), { objects: [2], values: [2] }, point);
        assert.deepEqual(openChunks(keysOf(copy), copy), chunks, point);
        const trees = readdirSync(join(copy, 'tree')).filter((name) => name.includes('-next'));
        assert.deepEqual(trees, [], point);
      },
    );
  }),
);

mountTest('what only the log of a killed mount holds is sealed anew with the rest', () =>
  withMount({ flags: ['-o', 'commit_interval=0'] }, async (mount) => {
    const base = temporaryDirectory('keys');
    try {
      const keys = keyFiles(base);
      writeFiles(mount.dir, contents(1));
      await mount.kill9();
      const logs = readdirSync(join(mount.storeDir, 'tree')).filter((name) => /-log\d$/.test(name));
      assert.ok(logs.length > 0);
      const words = ['--key-file', keys[0]!, '--new-key-file', keys[1]!, '--rewrite'];
      const report = await mustSucceed(rotate(mount.storeDir, words));
      assert.deepEqual(report['epochs'], [2]);
      assert.deepEqual(await epochsOf(mount.storeDir), { objects: [2], values: [2] });
      writeKey(mount.keyFile, EPOCH_KEYS[1]!);
      await mount.remount();
      assertFiles(mount.dir, contents(1));
      await unmount(mount);
      await assertClean(mount.storeDir, keys[1]!);
    } finally {
      rmSync(base, { recursive: true });
    }
  }),
);

mountTest('what does not open is not sealed anew, and no key is forgotten for it', () =>
  withStore(async ({ store, keys }) => {
    await mustSucceed(rotate(store, ['--key-file', keys[0]!, '--new-key-file', keys[1]!]));
    const [victim] = storedObjects(store);
    const path = join(store, 'chunks', victim!.id.slice(0, 2), victim!.id.slice(2));
    const damaged = Buffer.from(victim!.bytes);
    damaged[damaged.length - 1]! ^= 1;
    writeFileSync(path, damaged);
    const { status, stdout } = await rotate(store, ['--key-file', keys[1]!, '--rewrite']);
    const report = JSON.parse(stdout);
    assert.deepEqual([status, report.epochs, report.rewritten.unopened], [1, [2, 1], 1]);
    assert.deepEqual(
      report.rewritten.named.map((chunk: { id: string }) => chunk.id),
      [victim!.id],
    );
    assert.ok(readFileSync(path).equals(damaged));
    // Put right, it is read with the key of its epoch still.
    writeFileSync(path, victim!.bytes);
    await assertClean(store, keys[1]!);
    const kept = join(store, 'tree', 'data.mdb-damaged');
    writeFileSync(kept, 'values of an earlier epoch');
    const refused = rotate(store, ['--key-file', keys[1]!, '--rewrite']);
    await mustFail(refused, /a damaged tree is kept/);
    rmSync(kept);
    const again = await mustSucceed(rotate(store, ['--key-file', keys[1]!, '--rewrite']));
    assert.deepEqual(again['epochs'], [2]);
  }),
);

mountTest(
  'a key that was forgotten does not come back, nor is one forgotten that a journal needs',
  () =>
    withStore(async ({ store, keys: [first, second, third], base }) => {
      const journals = join(base, 'journals');
      const aside = join(journals, superblockOf(store).uuid, 'put.aside');
      mkdirSync(dirname(aside), { recursive: true });
      writeFileSync(aside, '');
      const rewrite = ['--rewrite', '--journal-dir', journals];
      const once = ['--key-file', first, '--new-key-file', second, ...rewrite];
      await mustFail(
        rotate(store, once),
        /put aside is sealed under a key that would be forgotten/,
      );
      assert.equal(superblockOf(store).epoch, 1);
      rmSync(aside);
      await mustSucceed(rotate(store, once));
      const twice = ['--key-file', second, '--new-key-file', third, ...rewrite];
      await mustSucceed(rotate(store, twice));
      for (const old of [first, second]) {
        const back = ['--key-file', third, '--new-key-file', old];
        await mustFail(rotate(store, back), /is, or was, a key of this store/);
      }
      assert.equal(superblockOf(store).epoch, 3);
    }),
);

mountTest('nothing is rotated that is mounted, under a wrong key, or to a key of before', () =>
  withMount({}, async (mount) => {
    const base = temporaryDirectory('keys');
    try {
      const [first, second, third] = keyFiles(base);
      const made = join(base, 'made');
      const store = mount.storeDir;
      const to = ['--new-key-file', made];
      await mustFail(rotate(store, ['--key-file', first, ...to]), /another process uses the store/);
      await unmount(mount);
      await mustFail(rotate(store, ['--key-file', second, ...to]), /key is not the one/);
      await mustFail(rotate(store, ['--key-file', join(base, 'none'), ...to]), /no key file/);
      await mustFail(rotate(store, ['--key-file', first]), /nothing to do/);
      await mustFail(rotate(store, ['--key-file', first, '--new-key-file', first]), /old one/);
      const within = join(store, 'key');
      await mustFail(rotate(store, ['--key-file', first, '--new-key-file', within]), /within/);
      assert.deepEqual([existsSync(made), existsSync(within)], [false, false]);
      writeFileSync(made, 'no key', { mode: 0o600 });
      await mustFail(rotate(store, ['--key-file', first, ...to]), /wrong shape/);
      assert.equal(superblockOf(store).format, 1);
      await mustSucceed(rotate(store, ['--key-file', first, '--new-key-file', second]));
      const back = ['--key-file', second, '--new-key-file', first];
      await mustFail(rotate(store, back), /is, or was, a key of this store/);
      await mustFail(rotate(store, ['--key-file', first, '--new-key-file', third]), /rotated/);
      await assertRefused(store, /rotated/);
      assert.equal(superblockOf(store).epoch, 2);
    } finally {
      rmSync(base, { recursive: true });
    }
  }),
);
