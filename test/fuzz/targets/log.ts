/** The write-ahead log that an earlier process left. */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { closeSync, fstatSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MillraceError } from '../../../engine/errors.ts';
import { WriteAheadLog } from '../../../engine/kv/write-ahead-log.ts';
import { type FuzzTarget, scratchDirectory } from '../target.ts';

const BOOT = '00000000-1111-2222-3333-444444444444';
const HEADER_BYTES = 64;

interface Change {
  key: Buffer;
  value: Buffer | undefined;
}

let directory: string | undefined;

function newPath(name: string): string {
  directory ??= scratchDirectory();
  return join(directory, name);
}

/** What a log tells; undefined when it says that it is damaged. */
function replayed(path: string): Change[] | undefined {
  const changes: Change[] = [];
  try {
    const count = new WriteAheadLog(path, BOOT).replay((key, value) => {
      changes.push({ key: Buffer.from(key), value: value && Buffer.from(value) });
    });
    assert.equal(count, changes.length);
    return changes;
  } catch (error) {
    if (error instanceof MillraceError && error.code === 'STORE_DAMAGED') return undefined;
    throw error;
  }
}

/** Writes changes as one record of a new log; its file's bytes, undefined when they do not fit. */
function written(changes: readonly Change[], name: string): string | undefined {
  const path = newPath(name);
  const log = new WriteAheadLog(path, BOOT);
  log.begin();
  for (const { key, value } of changes) log.add(key, value);
  const fits = log.append();
  log.close(false);
  return fits ? path : undefined;
}

function run(bytes: Buffer): void {
  // Otherwise hardly any input is a log of this boot.
  const file = Buffer.from(bytes.subarray(1));
  if (file.length >= HEADER_BYTES && (bytes[0] & 1) === 1) {
    file.write(`MRWAL001${BOOT}`, 'latin1');
  }
  const path = newPath('given');
  writeFileSync(path, file);
  const changes = replayed(path);
  assert.ok(readFileSync(path).equals(file), 'a replay has changed the log');
  if (changes === undefined || changes.length === 0) return;
  const told = changes.reduce((sum, { key, value }) => sum + key.length + (value?.length ?? 0), 0);
  assert.ok(told <= file.length, 'a log told more than it holds');
  const copy = written(changes, 'copy');
  if (copy !== undefined) assert.deepStrictEqual(replayed(copy), changes);
}

function seeds(): Buffer[] {
  const change = (key: string, value?: Buffer): Change => ({ key: Buffer.from(key), value });
  const records = [
    [change('key', Buffer.from('value')), change('gone')],
    [change('', Buffer.alloc(0))],
    [change('long', Buffer.alloc(2000, 7))],
  ];
  return records.flatMap((changes) => {
    const path = written(changes, 'seed') as string;
    const file = openSync(path, 'r');
    assert.ok(fstatSync(file).size > HEADER_BYTES);
    closeSync(file);
    return [Buffer.concat([Buffer.of(1), readFileSync(path)])];
  });
}

export const log: FuzzTarget = {
  name: 'log',
  says: 'the write-ahead log (engine/kv/write-ahead-log.ts)',
  run,
  seeds,
};
