import assert from 'node:assert/strict';
import { link, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { MillraceError } from '../../engine/errors.ts';
import {
  checkKey,
  confirmKeys,
  createSuperblock,
  FORMAT_OF_ROTATED,
  readAnySuperblock,
  readSuperblock,
  replaceSuperblock,
  SUPERBLOCK_FILE,
  type Superblock,
  type Tombstone,
} from '../../engine/store/superblock.ts';

const KEY_CHECK = 'a5'.repeat(32);
const OPTIONS = { keyCheck: KEY_CHECK, version: '0.1.0' };

const ENDED = '2026-02-03T04:05:06.789Z';
const NEXT_CHECK = 'b6'.repeat(32);

/** A superblock after its key was rotated. */
function rotated(made: Superblock): Superblock {
  return {
    ...made,
    format: FORMAT_OF_ROTATED,
    epoch: 2,
    keyCheck: NEXT_CHECK,
    keyRing: '01020000ff',
    rotations: [{ epoch: 1, keyCheck: KEY_CHECK, ended: ENDED }],
  };
}

function tombstone({ magic, version, uuid, created }: Superblock): Tombstone {
  return { magic, format: FORMAT_OF_ROTATED, version, uuid, created, shredded: ENDED };
}

async function inDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-superblock-'));
  try {
    await body(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

test('a store that was made can be read, and its file is the owner’s alone', async () => {
  await inDirectory(async (directory) => {
    const made = await createSuperblock(directory, OPTIONS);
    assert.deepEqual(await readSuperblock(directory), made);
    assert.deepEqual(await readdir(directory), [SUPERBLOCK_FILE]);
    assert.equal((await stat(join(directory, SUPERBLOCK_FILE))).mode & 0o777, 0o600);
    assert.equal(made.chunkBytes, 4_194_304);
    assert.equal(made.segmentBytes, 16_384);
  });
});

test('a second store in the same directory is refused and the first one stays', async () => {
  await inDirectory(async (directory) => {
    const made = await createSuperblock(directory, OPTIONS);
    await assert.rejects(createSuperblock(directory, OPTIONS), { code: 'STORE_EXISTS' });
    assert.deepEqual(await readSuperblock(directory), made);
    assert.deepEqual(await readdir(directory), [SUPERBLOCK_FILE]);
  });
});

test('a directory without a store, and no directory, are told apart from damage', async () => {
  await inDirectory(async (directory) => {
    await assert.rejects(readSuperblock(directory), { code: 'STORE_MISSING', exitStatus: 1 });
    await assert.rejects(readSuperblock(join(directory, 'none')), { code: 'STORE_MISSING' });
    await assert.rejects(createSuperblock(join(directory, 'none'), OPTIONS), { code: 'STORE_IO' });
  });
});

test('a newer format is refused and the message names who wrote it', async () => {
  await inDirectory(async (directory) => {
    const made = await createSuperblock(directory, OPTIONS);
    const path = join(directory, SUPERBLOCK_FILE);
    await writeFile(path, JSON.stringify({ magic: made.magic, format: 7, version: '9.8.7' }));
    await assert.rejects(readSuperblock(directory), (error) => {
      assert.ok(error instanceof MillraceError);
      assert.equal(error.code, 'STORE_NEWER');
      assert.match(error.message, /9\.8\.7/);
      return error.hint !== '';
    });
  });
});

test('every field is checked', async () => {
  await inDirectory(async (directory) => {
    const made = await createSuperblock(directory, OPTIONS);
    const path = join(directory, SUPERBLOCK_FILE);
    for (const name of Object.keys(made)) {
      for (const wrong of [undefined, null, {}, -1, 'wrong']) {
        if (name === 'version' && wrong === 'wrong') continue;
        await writeFile(path, JSON.stringify({ ...made, [name]: wrong }));
        await assert.rejects(readSuperblock(directory), { code: 'STORE_DAMAGED' }, name);
      }
    }
    for (const text of ['', '{', '7', 'null', (await readFile(path, 'utf8')).slice(0, 20)]) {
      await writeFile(path, text);
      await assert.rejects(readSuperblock(directory), { code: 'STORE_DAMAGED' }, text);
    }
    await writeFile(path, JSON.stringify({ ...made, later: 1 }));
    assert.equal((await readSuperblock(directory)).uuid, made.uuid);
  });
});

test('only the right key check passes', async () => {
  await inDirectory(async (directory) => {
    const made = await createSuperblock(directory, OPTIONS);
    checkKey(made, KEY_CHECK);
    for (const wrong of ['', 'a5', 'a6'.repeat(32)]) {
      assert.throws(() => checkKey(made, wrong), { code: 'KEY_WRONG' });
    }
  });
});

test('a flipped bit of the superblock is refused, or is in nothing that decides', async () => {
  await inDirectory(async (directory) => {
    const made = await createSuperblock(directory, OPTIONS);
    const path = join(directory, SUPERBLOCK_FILE);
    const bytes = await readFile(path);
    let refused = 0;
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3] ^= 1 << (bit & 7);
      await writeFile(path, flipped);
      try {
        const read = await readSuperblock(directory);
        checkKey(read, KEY_CHECK);
        const { version, uuid, created } = read;
        assert.deepEqual(read, { ...made, version, uuid, created }, `bit ${bit}`);
      } catch (error) {
        assert.ok(error instanceof MillraceError, `bit ${bit}: ${error}`);
        refused++;
      }
    }
    assert.ok(refused > bytes.length * 4, `${refused}`);
  });
});

test('a superblock of a rotated store takes the place of the first, and every field is checked', async () => {
  await inDirectory(async (directory) => {
    const made = await createSuperblock(directory, OPTIONS);
    const next = rotated(made);
    await replaceSuperblock(directory, next);
    assert.deepEqual(await readSuperblock(directory), next);
    assert.deepEqual(await readdir(directory), [SUPERBLOCK_FILE]);
    assert.equal((await stat(join(directory, SUPERBLOCK_FILE))).mode & 0o777, 0o600);
    const rotation = next.rotations![0];
    const wrong: Record<string, unknown>[] = [
      { epoch: 0 },
      { epoch: 1.5 },
      { keyRing: undefined },
      { keyRing: 'abc' },
      { keyRing: '' },
      { rotations: undefined },
      { rotations: {} },
      { rotations: [null] },
      { rotations: [{ ...rotation, epoch: 2 }] },
      { rotations: [{ ...rotation, keyCheck: 'x' }] },
      { rotations: [{ ...rotation, ended: 'x' }] },
      { rotations: [rotation, { ...rotation, epoch: 2 }] },
      { shredding: 'x' },
      { shredded: 'x' },
      { format: 1 },
    ];
    for (const fields of wrong) {
      await writeFile(join(directory, SUPERBLOCK_FILE), JSON.stringify({ ...next, ...fields }));
      const what = JSON.stringify(fields);
      await assert.rejects(readSuperblock(directory), { code: 'STORE_DAMAGED' }, what);
    }
  });
});

test('a key of before is told from a wrong one', async () => {
  await inDirectory(async (directory) => {
    const next = rotated(await createSuperblock(directory, OPTIONS));
    checkKey(next, NEXT_CHECK);
    assert.throws(
      () => checkKey(next, KEY_CHECK),
      (error) => {
        assert.ok(error instanceof MillraceError && error.code === 'KEY_ROTATED');
        return error.message.includes(ENDED) && error.message.includes('epoch 2');
      },
    );
    assert.throws(() => checkKey(next, 'c7'.repeat(32)), { code: 'KEY_WRONG' });
  });
});

test('keys that were rotated between two readings are noticed', async () => {
  await inDirectory(async (directory) => {
    const made = await createSuperblock(directory, OPTIONS);
    confirmKeys(made, await readSuperblock(directory));
    const next = rotated(made);
    assert.throws(() => confirmKeys(made, next), { code: 'STORE_BUSY' });
    assert.throws(() => confirmKeys(next, { ...next, keyRing: '02' }), { code: 'STORE_BUSY' });
  });
});

test('a store that was shredded, or is about to be, says so', async () => {
  await inDirectory(async (directory) => {
    const made = await createSuperblock(directory, OPTIONS);
    const shredding = { ...made, format: FORMAT_OF_ROTATED, shredding: ENDED };
    await replaceSuperblock(directory, shredding);
    await assert.rejects(readSuperblock(directory), { code: 'KEY_SHREDDED' });
    assert.deepEqual(await readAnySuperblock(directory), shredding);
    await replaceSuperblock(directory, tombstone(made));
    await assert.rejects(readSuperblock(directory), (error) => {
      assert.ok(error instanceof MillraceError && error.code === 'KEY_SHREDDED');
      return error.message.includes(ENDED);
    });
    assert.deepEqual(await readAnySuperblock(directory), tombstone(made));
    const text = await readFile(join(directory, SUPERBLOCK_FILE), 'utf8');
    assert.ok(!text.includes(KEY_CHECK));
  });
});

test('what a superblock held is overwritten where it lay, but not under its second name', async () => {
  await inDirectory(async (directory) => {
    const made = await createSuperblock(directory, OPTIONS);
    const path = join(directory, SUPERBLOCK_FILE);
    // As a process leaves it that was killed when it had just named the superblock.
    await link(path, `${path}.second-name`);
    await writeFile(`${path}.never-named`, `a ring: ${KEY_CHECK}`);
    const [before, leftover] = [await open(path), await open(`${path}.never-named`)];
    try {
      await replaceSuperblock(directory, rotated(made));
      assert.deepEqual(await readSuperblock(directory), rotated(made));
      assert.deepEqual(await readdir(directory), [SUPERBLOCK_FILE]);
      for (const file of [before, leftover]) {
        const bytes = await file.readFile();
        assert.ok(bytes.length > 0 && bytes.every((byte) => byte === 0));
      }
    } finally {
      await before.close();
      await leftover.close();
    }
  });
});
