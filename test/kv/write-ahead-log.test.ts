import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { MillraceError } from '../../engine/errors.ts';
import { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import type { Transaction } from '../../engine/kv/kv.ts';
import { MemoryKv } from '../../engine/kv/memory-kv.ts';
import { WriteAheadLog } from '../../engine/kv/write-ahead-log.ts';

const directory = mkdtempSync(path.join(tmpdir(), 'millrace-wal-'));
after(() => rmSync(directory, { recursive: true }));
let files = 0;

function newPath(): string {
  files += 1;
  return path.join(directory, `log-${files}`);
}

/** What a log says, as text. */
function replayed(log: WriteAheadLog): string[] {
  const changes: string[] = [];
  const count = log.replay((key, value) => {
    const text = value === undefined ? 'removed' : Buffer.from(value).toString('latin1');
    changes.push(`${Buffer.from(key).toString('latin1')}=${text.slice(0, 20)}`);
  });
  assert.equal(count, changes.length);
  return changes;
}

function append(log: WriteAheadLog, changes: Record<string, string | undefined>): boolean {
  log.begin();
  for (const [key, value] of Object.entries(changes)) {
    log.add(Buffer.from(key), value === undefined ? undefined : Buffer.from(value));
  }
  return log.append();
}

/** A Kv below that counts its commits, and refuses them when told to. */
class Below extends MemoryKv {
  refuses = false;
  commits = 0;

  override transact<T>(body: (transaction: Transaction) => T): T {
    return super.transact((transaction) => {
      if (this.refuses) throw new MillraceError('STORE_IO', 'no space');
      this.commits += 1;
      return body(transaction);
    });
  }
}

function put(kv: BufferedKv, key: string, value: string): void {
  kv.transact((transaction) => transaction.put(Buffer.from(key), Buffer.from(value)));
}

function text(kv: BufferedKv | Below, key: string): string | undefined {
  const value = kv.read((snapshot) => snapshot.get(Buffer.from(key)));
  return value === undefined ? undefined : Buffer.from(value).toString('latin1');
}

test('what was appended is there for the next process, in its order', () => {
  const file = newPath();
  const log = new WriteAheadLog(file);
  assert.equal(append(log, { a: '1', b: '' }), true);
  assert.equal(append(log, { a: undefined, c: 'x'.repeat(70_000) }), true);
  const next = replayed(new WriteAheadLog(file));
  assert.deepEqual(next, ['a=1', 'b=', 'a=removed', `c=${'x'.repeat(20)}`]);
  assert.equal(statSync(file).mode & 0o777, 0o600);
});

test('a reset forgets everything, and what follows is not mixed with what was', () => {
  const file = newPath();
  const log = new WriteAheadLog(file);
  append(log, { a: 'old', b: 'old', c: 'old' });
  append(log, { d: 'old' });
  log.reset();
  assert.deepEqual(replayed(new WriteAheadLog(file)), []);
  append(log, { e: 'new' });
  assert.deepEqual(replayed(new WriteAheadLog(file)), ['e=new']);
});

test('a log of another boot is ignored', () => {
  const file = newPath();
  append(new WriteAheadLog(file, 'one boot'), { a: '1' });
  assert.deepEqual(replayed(new WriteAheadLog(file, 'another boot')), []);
  assert.deepEqual(replayed(new WriteAheadLog(file, 'one boot')), ['a=1']);
});

test('a record counts as a whole or not at all, wherever the writing of it ended', () => {
  const file = newPath();
  const log = new WriteAheadLog(file);
  append(log, { first: 'whole' });
  const whole = statSync(file).size;
  append(log, { second: 'torn', third: 'torn' });
  const bytes = readFileSync(file);
  for (let size = 0; size < bytes.length; size++) {
    truncateSync(file, 0);
    writeFileSync(file, bytes.subarray(0, size));
    const expected = size < whole ? [] : ['first=whole'];
    assert.deepEqual(replayed(new WriteAheadLog(file)), expected, `${size} bytes`);
  }
});

test('bytes that make no sense are an error or nothing, never more than was written', () => {
  const file = newPath();
  append(new WriteAheadLog(file), { a: '1', b: '2' });
  const bytes = readFileSync(file);
  for (let at = 0; at < bytes.length; at++) {
    const wrong = Buffer.from(bytes);
    wrong[at] ^= 0xff;
    writeFileSync(file, wrong);
    try {
      assert.ok(replayed(new WriteAheadLog(file)).length <= 2, `byte ${at}`);
    } catch (error) {
      assert.ok(error instanceof MillraceError && error.code === 'STORE_DAMAGED', `byte ${at}`);
    }
  }
});

test('a log is bounded, and so is a record', () => {
  const log = new WriteAheadLog(newPath());
  assert.equal(append(log, { a: 'x'.repeat(2 << 20) }), false);
  let appended = 0;
  while (append(log, { a: 'x'.repeat(500_000) })) appended += 1;
  assert.equal(appended, 8);
  log.reset();
  assert.equal(append(log, { a: 'x'.repeat(500_000) }), true);
});

test('a flush goes to the log, and the next process finds it', () => {
  const file = newPath();
  const below = new Below();
  const kv = new BufferedKv(below, new WriteAheadLog(file));
  const { commits } = below;
  put(kv, 'a', '1');
  assert.equal(kv.isUnflushed, true);
  kv.flush();
  put(kv, 'a', '2');
  put(kv, 'b', '3');
  kv.flush();
  assert.deepEqual([below.commits - commits, kv.isUnflushed, kv.size], [0, false, 2]);
  put(kv, 'lost', 'not flushed');
  // The process ends here: nobody closes anything.
  const next = new BufferedKv(below, new WriteAheadLog(file));
  assert.deepEqual([text(next, 'a'), text(next, 'b'), text(next, 'lost')], ['2', '3', undefined]);
  assert.equal(text(below, 'a'), '2');
});

test('what is written back needs no log any more', () => {
  const file = newPath();
  const below = new Below();
  const kv = new BufferedKv(below, new WriteAheadLog(file));
  put(kv, 'a', '1');
  kv.flush();
  kv.writeBack();
  assert.equal(text(below, 'a'), '1');
  assert.deepEqual(replayed(new WriteAheadLog(file)), []);
});

test('records that are written back take nothing back when their reset was missed', () => {
  const file = newPath();
  const below = new Below();
  const kv = new BufferedKv(below, new WriteAheadLog(file));
  put(kv, 'a', 'flushed');
  kv.flush();
  const log = readFileSync(file);
  kv.transact((transaction) => {
    transaction.put(Buffer.from('a'), Buffer.from('later'));
    transaction.put(Buffer.from('b'), Buffer.from('later'));
  });
  kv.writeBack();
  // The process was killed between the commit below and the reset of the log.
  writeFileSync(file, log);
  const next = new BufferedKv(below, new WriteAheadLog(file));
  assert.deepEqual([text(next, 'a'), text(next, 'b')], ['later', 'later']);
});

test('records are told from those of another log, and from later ones', () => {
  const file = newPath();
  const below = new Below();
  const kv = new BufferedKv(below, new WriteAheadLog(file));
  put(kv, 'a', '1');
  kv.flush();
  kv.writeBack();
  put(kv, 'a', '2');
  kv.flush();
  const next = new BufferedKv(below, new WriteAheadLog(file));
  assert.equal(text(next, 'a'), '2');
  put(next, 'a', '3');
  next.flush();
  next.writeBack();
  rmSync(file);
  let anew = new BufferedKv(below, new WriteAheadLog(file));
  for (const value of ['4', '5', '6']) {
    put(anew, 'a', value);
    anew.flush();
    anew = new BufferedKv(below, new WriteAheadLog(file));
    assert.equal(text(anew, 'a'), value);
  }
});

test('an aborted transaction does not reach the log', () => {
  const file = newPath();
  const kv = new BufferedKv(new Below(), new WriteAheadLog(file));
  put(kv, 'kept', 'before');
  const aborted = (): void => {
    kv.transact((transaction) => {
      transaction.put(Buffer.from('kept'), Buffer.from('aborted'));
      transaction.put(Buffer.from('new'), Buffer.from('aborted'));
      throw new Error('aborted');
    });
  };
  assert.throws(aborted, /aborted/);
  kv.flush();
  assert.deepEqual(replayed(new WriteAheadLog(file)), ['kept=before']);
});

test('a full log is written back', () => {
  const below = new Below();
  const kv = new BufferedKv(below, new WriteAheadLog(newPath()));
  const { commits } = below;
  for (let round = 0; round < 40; round++) {
    put(kv, 'a', `${round}${'x'.repeat(200_000)}`);
    kv.flush();
  }
  assert.ok(below.commits > commits);
  assert.equal(text(kv, 'a')?.slice(0, 2), '39');
});

test('a clean close leaves no log, one that fails leaves it for the next process', async () => {
  const file = newPath();
  const below = new Below();
  const kv = new BufferedKv(below, new WriteAheadLog(file));
  put(kv, 'a', '1');
  kv.flush();
  below.refuses = true;
  await assert.rejects(kv.close(), { code: 'STORE_IO' });
  const next = new BufferedKv(new Below(), new WriteAheadLog(file));
  assert.equal(text(next, 'a'), '1');
  await next.close();
  assert.equal(existsSync(file), false);
});
