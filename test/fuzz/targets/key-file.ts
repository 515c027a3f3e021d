/** The file that holds the key. */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ensureKeyFile } from '../../../bin/key-file.ts';
import { Failure } from '../../../bin/failure.ts';
import { type FuzzTarget, scratchDirectory } from '../target.ts';

const DIGITS = '0123456789abcdefABCDEF00112233445566778899aabbccddeeff0011223344';
/** Bytes of the longest file that is looked at. */
const FILE_BYTES_MAX = 128;

let directory: string | undefined;

function run(bytes: Buffer): void {
  directory ??= scratchDirectory();
  const keyFile = join(directory, 'key');
  writeFileSync(keyFile, bytes, { mode: 0o600 });
  const isKey =
    bytes.length <= FILE_BYTES_MAX && /^[0-9a-fA-F]{64}[\t-\r ]*$/.test(bytes.toString('latin1'));
  let refused: string | undefined;
  try {
    const { created } = ensureKeyFile({ keyFile, store: join(directory, 'no-store') });
    assert.equal(created, false);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    refused = error.message;
  }
  assert.equal(refused === undefined, isKey, refused ?? 'a file that is no key was taken for one');
  // No message may quote what could be nearly a key.
  const text = bytes.toString('latin1');
  if (text.length >= 16 && refused !== undefined) assert.ok(!refused.includes(text));
  assert.ok(readFileSync(keyFile).equals(bytes), 'a key file was changed');
}

export const keyFile: FuzzTarget = {
  name: 'key-file',
  says: 'the key file (bin/key-file.ts)',
  run,
  seeds: () => [
    Buffer.from(`${DIGITS}\n`),
    Buffer.from(DIGITS),
    Buffer.from(`${DIGITS} \t\r\n`),
    Buffer.from(`${DIGITS}0`),
    Buffer.from(DIGITS.slice(1)),
  ],
};
