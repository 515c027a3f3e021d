/** The file that a store's tree lies in: looked at page by page before LMDB follows what is in it. */
import { statSync } from 'node:fs';
import { MillraceError } from './errors.ts';
import type { BufferedKv } from './kv/buffered-kv.ts';
import { openTreeKv } from './kv/tree-kv.ts';
import { native, type PageSurvey } from './native.ts';

/**
 * Opens the file, making it when there is none, with what an earlier process left in the log.
 *
 * Throws STORE_DAMAGED where a page that is in use is damaged: LMDB would end the process, or miss
 * records. Cost: each page in use is read once, some 4 µs where it is cached.
 */
export function openTreeFile(file: string): Promise<BufferedKv> {
  return openTreeKv(file, refuseDamaged);
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
