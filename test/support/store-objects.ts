/** What lies in the chunk directory of a store. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** The paths of all objects. */
export function objectsOf(store: string): string[] {
  const chunks = join(store, 'chunks');
  return readdirSync(chunks).flatMap((fan) =>
    readdirSync(join(chunks, fan)).map((name) => join(chunks, fan, name)),
  );
}

/** What they take up on the disk, as du(1) counts, in bytes. */
export function objectsUsage(store: string): number {
  let bytes = 0;
  for (const object of objectsOf(store)) bytes += statSync(object).blocks * 512;
  return bytes;
}
