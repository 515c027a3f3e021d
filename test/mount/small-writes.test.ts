/** Writes that are much smaller than a frame, and many of them: bounded commands, frames that stay while they are read. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { REGION_BYTES } from '../../engine/layout.ts';
import { mountTest } from '../support/family.ts';
import { withMount } from '../support/mount.ts';
import { Draws, testSeed } from '../support/random.ts';

/** Writes a file in pieces of one size and reads it back before anything is synced. */
function writeInPieces(path: string, pieceBytes: number, pieces: number): void {
  const content = randomBytes(pieceBytes * pieces);
  const fd = openSync(path, 'wx+');
  try {
    for (let i = 0; i < pieces; i++) writeSync(fd, content, i * pieceBytes, pieceBytes);
    const back = Buffer.alloc(content.length + 1);
    let length = 0;
    for (let n = -1; n !== 0; length += n)
      n = readSync(fd, back, length, back.length - length, length);
    assert.equal(length, content.length);
    assert.ok(back.subarray(0, length).equals(content), 'what is read is what was written');
  } finally {
    closeSync(fd);
  }
}

mountTest('a region of thousands of small pieces is read and stored', () =>
  withMount({}, async (mount) => {
    writeInPieces(join(mount.dir, 'lines-200'), 200, 5200);
    writeInPieces(join(mount.dir, 'lines-60'), 60, 60_000);
    writeInPieces(join(mount.dir, 'lines-1'), 1, 9000);
    assert.equal(await mount.umount(), 0, mount.stderr());
  }),
);

/** Fills the first two regions with blocks in random order, and compares all of them before and after a sync. */
function fillInAnyOrder(path: string, blockBytes: number, seed: number): void {
  const content = randomBytes(2 * REGION_BYTES);
  const draws = new Draws(seed);
  const blocks = Array.from({ length: content.length / blockBytes }, (_, index) => index);
  const back = Buffer.alloc(content.length);
  const fd = openSync(path, 'wx+');
  while (blocks.length > 0) {
    const drawn = draws.below(blocks.length);
    const block = blocks[drawn];
    blocks[drawn] = blocks[blocks.length - 1];
    blocks.pop();
    writeSync(fd, content, block * blockBytes, blockBytes, block * blockBytes);
  }
  for (const moment of ['before', 'after']) {
    assert.equal(readSync(fd, back, 0, back.length, 0), back.length);
    assert.ok(back.equals(content), `blocks of ${blockBytes}, ${moment} the sync, seed ${seed}`);
    fsyncSync(fd);
  }
  closeSync(fd);
}

mountTest('regions that small blocks fill in any order are read and stored', () =>
  withMount({}, async (mount) => {
    for (const bytes of [2048, 4096, 8192]) {
      fillInAnyOrder(join(mount.dir, `blocks-${bytes}`), bytes, testSeed());
    }
    assert.equal(await mount.umount(), 0, mount.stderr());
  }),
);

/** A stream that never waits for the test. */
async function stream(path: string): Promise<void> {
  const dd = spawn('dd', ['if=/dev/urandom', `of=${path}`, 'bs=1M', 'count=300'], {
    stdio: 'ignore',
  });
  await once(dd, 'exit');
}

/** Overwrites random blocks, syncs now and then, and compares all of them with a model each time. */
function writeAtRandom(path: string, seed: number): void {
  const draws = new Draws(seed);
  const model = new Map<number, Buffer>();
  const back = Buffer.alloc(4096);
  const fd = openSync(path, 'wx+');
  for (let round = 0; round < 25; round++) {
    for (let i = 0; i < 24; i++) {
      const block = draws.below(2048);
      const bytes = randomBytes(4096);
      writeSync(fd, bytes, 0, 4096, block * 4096);
      model.set(block, bytes);
    }
    fsyncSync(fd);
    for (const [block, bytes] of model) {
      readSync(fd, back, 0, 4096, block * 4096);
      assert.ok(back.equals(bytes), `block ${block} after fsync ${round}, seed ${seed}`);
    }
  }
  closeSync(fd);
}

mountTest('random writes stay right beside streams that use up the slab', () =>
  withMount({ flags: ['--slab', '64M', '--data-workers', '1'] }, async (mount) => {
    const streams = [1, 2, 3].map((n) => stream(join(mount.dir, `stream-${n}`)));
    for (let n = 0; n < 4; n++) writeAtRandom(join(mount.dir, `random-${n}`), testSeed() + n);
    await Promise.all(streams);
    assert.equal(await mount.umount(), 0, mount.stderr());
  }),
);

mountTest('every other block of stored regions, more than one settle can name', () =>
  withMount({}, async (mount) => {
    const path = join(mount.dir, 'file');
    const content = randomBytes(3 * REGION_BYTES);
    const fd = openSync(path, 'wx+');
    writeSync(fd, content);
    fsyncSync(fd);
    for (const blocks of [450, 500, 512]) {
      for (let block = 0; block < blocks; block++) {
        const at = REGION_BYTES + 2 * block * 4096;
        randomBytes(4096).copy(content, at);
        writeSync(fd, content, at, 4096, at);
      }
      fsyncSync(fd);
      const back = Buffer.alloc(content.length);
      assert.equal(readSync(fd, back, 0, back.length, 0), content.length);
      assert.ok(back.equals(content), `${blocks} blocks`);
    }
    closeSync(fd);
    assert.equal(await mount.umount(), 0, mount.stderr());
  }),
);
