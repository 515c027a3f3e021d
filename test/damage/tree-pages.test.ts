/**
 * Flips single bits of the file that a tree lies in. Whatever the bit was part of, nobody is told other bytes than were
 * written, nothing ends the process, and a check finds what a program could notice.
 */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { WRITTEN_POSITION_KEY } from '../../engine/kv/written-position.ts';
import { LmdbKv } from '../../engine/kv/lmdb-kv.ts';
import { native } from '../../engine/native.ts';
import { rebuildTreeFile, removeRebuilt } from '../../engine/tree-rebuild.ts';
import { openTreeFile, refuseDamaged } from '../../engine/tree-file.ts';
import { Tree } from '../../engine/tree/tree.ts';
import { Draws, testSeed } from '../support/random.ts';
import { TestSealer } from '../tree/test-sealer.ts';
import { flipBit } from './flip-bit.ts';
import type { FlipOutcome } from './flip-reader.ts';
import { plantTree } from './planted-tree.ts';

const READER = fileURLToPath(new URL('./flip-reader.js', import.meta.url));
const PAGE_BYTES = 4096;
/** Bytes from a page's start in which its header, its offsets, or the fields of a meta page lie. */
const HEAD_BYTES = 176;
/** Where the first page of a long value says how many it has. */
const PAGES_AT = 20;
/** Where a page says what it is, and what a branch says. */
const FLAGS_AT = 18;
const BRANCH = 1;
/** A reader that takes longer hangs: it reads each copy in milliseconds. */
const LIMIT_MS = 240_000;

/** Where bits are flipped. */
const PLACES = {
  anywhere: (draws: Draws, bytes: number) => draws.below(bytes),
  'in the heads of pages': (draws: Draws, bytes: number) =>
    draws.below(bytes / PAGE_BYTES) * PAGE_BYTES + draws.below(HEAD_BYTES),
  'in meta pages': (draws: Draws) => draws.below(2) * PAGE_BYTES + draws.below(HEAD_BYTES),
} as const;

async function plant(path: string, files: number): Promise<void> {
  const sealer = new TestSealer('damage');
  const kv = await openTreeFile(path, sealer);
  const tree = new Tree({ kv, sealer });
  plantTree(tree, files);
  tree.saveCounters();
  await kv.close();
  refuseDamaged(path);
}

function flip(template: string, files: number, flips: readonly string[]): FlipOutcome[] {
  const command = [READER, template, `${template}-flipped`, `${files}`, ...flips];
  const { stdout, stderr, signal, status } = spawnSync(process.execPath, command, {
    encoding: 'utf8',
    timeout: LIMIT_MS,
    maxBuffer: 2 ** 26,
  });
  const outcomes = stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as FlipOutcome);
  const culprit = flips[outcomes.length];
  assert.equal(signal ?? status, 0, `the flip of ${culprit} ended the reader: ${stderr}`);
  assert.equal(outcomes.length, flips.length);
  return outcomes;
}

/** What a flip came to; fails where somebody was told wrong, or nobody noticed. */
function judge(outcome: FlipOutcome): 'refused' | 'found' | 'harmless' {
  const said = JSON.stringify(outcome);
  if (outcome.refused !== undefined) {
    assert.match(outcome.refused, /is damaged: page \d+: /, said);
    return 'refused';
  }
  assert.equal(outcome.threw, undefined, said);
  assert.deepEqual(outcome.wrong, [], said);
  if (outcome.eio > 0) assert.ok(outcome.findings.length > 0, said);
  return outcome.findings.length > 0 ? 'found' : 'harmless';
}

async function inDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-damage-'));
  try {
    await body(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

for (const [files, count] of [
  [40, 120],
  [1000, 15],
]) {
  test(`a flipped bit in the tree of ${files} files is noticed or harmless`, async () => {
    await inDirectory(async (directory) => {
      const template = join(directory, 'data.mdb');
      await plant(template, files);
      const { size } = statSync(template);
      const draws = new Draws(testSeed());
      const seen = new Map<string, number>();
      for (const [where, place] of Object.entries(PLACES)) {
        const flips = Array.from(
          { length: count },
          () => `${place(draws, size)}:${draws.below(8)}`,
        );
        for (const outcome of flip(template, files, flips)) {
          const kind = judge(outcome);
          seen.set(kind, (seen.get(kind) ?? 0) + 1);
          if (where === 'in meta pages') assert.notEqual(kind, 'found', JSON.stringify(outcome));
        }
      }
      for (const kind of ['refused', 'harmless']) assert.ok((seen.get(kind) ?? 0) > 0, kind);
    });
  });
}

test('each bit of a key, or of what checks it, is refused where the record is in use', async () => {
  await inDirectory(async (directory) => {
    const template = join(directory, 'data.mdb');
    await plant(template, 6);
    const file = readFileSync(template);
    const flips = new Map<string, string[]>();
    for (const { key, value } of await recordsOf(template)) {
      const places: string[] = [];
      // A leaf has the value behind its key, or where the value's own pages are.
      const isNear = value.length < PAGE_BYTES / 4;
      const record = isNear ? Buffer.concat([key, value]) : key;
      // Pages that are free hold what was once in use, so a record is there more than once.
      for (let at = file.indexOf(record); at >= 0; at = file.indexOf(record, at + 1)) {
        for (let bit = 0; bit < 8 * key.length; bit += 13) {
          places.push(`${at + (bit >> 3)}:${bit & 7}`);
        }
        if (isNear) places.push(`${at + record.length - 1}:${at & 7}`);
      }
      flips.set(key.toString('hex'), places);
    }
    assert.ok(flips.has(Buffer.from(WRITTEN_POSITION_KEY).toString('hex')));
    assert.ok(flips.size > 30, `${flips.size} keys`);
    let refused = 0;
    const outcomes = flip(template, 6, [...flips.values()].flat());
    for (const places of flips.values()) {
      const kinds = outcomes.splice(0, places.length).map(judge);
      assert.ok(!kinds.includes('found'));
      if (kinds.includes('refused')) refused++;
    }
    assert.equal(refused, flips.size);
  });
});

test('a value that took the place of a longer one in one transaction is whole', async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, 'data.mdb');
    const sealer = new TestSealer('damage');
    const key = Buffer.from('x of some inode');
    const kv = await LmdbKv.open({ path });
    // As a log is replayed: what was written twice is put twice.
    kv.transact((transaction) => {
      for (const bytes of [30_000, 9000, 5000]) {
        transaction.put(key, sealer.seal(key, Buffer.alloc(bytes, 7)));
      }
    });
    await kv.close();
    refuseDamaged(path);
    const [{ value }] = await recordsOf(path);
    assert.equal(sealer.open(key, value)?.length, 5000);
    // The number of its pages is still looked at, in the record and in the first page.
    const flipped = join(directory, 'flipped.mdb');
    const counts = readFileSync(path).length;
    const refusals = Array.from({ length: counts / PAGE_BYTES - 2 }, (_, index) => {
      copyFileSync(path, flipped);
      flipBit(flipped, (index + 2) * PAGE_BYTES + PAGES_AT, 1);
      return native().surveyPages(flipped).flawed > 0;
    });
    assert.ok(refusals.includes(true));
  });
});

test('a repair finds every record below a branch that is damaged, those with pages of their own too', async () => {
  await inDirectory(async (directory) => {
    const template = join(directory, 'data.mdb');
    await plant(template, 300);
    const records = await recordsOf(template);
    assert.ok(records.some(({ value }) => value.length > PAGE_BYTES));
    const file = readFileSync(template);
    let repaired = 0;
    for (let page = 2 * PAGE_BYTES; page < file.length; page += PAGE_BYTES) {
      if (file.readUInt16LE(page + FLAGS_AT) !== BRANCH) continue;
      const flipped = join(directory, 'flipped.mdb');
      copyFileSync(template, flipped);
      // Its own number: nothing that it leads to is believed any more.
      flipBit(flipped, page, 0);
      if (native().surveyPages(flipped).flawed === 0) continue;
      const rebuilt = await rebuildTreeFile(flipped);
      assert.deepEqual(await recordsOf(rebuilt), records);
      removeRebuilt(flipped);
      repaired += 1;
    }
    assert.ok(repaired > 0, 'no branch is in use');
  });
});

async function recordsOf(path: string): Promise<{ key: Buffer; value: Buffer }[]> {
  const kv = await LmdbKv.open({ path });
  const records: { key: Buffer; value: Buffer }[] = [];
  kv.scan(Uint8Array.of(0), Uint8Array.of(0xff), (key, value) => {
    records.push({ key: Buffer.from(key), value: Buffer.from(value) });
    return true;
  });
  await kv.close();
  return records;
}

test('each bit of the meta page that LMDB would open is noticed or harmless', async () => {
  await inDirectory(async (directory) => {
    const template = join(directory, 'data.mdb');
    await plant(template, 3);
    const flips: string[] = [];
    for (let offset = 0; offset < HEAD_BYTES; offset++) {
      const page = offset % 2 === 0 ? 0 : PAGE_BYTES;
      flips.push(
        `${page + offset}:${offset % 8}`,
        `${PAGE_BYTES - page + offset}:${(offset + 3) % 8}`,
      );
    }
    const kinds = flip(template, 3, flips).map(judge);
    assert.ok(kinds.filter((kind) => kind === 'refused').length > 50);
    assert.ok(!kinds.includes('found'));
  });
});
