/** The record by which umount finds who serves a mount. */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isRunning } from '../../../bin/server-process.ts';
import { findRecords, writeRecord } from '../../../bin/serving-record.ts';
import { runDirectory } from '../../../bin/paths.ts';
import { type FuzzTarget, scratchDirectory } from '../target.ts';

const MOUNT_POINT = '/no/such/mount';

let file: string | undefined;

/** The file of the record, in a directory of this process' own. */
function recordFile(): string {
  if (file !== undefined) return file;
  process.env['XDG_RUNTIME_DIR'] = scratchDirectory();
  writeRecord({ mountPoint: MOUNT_POINT, store: '/s', pid: 1, startedTicks: '5', log: '/l' });
  const [name] = readdirSync(runDirectory());
  file = join(runDirectory(), name);
  return file;
}

function run(bytes: Buffer): void {
  writeFileSync(recordFile(), bytes);
  const [found] = findRecords(MOUNT_POINT);
  if (found === undefined) return;
  const { record } = found;
  assert.equal(typeof found.latest().pid, 'number');
  found.close();
  assert.equal(record.mountPoint, MOUNT_POINT);
  assert.ok(Number.isInteger(record.pid));
  assert.equal(typeof isRunning(record), 'boolean');
}

export const servingRecord: FuzzTarget = {
  name: 'serving-record',
  says: 'the record of a mount in the background (bin/serving-record.ts)',
  run,
  seeds: () => {
    const record = { mountPoint: MOUNT_POINT, store: '/s', pid: 1, startedTicks: '5', log: '/l' };
    const texts = [JSON.stringify(record), JSON.stringify({ ...record, exitStatus: 0 }), 'null'];
    return texts.map((text) => Buffer.from(text));
  },
  words: ['"pid"', '"mountPoint"', '"exitStatus"', '"startedTicks"', '1e400', '-1', 'null'],
};
