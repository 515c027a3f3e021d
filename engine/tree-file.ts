/** The file that a store's tree lies in: looked at page by page before LMDB follows what is in it. */
import { statSync } from 'node:fs';
import { MillraceError } from './errors.ts';
import { GatedLog, GateKv } from './journal/gate-kv.ts';
import { BufferedKv } from './kv/buffered-kv.ts';
import { LmdbKv, type LmdbKvOptions } from './kv/lmdb-kv.ts';
import { openTreeKv, treeLogPaths } from './kv/tree-kv.ts';
import { native, type PageSurvey } from './native.ts';
import { unknownFeatures } from './tree/features.ts';
import type { Sealer } from './tree/types.ts';

/**
 * Opens the file, making it when there is none, with what an earlier process left in the log.
 *
 * Throws STORE_DAMAGED where a page that is in use is damaged: LMDB would end the process, or miss
 * records. STORE_NEWER where the tree needs a later version. Cost: each page in use is read once,
 * some 3 µs where it is cached.
 */
export async function openTreeFile(file: string, sealer: Sealer): Promise<BufferedKv> {
  return understood(file, await openTreeKv(file, TREE_FILE), sealer);
}

/** `LmdbKvOptions.reserve` of every file that a tree is written to. */
export function reserveSpace(file: number, bytes: number): number {
  return native().reserveSpace(file, bytes);
}

/** How LMDB may open and write the file of a tree. */
const TREE_FILE: Pick<LmdbKvOptions, 'inspect' | 'reserve'> = {
  inspect: refuseDamaged,
  reserve: reserveSpace,
};

async function understood(file: string, kv: BufferedKv, sealer: Sealer): Promise<BufferedKv> {
  try {
    refuseUnknown(file, unknownFeatures(kv, sealer));
  } catch (error) {
    await kv.close();
    throw error;
  }
  return kv;
}

function refuseUnknown(file: string, unknown: readonly string[] | undefined): void {
  if (unknown === undefined) {
    throw new MillraceError('STORE_DAMAGED', `${file}: the record of its features is damaged`, {
      hint: 'Restore the directory tree/ of the store from a backup.',
    });
  }
  if (unknown.length === 0) return;
  const names = unknown.join(', ');
  throw new MillraceError('STORE_NEWER', `${file} uses what this version does not know: ${names}`, {
    hint: 'Use the version of Millrace that has written it, or a later one.',
  });
}

/** The same, with a gate before LMDB and the log, for who may have to seal a recovery journal. */
export async function openGatedTreeFile(
  file: string,
  sealer: Sealer,
): Promise<{ kv: BufferedKv; gate: GateKv }> {
  const gate = new GateKv(await LmdbKv.open({ path: file, ...TREE_FILE }));
  const kv = await BufferedKv.open(gate, new GatedLog(treeLogPaths(file), gate));
  return { kv: await understood(file, kv, sealer), gate };
}

/** Throws STORE_DAMAGED, naming the first damaged page of an LMDB file. */
export function refuseDamaged(file: string): void {
  // One that was never written is made anew.
  if (statSync(file).size === 0) return;
  const survey = native().surveyPages(file);
  if (survey.flawed === 0) return;
  throw new MillraceError('STORE_DAMAGED', `${file} is damaged: ${describeFlaws(survey)}`, {
    hint: 'Run `millrace fsck` to see what is lost; with --repair it saves what can be read.',
  });
}

function describeFlaws({ flawed, flaws }: PageSurvey): string {
  const [first] = flaws;
  const others = flawed > 1 ? ` (and ${flawed - 1} more)` : '';
  return `page ${first?.page ?? 0}: ${first?.what ?? 'unknown'}${others}`;
}
