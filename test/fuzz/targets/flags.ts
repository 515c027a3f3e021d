/** Words of the command line and of the environment. */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { InvalidArgumentError } from 'commander';
import {
  countIn,
  durationSeconds,
  formatBytes,
  formatSize,
  MOUNT_OPTIONS,
  mountFlags,
  namespacesWith,
  sizeIn,
} from '../../../bin/flags.ts';
import type { FuzzTarget } from '../target.ts';

const SIZES = { min: 64 * 2 ** 20, max: 2 ** 50, step: 2 ** 20 };
const COUNTS = { min: 1, max: 64 };

/** What a parser makes of a text; undefined when it refuses it in the words of the command line. */
function parsed<T>(parse: (text: string) => T, text: string): T | undefined {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    assert.ok(error.message.length > 0);
    return undefined;
  }
}

function run(bytes: Buffer): void {
  const text = bytes.toString('utf8');
  const size = parsed(sizeIn(SIZES), text);
  if (size !== undefined) {
    assert.ok(size >= SIZES.min && size <= SIZES.max && size % SIZES.step === 0, `${size}`);
    assert.equal(sizeIn(SIZES)(formatSize(size)), size);
    assert.match(formatBytes(size), /^[\d.]+ \w+$/);
  }
  const count = parsed(countIn(COUNTS), text);
  assert.ok(count === undefined || (Number.isInteger(count) && count >= 1 && count <= COUNTS.max));
  const duration = parsed(durationSeconds, text);
  assert.ok(duration === undefined || (Number.isSafeInteger(duration) && duration >= 0));
  const names = parsed((name) => namespacesWith(name, ['one']), text);
  if (names !== undefined) {
    assert.deepStrictEqual(names, ['one', text]);
    assert.equal(
      parsed((name) => namespacesWith(name, names), text),
      undefined,
    );
  }
  checkOptions(text);
}

function checkOptions(text: string): void {
  const flags = parsed((options) => mountFlags(options, {}), text);
  if (flags === undefined) return;
  for (const [name, value] of Object.entries(flags)) {
    assert.ok(Object.hasOwn(MOUNT_OPTIONS, name), name);
    const given = value === true ? name : `${name}=${value}`;
    assert.ok(text.split(',').includes(given), given);
  }
  assert.equal(Object.getPrototypeOf(flags), Object.prototype);
}

export const flags: FuzzTarget = {
  name: 'flags',
  says: 'words of the command line (bin/flags.ts)',
  run,
  seeds: () =>
    ['256M', '1GiB', '7d', '31', 'meta_ttl_ms=5,allow_other', 'fsname=a/b:c', 'runs', '0'].map(
      (text) => Buffer.from(text),
    ),
  words: [
    ...Object.keys(MOUNT_OPTIONS),
    '=',
    ',',
    'deny',
    '__proto__',
    '9007199254740993',
    'K',
    '..',
  ],
};
