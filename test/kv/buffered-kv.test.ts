import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import { MillraceError } from '../../engine/errors.ts';
import { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import type { Snapshot, Transaction } from '../../engine/kv/kv.ts';
import { MemoryKv } from '../../engine/kv/memory-kv.ts';

const FIRST = Uint8Array.of(0);
const LAST = Uint8Array.of(255);

/** A Kv in memory whose commits fail when told to, after everything was written. */
class UnreliableKv extends MemoryKv {
  refuses = false;
  commits = 0;

  override transact<T>(body: (transaction: Transaction) => T): T {
    return super.transact((transaction) => {
      const result = body(transaction);
      if (this.refuses) throw new MillraceError('STORE_IO', 'no space');
      this.commits += 1;
      return result;
    });
  }
}

function open(): { below: UnreliableKv; kv: BufferedKv } {
  const below = new UnreliableKv();
  return { below, kv: new BufferedKv(below) };
}

function put(kv: BufferedKv, key: number, value: Uint8Array): void {
  kv.transact((transaction) => transaction.put(Uint8Array.of(1, key), value));
}

/** As `put`, for more than 256 keys. */
function putWide(kv: BufferedKv, key: number, value: Uint8Array): void {
  kv.transact((transaction) => transaction.put(Uint8Array.of(1, key >>> 8, key & 0xff), value));
}

function contents(snapshot: Snapshot): string[] {
  const found: string[] = [];
  snapshot.scan(FIRST, LAST, (key, value) => {
    found.push(`${key[1]}=${Buffer.from(value).toString('latin1')}`);
    return true;
  });
  return found;
}

test('nothing reaches the store before a flush, and a flush is one commit', () => {
  const { below, kv } = open();
  put(kv, 1, Buffer.from('a'));
  put(kv, 2, Buffer.from('b'));
  put(kv, 1, Buffer.from('c'));
  assert.deepEqual(contents(below), []);
  assert.deepEqual(contents(kv), ['1=c', '2=b']);
  assert.equal(kv.size, 2);
  kv.flush();
  assert.deepEqual(contents(below), ['1=c', '2=b']);
  assert.deepEqual([below.commits, kv.size, kv.bytes], [1, 0, 0]);
  kv.flush();
  assert.equal(below.commits, 1);
});

test('an aborted transaction leaves what was collected before as it was', () => {
  const { kv } = open();
  put(kv, 1, Buffer.from('kept'));
  const aborted = (): void => {
    kv.transact((transaction) => {
      transaction.put(Uint8Array.of(1, 1), Buffer.from('x'));
      transaction.remove(Uint8Array.of(1, 1));
      transaction.put(Uint8Array.of(1, 2), Buffer.from('y'));
      throw new Error('aborted');
    });
  };
  assert.throws(aborted, /aborted/);
  assert.deepEqual(contents(kv), ['1=kept']);
  assert.equal(kv.size, 1);
});

test('a flush that fails keeps everything, says so, and can be repeated', () => {
  const { below, kv } = open();
  put(kv, 1, Buffer.from('a'));
  kv.flush();
  below.refuses = true;
  put(kv, 1, Buffer.from('b'));
  put(kv, 2, Buffer.from('c'));
  for (let attempt = 0; attempt < 2; attempt++) {
    assert.throws(() => kv.flush(), { code: 'STORE_IO' });
    assert.equal(kv.isFailing, true);
    assert.match(String(kv.failure), /no space/);
    assert.deepEqual(contents(kv), ['1=b', '2=c']);
    assert.deepEqual(contents(below), ['1=a']);
  }
  put(kv, 3, Buffer.from('d'));
  below.refuses = false;
  kv.flush();
  assert.equal(kv.isFailing, false);
  assert.equal(kv.failure, undefined);
  assert.deepEqual(contents(below), ['1=b', '2=c', '3=d']);
});

test('what is collected is bounded, by keys and by bytes', () => {
  const { below, kv } = open();
  for (let key = 0; key < 800; key++) putWide(kv, key, FIRST);
  assert.equal(below.commits, 3);
  kv.flush();
  for (let round = 0; round < 40; round++) put(kv, 7, Buffer.alloc(100_000, round));
  assert.ok(kv.bytes < 2_300_000, `${kv.bytes} bytes`);
  assert.ok(kv.size <= 1);
});

test('a store that fails is not tried again at the end of every transaction', () => {
  const { below, kv } = open();
  below.refuses = true;
  for (let key = 0; key < 300; key++) putWide(kv, key, FIRST);
  assert.equal(kv.isFailing, true);
  assert.equal(kv.size, 300);
  below.refuses = false;
  putWide(kv, 301, FIRST);
  assert.equal(below.commits, 0);
  kv.flush();
  assert.equal(contents(below).length, 301);
});

test('a flush in the middle of a transaction is refused', () => {
  const { kv } = open();
  const body = (): void => {
    kv.transact((transaction) => {
      transaction.put(FIRST, FIRST);
      kv.flush();
    });
  };
  assert.throws(body, { code: 'INVARIANT' });
  assert.equal(kv.size, 0);
});

test('a close whose flush fails says so, and lets go of the store below', async () => {
  const { below, kv } = open();
  below.refuses = true;
  put(kv, 1, FIRST);
  await assert.rejects(kv.close(), { code: 'STORE_IO' });
  assert.throws(() => below.read(() => 0), { code: 'CLOSED' });
});
