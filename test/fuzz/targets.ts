/** Every target in TypeScript. A new parser gets a file in `targets/` and a line here. */
import type { FuzzTarget } from './target.ts';
import { anchor } from './targets/anchor.ts';
import { flags } from './targets/flags.ts';
import { journal } from './targets/journal.ts';
import { keyFile } from './targets/key-file.ts';
import { log } from './targets/log.ts';
import { records } from './targets/records.ts';
import { requests } from './targets/requests.ts';
import { servingRecord } from './targets/serving-record.ts';
import { superblock } from './targets/superblock.ts';

/** In the order in which they run. */
export const TARGETS: readonly FuzzTarget[] = [
  requests,
  records,
  log,
  anchor,
  journal,
  superblock,
  keyFile,
  flags,
  servingRecord,
];

/** The target of a name. */
export function targetOf(name: string): FuzzTarget | undefined {
  return TARGETS.find((target) => target.name === name);
}
