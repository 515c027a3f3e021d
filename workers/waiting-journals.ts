/** What recovery journals need that wait to be replayed or exported, for whoever deletes chunks. */
import { Buffer } from 'node:buffer';
import { isFlaw } from '../engine/journal/format.ts';
import { readJournal } from '../engine/journal/journal-reader.ts';
import { chunksOf } from '../engine/journal/journal-view.ts';
import type { JournalTask } from '../engine/journal/owner.ts';
import { listJournals } from '../engine/journal/places.ts';
import type { Sealer } from '../engine/tree/types.ts';

const ID_WORDS = 8;

/** The journals of one store that wait. */
export interface WaitingJournals {
  readonly count: number;
  /** Ids of the chunks that they refer to, as words. */
  readonly needed: readonly Uint32Array[];
  /** Those that cannot be read: nobody knows what is needed while they are there. */
  readonly flawed: readonly string[];
}

/** Reads them. Cost: their bytes. */
export function readWaitingJournals(task: JournalTask, sealer: Sealer): WaitingJournals {
  const waiting = listJournals(task.directory).filter(({ state }) => state === 'waiting');
  const needed: Uint32Array[] = [];
  const flawed: string[] = [];
  for (const { file } of waiting) {
    const journal = readJournal(file, task, sealer);
    if (isFlaw(journal)) flawed.push(file);
    else for (const id of chunksOf(journal, sealer).values()) needed.push(wordsOf(id));
  }
  return { count: waiting.length, needed, flawed };
}

function wordsOf(id: Uint8Array): Uint32Array {
  const bytes = Buffer.from(id);
  return Uint32Array.from({ length: ID_WORDS }, (_, word) => bytes.readUInt32LE(word * 4));
}
