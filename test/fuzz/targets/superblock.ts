/** The superblock, which whoever serves the store can write. */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MillraceError } from '../../../engine/errors.ts';
import {
  checkKey,
  createSuperblock,
  keyRingOf,
  readSuperblock,
  SUPERBLOCK_FILE,
} from '../../../engine/store/superblock.ts';
import { type FuzzTarget, scratchDirectory } from '../target.ts';

const KEY_CHECK = '5a'.repeat(32);
/** What a reader may say of bytes. */
const REFUSALS: readonly string[] = ['STORE_DAMAGED', 'STORE_NEWER', 'KEY_SHREDDED'];

let directory: string | undefined;

function refusal(error: unknown, codes: readonly string[]): void {
  if (error instanceof MillraceError && codes.includes(error.code)) return;
  throw error;
}

async function run(bytes: Buffer): Promise<void> {
  directory ??= scratchDirectory();
  writeFileSync(join(directory, SUPERBLOCK_FILE), bytes);
  try {
    const superblock = await readSuperblock(directory);
    const again = JSON.parse(bytes.toString('utf8')) as unknown;
    assert.deepStrictEqual(superblock, again, 'a superblock is not what the file says');
    assert.match(superblock.keyCheck, /^[0-9a-f]{32,128}$/);
    const ring = keyRingOf(superblock);
    assert.equal(ring === undefined, superblock.epoch === 1);
    assert.ok(ring === undefined || ring.sealed.length > 0);
    try {
      checkKey(superblock, KEY_CHECK);
      assert.equal(superblock.keyCheck, KEY_CHECK);
    } catch (error) {
      refusal(error, ['KEY_WRONG', 'KEY_ROTATED']);
    }
  } catch (error) {
    refusal(error, REFUSALS);
  }
}

let made: Buffer | undefined;

/** Seeds must lie there before the first run, so the one that a store would have is made when this module is loaded. */
async function make(): Promise<Buffer> {
  const place = scratchDirectory();
  await createSuperblock(place, { keyCheck: KEY_CHECK, version: '0.1.0' });
  const bytes = readFileSync(join(place, SUPERBLOCK_FILE));
  rmSync(place, { recursive: true });
  return bytes;
}

made = await make();

function seeds(): Buffer[] {
  const whole = (made as Buffer).toString();
  const fields = JSON.parse(whole) as Record<string, unknown>;
  const rotated = {
    ...fields,
    format: 2,
    epoch: 2,
    keyCheck: '77'.repeat(32),
    keyRing: '0102000000'.padEnd(500, 'c4'),
    rotations: [{ epoch: 1, keyCheck: KEY_CHECK, ended: '2026-02-03T04:05:06.789Z' }],
  };
  const { magic, version, uuid, created } = fields;
  const tombstone = { magic, format: 2, version, uuid, created, shredded: created };
  const texts = [
    whole,
    whole.replace('"format": 1', '"format": 3'),
    JSON.stringify(rotated),
    JSON.stringify({ ...rotated, shredding: created }),
    JSON.stringify(tombstone),
    whole.replace(KEY_CHECK, '77'.repeat(20)),
    'null',
    '[]',
    '{"magic":"millrace store"}',
  ];
  return texts.map((text) => Buffer.from(text));
}

export const superblock: FuzzTarget = {
  name: 'superblock',
  says: 'millrace.json of a store (engine/store/superblock.ts)',
  run,
  seeds,
  words: [
    '"magic"',
    '"format"',
    '"epoch"',
    '"keyCheck"',
    '"keyRing"',
    '"rotations"',
    '"ended"',
    '"shredding"',
    '"shredded"',
    '__proto__',
    'constructor',
    '1e999',
    '\\u0000',
  ],
};
