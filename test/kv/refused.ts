/**
 * Commits, fails to sync or to commit, and works on, on a disk that refuses (crash/failing.c, loaded by whoever starts
 * this): prints the code of what each call throws, a line each.
 *
 *   refused.js FILE sync|commit ORDER     ORDER: what failing.c reads
 */
import { writeFileSync, writeSync } from 'node:fs';
import { LmdbKv } from '../../engine/kv/lmdb-kv.ts';

const control = process.env['MILLRACE_FAILING_FILE'] as string;
const kv = await LmdbKv.open({ path: process.argv[2] });

function say(line: string): void {
  writeSync(1, `${line}\n`);
}

function commit(text: string): void {
  kv.transact((transaction) => transaction.put(Buffer.from('key'), Buffer.from(text)));
}

async function tell(name: string, call: () => unknown): Promise<void> {
  try {
    await call();
    say(`${name}: done`);
  } catch (error) {
    say(`${name}: ${(error as { code?: string }).code}`);
  }
}

commit('before');
const [call, order] = process.argv.slice(3);
writeFileSync(control, order as string);
await tell(call as string, () => (call === 'sync' ? kv.sync() : commit('refused')));
writeFileSync(control, '');
await tell('commit', () => commit('after'));
await tell('sync again', () => kv.sync());
await tell('read', () => kv.read((snapshot) => say(String(snapshot.get(Buffer.from('key'))))));
await tell('close', () => kv.close());
