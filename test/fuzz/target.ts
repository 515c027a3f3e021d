/** What a fuzz target is, and the few things that targets share. */
import type { Buffer } from 'node:buffer';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** One parser. */
export interface FuzzTarget {
  /** What the command line calls it. */
  readonly name: string;
  /** What it reads. */
  readonly says: string;
  /** Feeds it; throws when a promise is broken, and returns when the bytes are refused as they should be. */
  run(bytes: Buffer): void | Promise<void>;
  /** Inputs that its encoders make. */
  seeds(): Buffer[];
  /** Where further inputs lie, from the root of the repository; `test/fuzz/corpus/NAME` unless given. */
  readonly corpus?: string;
  /** Words that inputs are made of. */
  readonly words?: readonly string[];
}

/** A directory for the files of one process, in memory where there is such a place; removed when the process ends. */
export function scratchDirectory(): string {
  const place = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
  const directory = mkdtempSync(join(place, 'millrace-fuzz-'));
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
