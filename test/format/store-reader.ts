/** A store that is not mounted, read with the second codec and nothing of the engine. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { open } from 'lmdb';
import { unpack } from 'msgpackr';
import { openChunk, openValue } from './decoder.ts';
import type { Keys } from './keys.ts';

/** An object as it lies in the store. */
export interface StoredObject {
  readonly id: string;
  readonly bytes: Buffer;
}

/** A value of the tree as it is stored. */
export interface StoredValue {
  readonly key: Buffer;
  readonly sealed: Buffer;
}

/** A value of the tree, opened. */
export interface Entry {
  readonly kind: string;
  readonly key: Buffer;
  readonly record: unknown[];
}

/** Every object below chunks/. */
export function storedObjects(storeDir: string): StoredObject[] {
  const root = join(storeDir, 'chunks');
  return readdirSync(root).flatMap((fan) =>
    readdirSync(join(root, fan)).map((name) => {
      const id = fan + name;
      assert.match(id, /^[0-9a-f]{64}$/);
      return { id, bytes: readFileSync(join(root, fan, name)) };
    }),
  );
}

/** The plaintext of every object, by id. */
export function openChunks(keys: Keys, storeDir: string): Map<string, Buffer> {
  return new Map(
    storedObjects(storeDir).map(({ id, bytes }) => [
      id,
      openChunk(keys, Buffer.from(id, 'hex'), bytes),
    ]),
  );
}

/** Every value of the tree, but for the one that belongs to the write-ahead log and tells nothing. */
export async function storedValues(storeDir: string): Promise<StoredValue[]> {
  const database = open<Buffer, Buffer>({
    path: join(storeDir, 'tree', 'data.mdb'),
    noSubdir: true,
    readOnly: true,
    keyEncoding: 'binary',
    encoding: 'binary',
  });
  try {
    const all = [...database.getRange()].map(({ key, value }) => ({
      key: Buffer.from(key),
      sealed: Buffer.from(value),
    }));
    return all.filter(({ key }) => !key.equals(Buffer.from('\0log')));
  } finally {
    await database.close();
  }
}

/** Every value of the tree, opened. */
export async function openTree(keys: Keys, storeDir: string): Promise<Entry[]> {
  return (await storedValues(storeDir)).map(({ key, sealed }) => {
    const record = unpack(openValue(keys, key, sealed)) as unknown[];
    assert.equal(record[0], 1, 'version of a record');
    return { kind: key.toString('latin1', 0, 1), key, record };
  });
}
