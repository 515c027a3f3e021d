import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { LmdbKv } from '../../engine/kv/lmdb-kv.ts';
import { resealTree } from '../../workers/upkeep/reseal-tree.ts';
import { TestSealer } from '../tree/test-sealer.ts';

const ENTRIES = 3000;
/** What a reboot is to a Kv. */
const OTHER_BOOT = 'another run of the machine';

async function inDirectory(
  body: (file: string, directory: string) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-reseal-'));
  try {
    await body(join(directory, 'data.mdb'), directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Keys of several lengths, and values from nothing to more than a batch holds. */
function entry(n: number): { key: Buffer; plain: Buffer } {
  const key = Buffer.from(`k${n}`.padEnd(2 + (n % 400), '.'));
  return { key, plain: Buffer.alloc(n % 500 === 7 ? 700_000 : n % 90, n) };
}

async function fill(file: string, sealer: TestSealer): Promise<void> {
  const kv = await LmdbKv.open({ path: file });
  for (let n = 0; n < ENTRIES; n += 100) {
    kv.transact(() => {
      for (let i = n; i < n + 100; i++) {
        const { key, plain } = entry(i);
        kv.put(key, sealer.seal(key, plain));
      }
    });
  }
  await kv.close();
}

/** All values as they are stored, by key. */
async function sealedIn(file: string, bootId?: string): Promise<Map<string, Buffer>> {
  const kv = await LmdbKv.open({ path: file, ...(bootId !== undefined && { bootId }) });
  try {
    const all = new Map<string, Buffer>();
    kv.scan(Uint8Array.of(0), Buffer.alloc(16, 0xff), (key, value) => {
      all.set(Buffer.from(key).toString('latin1'), Buffer.from(value));
      return true;
    });
    return all;
  } finally {
    await kv.close();
  }
}

function assertAll(all: Map<string, Buffer>, sealer: TestSealer): void {
  assert.equal(all.size, ENTRIES);
  for (let n = 0; n < ENTRIES; n++) {
    const { key, plain } = entry(n);
    const sealed = all.get(key.toString('latin1'));
    assert.ok(sealed !== undefined && Buffer.from(sealer.open(key, sealed)!).equals(plain), `${n}`);
  }
}

test('every value is sealed anew in a file that needs no anchor after a power loss', () =>
  inDirectory(async (file, directory) => {
    const sealer = new TestSealer();
    await fill(file, sealer);
    const before = await sealedIn(file);
    let values = 0;
    assert.equal(await resealTree(file, sealer, () => values++), undefined);
    assert.equal(values, ENTRIES);
    assert.ok(!existsSync(`${file}-anchor`));
    assert.ok(readdirSync(directory).every((name) => !name.includes('-next')));
    const after = await sealedIn(file, OTHER_BOOT);
    assertAll(after, sealer);
    for (const [key, sealed] of before) assert.ok(!sealed.equals(after.get(key)!), key);
  }));

test('a power loss between the two names leaves the old tree, which needs no anchor either', () =>
  inDirectory(async (file) => {
    const sealer = new TestSealer();
    await fill(file, sealer);
    rmSync(`${file}-anchor`);
    assertAll(await sealedIn(file, OTHER_BOOT), sealer);
  }));

test('the place in the write-ahead log stays as it is, for it is not sealed', () =>
  inDirectory(async (file) => {
    const sealer = new TestSealer();
    await fill(file, sealer);
    const [log, position] = [Buffer.from('\0log', 'latin1'), Buffer.from('position')];
    const kv = await LmdbKv.open({ path: file });
    kv.transact(() => kv.put(log, position));
    await kv.close();
    assert.equal(await resealTree(file, sealer, () => {}), undefined);
    assert.deepEqual((await sealedIn(file)).get(log.toString('latin1')), position);
  }));

test('what an earlier attempt has left is in nobody’s way', () =>
  inDirectory(async (file) => {
    const sealer = new TestSealer();
    await fill(file, sealer);
    for (const end of ['', '-lock', '-anchor']) copyFileSync(file, `${file}-next${end}`);
    assert.equal(await resealTree(file, sealer, () => {}), undefined);
    assertAll(await sealedIn(file), sealer);
  }));

test('a value that does not open is named, and everything stays as it was', () =>
  inDirectory(async (file, directory) => {
    const sealer = new TestSealer();
    await fill(file, sealer);
    const kv = await LmdbKv.open({ path: file });
    const { key } = entry(1234);
    kv.transact(() => kv.put(key, Buffer.alloc(50)));
    await kv.close();
    const before = await sealedIn(file);
    assert.equal(await resealTree(file, sealer, () => {}), key.toString('hex'));
    assert.deepEqual(await sealedIn(file), before);
    assert.ok(readdirSync(directory).every((name) => !name.includes('-next')));
  }));
