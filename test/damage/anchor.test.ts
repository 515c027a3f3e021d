import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { LmdbKv } from '../../engine/kv/lmdb-kv.ts';
import { refuseDamaged } from '../../engine/tree-file.ts';
import { Draws, testSeed } from '../support/random.ts';
import { flipBit } from './flip-bit.ts';

const FLIPS = 150;
/** The two slots of an anchor (engine/kv/anchor.ts), and bytes of each that something lies in. */
const SLOTS = [0, 256 * 1024];
const SLOT_BYTES = 56 + 2 * 4096 + 32;

function keyOf(number: number): Buffer {
  return Buffer.from(`key ${number}`);
}

/** A value that no survey takes for a sealed one of this version, which would have to end with a check of its key. */
function contentOf(number: number): Buffer {
  return Buffer.alloc(900, 100 + number);
}

test('a flipped bit of the anchor takes nothing back, also when the machine starts anew', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-anchor-'));
  try {
    const path = join(directory, 'data.mdb');
    const kv = await LmdbKv.open({ path, bootId: 'first' });
    for (let number = 0; number < 20; number++) {
      kv.transact((transaction) => transaction.put(keyOf(number), contentOf(number)));
      await kv.sync();
    }
    await kv.close();
    assert.ok(statSync(`${path}-anchor`).size > 256 * 1024);
    const draws = new Draws(testSeed());
    for (let flip = 0; flip < FLIPS; flip++) {
      const copy = join(directory, `copy-${flip}.mdb`);
      copyFileSync(path, copy);
      copyFileSync(`${path}-anchor`, `${copy}-anchor`);
      const offset = draws.pick(SLOTS) + draws.below(SLOT_BYTES);
      flipBit(`${copy}-anchor`, offset, draws.below(8));
      const restored = await LmdbKv.open({ path: copy, bootId: 'second', inspect: refuseDamaged });
      for (let number = 0; number < 20; number++) {
        const value = restored.get(keyOf(number));
        assert.deepEqual(
          value && Buffer.from(value),
          contentOf(number),
          `byte ${offset} of the anchor`,
        );
      }
      await restored.close();
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
