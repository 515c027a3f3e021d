import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openTreeKv } from '../../engine/kv/tree-kv.ts';
import { FEATURES_KEY } from '../../engine/tree/keys.ts';
import { RecordCodec } from '../../engine/tree/records.ts';
import { openTreeFile } from '../../engine/tree-file.ts';
import { TestSealer } from './test-sealer.ts';

const sealer = new TestSealer();
const codec = new RecordCodec();

async function put(file: string, value: Uint8Array | undefined): Promise<void> {
  const kv = await openTreeKv(file);
  kv.transact((transaction) => {
    if (value === undefined) transaction.remove(FEATURES_KEY);
    else transaction.put(FEATURES_KEY, value);
  });
  await kv.close();
}

test('a tree that needs what nobody here knows is left alone', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-features-'));
  const file = join(directory, 'data.mdb');
  const opened = (): Promise<string> =>
    openTreeFile(file, sealer).then(
      (kv) => kv.close().then(() => 'opened'),
      (error: { code: string }) => error.code,
    );
  const sealed = (features: readonly string[]): Uint8Array =>
    sealer.seal(FEATURES_KEY, codec.encodeFeatures(features));
  try {
    assert.equal(await opened(), 'opened');
    await put(file, sealed([]));
    assert.equal(await opened(), 'opened');
    await put(file, sealed(['snapshots']));
    assert.equal(await opened(), 'STORE_NEWER');
    await put(
      file,
      sealed(['snapshots']).map((byte) => byte ^ 1),
    );
    assert.equal(await opened(), 'STORE_DAMAGED');
    await put(file, sealer.seal(FEATURES_KEY, codec.encodeOrphan()));
    assert.equal(await opened(), 'STORE_DAMAGED');
    await put(file, undefined);
    assert.equal(await opened(), 'opened');
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
