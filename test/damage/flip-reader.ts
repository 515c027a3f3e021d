/**
 * Flips bits of a copy of a tree's file, one at a time, and tells what reading and checking it gives: a line of JSON for
 * each, so that who reads them knows which flip ended this process.
 *
 * Arguments: template, working copy, number of files, then offset:bit for each flip.
 */
import { copyFileSync, rmSync, writeSync } from 'node:fs';
import { checkTree } from '../../engine/check/tree-check.ts';
import { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import { LmdbKv } from '../../engine/kv/lmdb-kv.ts';
import { openTreeFile } from '../../engine/tree-file.ts';
import { Tree } from '../../engine/tree/tree.ts';
import { TestSealer } from '../tree/test-sealer.ts';
import { flipBit } from './flip-bit.ts';
import { type Reading, readTree } from './planted-tree.ts';

/** What came of one flip. */
export interface FlipOutcome extends Reading {
  at: string;
  /** Why the file was not opened. */
  refused?: string;
  /** Codes that a check found. */
  findings: string[];
  /** What reading or checking threw. */
  threw?: string;
}

async function read(copy: string, files: number): Promise<Omit<FlipOutcome, 'at'>> {
  const sealer = new TestSealer('damage');
  let kv: BufferedKv;
  try {
    kv =
      process.env['MILLRACE_TEST_UNINSPECTED'] === undefined
        ? await openTreeFile(copy, sealer)
        : new BufferedKv(await LmdbKv.open({ path: copy }));
  } catch (error) {
    return { eio: 0, wrong: [], findings: [], refused: String(error) };
  }
  try {
    const reading = readTree(new Tree({ kv, sealer }), files);
    const { findings } = checkTree({ kv, sealer });
    return { ...reading, findings: findings.list.map(({ code }) => code) };
  } catch (error) {
    return { eio: 0, wrong: [], findings: [], threw: String(error) };
  } finally {
    await kv.close();
  }
}

const [, , template, copy, files, ...flips] = process.argv;
for (const at of flips) {
  for (const suffix of ['', '-anchor', '-lock', '-log0', '-log1'])
    rmSync(copy + suffix, { force: true });
  copyFileSync(template, copy);
  copyFileSync(`${template}-anchor`, `${copy}-anchor`);
  const [offset, bit] = at.split(':').map(Number);
  flipBit(copy, offset, bit);
  writeSync(1, `${JSON.stringify({ at, ...(await read(copy, Number(files))) })}\n`);
}
