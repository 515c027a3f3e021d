/** Bits that are flipped in a store on the disk, as programs meet them through a mount, and what is done about them. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { LmdbKv } from '../../engine/kv/lmdb-kv.ts';
import { native } from '../../engine/native.ts';
import { errnoOf } from '../support/errno-of.ts';
import { mountTest } from '../support/family.ts';
import { startMount } from '../support/mount.ts';
import { Draws, testSeed } from '../support/random.ts';
import { chunkOf, onStore } from '../support/store-ground.ts';
import { objectsOf } from '../support/store-objects.ts';
import { flipBit } from './flip-bit.ts';

const PAGE_BYTES = 4096;
/** Where a page keeps its kind. */
const FLAGS_AT = 18;

function hashOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Parts of a chunk object (engine/store/FORMAT.md): its fields, tags, padding and ciphertext. */
function partsOf(bytes: number, plainBytes: number): [from: number, to: number][] {
  const tagsEnd = 64 + 16 * Math.ceil(plainBytes / 16_384);
  const dataAt = bytes - plainBytes;
  const fields = [8, 10, 12, 16, 24, 28, 32, 36, 48, 64];
  return [
    ...fields.map((to, index): [number, number] => [fields[index - 1] ?? 0, to]),
    [64, tagsEnd],
    ...(dataAt > tagsEnd ? [[tagsEnd, dataAt] as [number, number]] : []),
    [dataAt, bytes],
  ];
}

mountTest('a bit that is flipped in any part of a chunk object is EIO, named and found', () =>
  onStore(async (ground) => {
    const draws = new Draws(testSeed());
    const sizes = [4097, 65_536, 100_000, 300_001];
    const contents = new Map<string, Buffer>();
    await ground.mounted(({ dir }) => {
      for (const size of sizes) {
        for (let part = 0; part < 13; part++) {
          const name = `${size}-${part}`;
          contents.set(name, randomBytes(size));
          writeFileSync(join(dir, name), contents.get(name) as Buffer);
        }
      }
    });
    const parts = new Map(sizes.map((size) => [size, [] as string[]]));
    const flipped = new Map<string, string>();
    for (const object of objectsOf(ground.store)) {
      const { size: bytes } = statSync(object);
      const plainBytes = sizes.find(
        (size) =>
          partsOf(bytes, size).at(-1)?.[0] === bytes - size &&
          bytes > size &&
          bytes - size < 16_384,
      ) as number;
      const places = partsOf(bytes, plainBytes);
      const done = parts.get(plainBytes) as string[];
      const [from, to] = places[done.length % places.length] as [number, number];
      flipBit(object, from + draws.below(to - from), draws.below(8));
      done.push(chunkOf(object));
      flipped.set(chunkOf(object), `${plainBytes} bytes, part from ${from} to ${to}`);
    }
    assert.equal(flipped.size, contents.size);
    const mount = await ground.mounted(async ({ dir }) => {
      for (const name of contents.keys()) {
        const read = (async () => readFileSync(join(dir, name)))();
        assert.equal(await errnoOf(read), 'EIO', name);
      }
    });
    for (const [chunk, what] of flipped) assert.ok(mount.stderr().includes(chunk), what);
    const { findings } = await ground.fsck('--deep');
    const found = new Map(findings.map((finding) => [finding.subject, finding]));
    for (const [chunk, what] of flipped) {
      assert.match(found.get(chunk)?.code ?? '', /^CHUNK_(DAMAGED|LENGTH)$/, what);
      assert.equal(found.get(chunk)?.paths.length, 1, what);
    }
    assert.equal(findings.length, flipped.size);
  }),
);

/** Pages of the tree's file whose kind, once flipped, damages it. */
function pagesInUse(file: string, work: string): number[] {
  const pages: number[] = [];
  for (let page = 2; page < statSync(file).size / PAGE_BYTES; page++) {
    cpSync(file, work);
    flipBit(work, page * PAGE_BYTES + FLAGS_AT, 0);
    if (native().surveyPages(work).flawed > 0) pages.push(page);
  }
  return pages;
}

mountTest('a store with a damaged page is not mounted, and what can be read comes back', () =>
  onStore(async (ground) => {
    const contents = new Map<string, Buffer>();
    await ground.mounted(({ dir }) => {
      for (let index = 0; index < 120; index++) {
        const name = join(`d${index % 7}`, `f${index}`);
        mkdirSync(join(dir, `d${index % 7}`), { recursive: true });
        contents.set(name, randomBytes(index % 10 === 0 ? 5000 : 1 + 17 * index));
        writeFileSync(join(dir, name), contents.get(name) as Buffer);
      }
    });
    const tree = join(ground.store, 'tree');
    const file = join(tree, 'data.mdb');
    const kept = join(ground.store, '..', 'whole');
    cpSync(tree, kept, { recursive: true });
    const pages = pagesInUse(file, join(ground.store, '..', 'work.mdb'));
    assert.ok(pages.length > 10, `${pages}`);
    const draws = new Draws(testSeed());
    const chunks = objectsOf(ground.store).length;
    let repaired = 0;
    for (let round = 0; round < 2; round++) {
      const page = draws.pick(pages);
      flipBit(file, page * PAGE_BYTES + FLAGS_AT, 0);
      await assert.rejects(startMount({ storeDir: ground.store }), /is damaged: page \d+: /);
      assert.equal((await ground.gc()).status, 1);
      const before = readFileSync(file);
      const found = await ground.fsck();
      assert.equal(found.status, 1);
      assert.ok(found.findings.some(({ code }) => code === 'TREE_PAGE_DAMAGED'));
      assert.ok(readFileSync(file).equals(before), 'a check changed the file');
      const mended = await ground.fsck('--repair').catch(() => undefined);
      if (mended === undefined) {
        assert.ok(readFileSync(file).equals(before), 'a repair that failed changed the file');
      } else {
        repaired++;
        for (const { code, repaired: isDone } of mended.findings) {
          if (code === 'TREE_PAGE_DAMAGED') assert.ok(isDone);
        }
        assert.ok(readFileSync(`${file}-damaged`).equals(before));
        assert.match((await ground.gc()).stderr, /a damaged tree is kept/);
        await ground.mounted(async ({ dir }) => {
          compare(dir, contents);
          assert.match((await ground.gc()).stderr, /a damaged tree is kept/);
        });
      }
      rmSync(tree, { recursive: true });
      cpSync(kept, tree, { recursive: true });
    }
    assert.ok(repaired > 0);
    assert.equal(objectsOf(ground.store).length, chunks);
    renameSync(kept, `${kept}-done`);
    assert.equal((await ground.fsck('--deep')).status, 0);
  }),
);

/** Where the first record of a kind that is in use lies in a tree's file. */
function keyInUse(file: string, work: string, key: Buffer): number {
  const bytes = readFileSync(file);
  for (let at = bytes.indexOf(key); at >= 0; at = bytes.indexOf(key, at + 1)) {
    cpSync(file, work);
    flipBit(work, at, 0);
    if (native().surveyPages(work).flawed > 0) return at;
  }
  throw new Error('no record with that key is in use');
}

mountTest('a record under a key with a flipped bit is not passed by: a repair puts it right', () =>
  onStore(async (ground) => {
    const contents = new Map<string, Buffer>();
    await ground.mounted(({ dir }) => {
      for (let index = 0; index < 30; index++) {
        contents.set(`f${index}`, randomBytes(index % 3 === 0 ? 5000 : 1 + 17 * index));
        writeFileSync(join(dir, `f${index}`), contents.get(`f${index}`) as Buffer);
        // Content that is gone from it would look like a hole.
        truncateSync(join(dir, `f${index}`), 3 << 20);
      }
    });
    const file = join(ground.store, 'tree', 'data.mdb');
    const draws = new Draws(testSeed());
    const numbers = Buffer.alloc(8);
    numbers.writeBigUInt64BE(1n);
    // A name in the root, the inode of one, and its content.
    const keys = [Buffer.from('d'), Buffer.from('i'), Buffer.from('x')];
    for (const kind of keys) {
      const key = await firstKey(file, Buffer.concat([kind, numbers]));
      const at = keyInUse(file, join(ground.store, '..', 'work.mdb'), key);
      flipBit(file, at + draws.below(key.length), draws.below(8));
      await assert.rejects(startMount({ storeDir: ground.store }), /is damaged: page \d+: /);
      const { findings } = await ground.fsck();
      assert.deepEqual([...new Set(findings.map(({ code }) => code))], ['TREE_PAGE_DAMAGED']);
      const mended = await ground.fsck('--repair');
      assert.ok(mended.findings.every(({ repaired }) => repaired));
      await ground.mounted(({ dir }) => {
        assert.equal(readdirSync(dir).length, contents.size);
        for (const [name, content] of contents) {
          const read = readFileSync(join(dir, name));
          assert.ok(read.subarray(0, content.length).equals(content), name);
          assert.ok(
            read.subarray(content.length).every((byte) => byte === 0),
            name,
          );
        }
      });
      assert.equal((await ground.fsck('--deep')).status, 0);
      for (const name of readdirSync(join(file, '..'))) {
        if (name.includes('-damaged')) rmSync(join(file, '..', name));
      }
    }
  }),
);

/** The first key that is not below another. */
async function firstKey(file: string, from: Buffer): Promise<Buffer> {
  const kv = await LmdbKv.open({ path: file });
  try {
    let found: Buffer | undefined;
    kv.scan(from, Uint8Array.of(0xff), (key) => {
      found = Buffer.from(key);
      return false;
    });
    assert.ok(found !== undefined);
    return found;
  } finally {
    await kv.close();
  }
}

/** Whatever is there under any name is what was written. */
function compare(dir: string, contents: ReadonlyMap<string, Buffer>): void {
  const hashes = new Set([...contents.values()].map(hashOf));
  for (const [name, content] of contents) {
    const path = join(dir, name);
    try {
      if (existsSync(path)) assert.ok(readFileSync(path).equals(content), name);
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'EIO', `${name}: ${error}`);
    }
  }
  const lost = join(dir, 'lost+found');
  for (const name of existsSync(lost) ? readdirSync(lost) : []) {
    if (!statSync(join(lost, name)).isFile()) continue;
    try {
      assert.ok(hashes.has(hashOf(readFileSync(join(lost, name)))), name);
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'EIO', `${name}: ${error}`);
    }
  }
}
