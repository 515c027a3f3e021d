/** Commits numbered keys for ever and prints each number once committed: to be killed by a test. */
import { writeSync } from 'node:fs';
import { LmdbKv } from '../../engine/kv/lmdb-kv.ts';

const kv = await LmdbKv.open({ path: process.argv[2] });
const key = Buffer.alloc(4);
for (let committed = 1; ; committed++) {
  kv.transact((transaction) => {
    key.writeUInt32BE(committed - 1);
    transaction.put(key, Buffer.alloc(100, committed));
  });
  writeSync(1, `${committed}\n`);
}
