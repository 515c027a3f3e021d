import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { MillraceError } from '../../engine/errors.ts';
import { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import type { Transaction } from '../../engine/kv/kv.ts';
import { LmdbKv } from '../../engine/kv/lmdb-kv.ts';
import type { LogPosition } from '../../engine/kv/log-segment.ts';
import { MemoryKv } from '../../engine/kv/memory-kv.ts';
import { WriteAheadLog } from '../../engine/kv/write-ahead-log.ts';

const directory = mkdtempSync(path.join(tmpdir(), 'millrace-wal-'));
after(() => rmSync(directory, { recursive: true }));
const FIRST: LogPosition = { generation: 1, sequence: 0 };
const IN_MEMORY = true;
type Paths = readonly [string, string];
let files = 0;

function newPaths(): Paths {
  files += 1;
  return [path.join(directory, `${files}-log0`), path.join(directory, `${files}-log1`)];
}

function openLog(paths: Paths, bootId = 'one boot', isVolatile = false): WriteAheadLog {
  return new WriteAheadLog({ paths, bootId, isVolatile });
}

/** A log that takes records if it can, behind a store that is on its disk. */
function startLog(paths: Paths, isVolatile = false): WriteAheadLog {
  const log = openLog(paths, 'one boot', isVolatile);
  log.restart();
  log.release(log.position.generation);
  return log;
}

/** What a log says behind a position, as text. */
function replayed(log: WriteAheadLog, written: LogPosition = FIRST): string[] {
  const changes: string[] = [];
  log.replay((key, value) => {
    const text = value === undefined ? 'removed' : Buffer.from(value).toString('latin1');
    changes.push(`${Buffer.from(key).toString('latin1')}=${text.slice(0, 20)}`);
  }, written);
  return changes;
}

function append(log: WriteAheadLog, changes: Record<string, string | undefined>): boolean {
  log.begin();
  for (const [key, value] of Object.entries(changes)) {
    log.add(Buffer.from(key), value === undefined ? undefined : Buffer.from(value));
  }
  return log.append();
}

/** A Kv below that counts its commits and syncs, and refuses them when told to. */
class Below extends MemoryKv {
  refuses = false;
  /** Commits from this one on are refused. */
  refusesFrom = Number.POSITIVE_INFINITY;
  commits = 0;
  syncs = 0;

  override transact<T>(body: (transaction: Transaction) => T): T {
    return super.transact((transaction) => {
      if (this.refuses || this.commits >= this.refusesFrom) {
        throw new MillraceError('STORE_IO', 'no space');
      }
      this.commits += 1;
      return body(transaction);
    });
  }

  override async sync(): Promise<void> {
    if (this.refuses) throw new MillraceError('STORE_IO', 'no space');
    this.syncs += 1;
  }
}

function put(kv: BufferedKv, key: string, value: string): void {
  kv.transact((transaction) => transaction.put(Buffer.from(key), Buffer.from(value)));
}

function text(kv: BufferedKv | Below, key: string): string | undefined {
  const value = kv.read((snapshot) => snapshot.get(Buffer.from(key)));
  return value === undefined ? undefined : Buffer.from(value).toString('latin1');
}

/** What another process finds of a Kv below. */
function copyOf(below: Below): Below {
  const copy = new Below();
  copy.transact((transaction) => {
    below.read((snapshot) =>
      snapshot.scan(Uint8Array.of(0), Uint8Array.of(255), (key, value) => {
        transaction.put(key, value);
        return true;
      }),
    );
  });
  return copy;
}

/** A Kv whose log stands behind a synced state. */
async function openSynced(below: Below, paths: Paths): Promise<BufferedKv> {
  const kv = await BufferedKv.open(below, openLog(paths));
  put(kv, 'first', 'change');
  await kv.sync();
  return kv;
}

test('what was appended is there for the next process, in its order', () => {
  const paths = newPaths();
  const log = startLog(paths);
  assert.equal(append(log, { a: '1', b: '' }), true);
  assert.equal(append(log, { a: undefined, c: 'x'.repeat(70_000) }), true);
  const next = replayed(openLog(paths));
  assert.deepEqual(next, ['a=1', 'b=', 'a=removed', `c=${'x'.repeat(20)}`]);
  assert.deepEqual(replayed(openLog(paths, 'another boot')), next);
  assert.equal(statSync(paths[1]).mode & 0o777, 0o600);
});

test('what is written below already is passed over', () => {
  const paths = newPaths();
  const log = startLog(paths);
  append(log, { a: '1' });
  const written = log.position;
  append(log, { a: '2' });
  assert.deepEqual(replayed(openLog(paths), written), ['a=2']);
  assert.deepEqual(replayed(openLog(paths), log.position), []);
  assert.deepEqual(replayed(openLog(paths), log.next), []);
});

test('generations follow one another; a file is filled again once it is released', () => {
  const paths = newPaths();
  const log = startLog(paths);
  append(log, { a: '1' });
  assert.equal(log.rotate(), true);
  append(log, { a: '2' });
  const second = log.position;
  assert.equal(log.rotate(), false, 'the file of the first generation is still needed');
  assert.deepEqual(replayed(openLog(paths)), ['a=1', 'a=2']);
  log.release(second.generation);
  assert.equal(log.rotate(), true);
  append(log, { a: '3' });
  assert.deepEqual(replayed(openLog(paths), second), ['a=3']);
});

test('a generation that follows what was not logged needs a store that has it', () => {
  const paths = newPaths();
  const log = startLog(paths);
  append(log, { a: '1' });
  const behind = log.next;
  log.restart();
  append(log, { b: 'builds on what was not logged' });
  assert.deepEqual(replayed(openLog(paths), behind), ['b=builds on what was n']);
  assert.deepEqual(replayed(openLog(paths, 'another boot')), ['a=1']);
  assert.throws(() => replayed(openLog(paths)), { code: 'STORE_DAMAGED' });
});

test('a record counts as a whole or not at all, wherever the writing of it ended', () => {
  const paths = newPaths();
  const log = startLog(paths, IN_MEMORY);
  append(log, { first: 'whole' });
  const before = readFileSync(paths[1]);
  append(log, { second: 'torn', third: 'torn' });
  const bytes = readFileSync(paths[1]);
  for (let end = 0; end < bytes.length; end++) {
    writeFileSync(paths[1], bytes.subarray(0, end));
    const expected = end < before.length ? [] : ['first=whole'];
    assert.deepEqual(replayed(openLog(paths)), expected, `${end} bytes`);
  }
});

test('a bit that changes is noticed, or takes the last record as if it had not been written', () => {
  const paths = newPaths();
  const log = startLog(paths, IN_MEMORY);
  append(log, { a: '1' });
  append(log, { b: '2' });
  append(log, { c: '3' });
  const bytes = readFileSync(paths[1]);
  let noticed = 0;
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const wrong = Buffer.from(bytes);
    wrong[bit >>> 3] ^= 1 << (bit & 7);
    writeFileSync(paths[1], wrong);
    try {
      assert.deepEqual(replayed(openLog(paths)), ['a=1', 'b=2'], `bit ${bit}`);
    } catch (error) {
      assert.ok(error instanceof MillraceError && error.code === 'STORE_DAMAGED', `bit ${bit}`);
      noticed += 1;
    }
  }
  assert.ok(noticed > bytes.length * 4);
});

test('after a loss of power only what was synced must be whole', async () => {
  const paths = newPaths();
  const log = startLog(paths);
  append(log, { a: '1' });
  append(log, { b: '2' });
  const tear = (text: string): void => {
    const bytes = readFileSync(paths[1]);
    bytes.fill(0, bytes.indexOf(text), bytes.indexOf(text) + 1);
    writeFileSync(paths[1], bytes);
  };
  append(log, { c: 'torn' });
  append(log, { d: 'behind' });
  tear('torn');
  assert.deepEqual(replayed(openLog(paths, 'another boot')), ['a=1', 'b=2']);
  assert.throws(() => replayed(openLog(paths)), { code: 'STORE_DAMAGED' });
  await log.sync();
  append(log, { e: 'says that d is on the disk' });
  assert.throws(() => replayed(openLog(paths, 'another boot')), { code: 'STORE_DAMAGED' });
});

test('a file that is filled again may be torn where its old records are below already', async () => {
  const paths = newPaths();
  const log = startLog(paths);
  for (const key of ['a', 'b', 'c']) {
    append(log, { [key]: key.repeat(300) });
    await log.sync();
  }
  const [written, old] = [log.position, readFileSync(paths[1])];
  log.rotate();
  append(log, { d: 'behind' });
  log.release(log.position.generation);
  log.rotate();
  append(log, { e: 'x'.repeat(500) });
  const torn = readFileSync(paths[1]);
  old.copy(torn, 0, 0, 512);
  writeFileSync(paths[1], torn);
  assert.deepEqual(replayed(openLog(paths, 'another boot'), written), ['d=behind']);
  assert.throws(() => replayed(openLog(paths, 'another boot')), { code: 'STORE_DAMAGED' });
});

test('a generation that builds on what is not on the disk yet promises nothing', async () => {
  const paths = newPaths();
  const log = startLog(paths);
  append(log, { a: '1' });
  await log.sync();
  log.release(log.position.generation);
  append(log, { a: '2' });
  const [first, second] = [log.sync(), log.sync()];
  log.restart();
  append(log, { b: 'builds on what was not logged' });
  await Promise.all([first, second]);
  append(log, { c: '3' });
  assert.deepEqual(replayed(openLog(paths, 'another boot')), ['a=1', 'a=2']);
  log.release(log.position.generation);
  await log.sync();
  append(log, { d: '4' });
  assert.throws(() => replayed(openLog(paths, 'another boot')), { code: 'STORE_DAMAGED' });
});

test('values that look like heads of records do not make a torn record a damaged one', () => {
  const paths = newPaths();
  const log = startLog(paths, IN_MEMORY);
  while (log.position.generation < 120) {
    log.release(log.next.generation);
    log.restart();
  }
  const change = (at: number): [string, string] => [`i${'\0'.repeat(6)}${at}`, 'v'.repeat(120)];
  append(log, Object.fromEntries(Array.from({ length: 60 }, (_, at) => change(at))));
  const path = paths.find((each) => statSync(each).size > 1000) as string;
  writeFileSync(path, readFileSync(path).subarray(0, -20));
  const start = { generation: 120, sequence: 0 };
  assert.deepEqual(replayed(openLog(paths), start), []);
  assert.deepEqual(replayed(openLog(paths, 'another boot'), start), []);
});

test('a log is bounded, and so is a record', () => {
  const log = startLog(newPaths());
  assert.equal(append(log, { a: 'x'.repeat(2 << 20) }), false);
  assert.equal(log.isNearlyFull, false);
  let appended = 0;
  while (append(log, { a: 'x'.repeat(500_000) })) appended += 1;
  assert.equal(appended, 16);
  assert.equal(log.isNearlyFull, true);
  assert.equal(log.rotate(), true);
  assert.equal(append(log, { a: 'x'.repeat(500_000) }), true);
});

test('a log whose disk fails takes nothing any more', async () => {
  const log = startLog(['/dev/full', '/dev/full']);
  assert.equal(log.isOpen, false);
  assert.equal(append(log, { a: '1' }), false);
});

// ---- behind a Kv ----

test('a flush goes to the log, and the next process finds it', async () => {
  const paths = newPaths();
  const below = new Below();
  const kv = await openSynced(below, paths);
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
  const next = await BufferedKv.open(below, openLog(paths));
  assert.deepEqual([text(next, 'a'), text(next, 'b'), text(next, 'lost')], ['2', '3', undefined]);
  assert.equal(text(below, 'a'), '2');
});

test('a long log is replayed in small commits, and once more where that was stopped', async () => {
  const paths = newPaths();
  const below = new Below();
  const kv = await openSynced(below, paths);
  below.refuses = true;
  const keys = Array.from({ length: 700 }, (_, i) => `key ${i}`);
  for (const [i, key] of keys.entries()) {
    put(kv, key, `old ${i}`);
    put(kv, key, `value ${i}`);
    if (i % 50 === 49) kv.flush();
  }
  assert.equal(kv.isUnflushed, false);
  // The process ends here, and the next one when it has written a part.
  below.refuses = false;
  below.refusesFrom = below.commits + 2;
  // Its file is there after the end of a process.
  below.close = () => Promise.resolve();
  await assert.rejects(BufferedKv.open(below, openLog(paths)), { code: 'STORE_IO' });
  const written = keys.filter((key) => text(below, key) !== undefined).length;
  assert.ok(written > 0 && written < keys.length, `${written} of ${keys.length}`);
  below.refusesFrom = Number.POSITIVE_INFINITY;
  const next = await BufferedKv.open(copyOf(below), openLog(paths));
  for (const [i, key] of keys.entries()) assert.equal(text(next, key), `value ${i}`);
  assert.equal(text(next, 'first'), 'change');
});

test('a sync waits for the log alone', async () => {
  const below = new Below();
  const kv = await openSynced(below, newPaths());
  const { commits, syncs } = below;
  put(kv, 'a', '1');
  await kv.sync();
  assert.deepEqual([below.commits - commits, below.syncs - syncs], [0, 0]);
  assert.equal(kv.syncsAtOnce, false);
});

test('where nothing survives the machine a sync is a flush', async () => {
  const kv = await BufferedKv.open(new Below(), openLog(newPaths(), 'boot', IN_MEMORY));
  assert.equal(kv.syncsAtOnce, false, 'the log does not stand yet');
  put(kv, 'a', '1');
  await kv.sync();
  assert.equal(kv.syncsAtOnce, true);
});

test('records that are written back take nothing back', async () => {
  const paths = newPaths();
  const below = new Below();
  const kv = await openSynced(below, paths);
  put(kv, 'a', 'flushed');
  kv.flush();
  kv.transact((transaction) => {
    transaction.put(Buffer.from('a'), Buffer.from('later'));
    transaction.put(Buffer.from('b'), Buffer.from('later'));
  });
  kv.writeBack();
  const next = await BufferedKv.open(below, openLog(paths));
  assert.deepEqual([text(next, 'a'), text(next, 'b')], ['later', 'later']);
});

test('an aborted transaction does not reach the log', async () => {
  const paths = newPaths();
  const below = new Below();
  const kv = await openSynced(below, paths);
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
  const next = await BufferedKv.open(below, openLog(paths));
  assert.deepEqual([text(next, 'kept'), text(next, 'new')], ['before', undefined]);
});

test('a log that has no room is passed by, and stands again', async () => {
  const below = new Below();
  const paths = newPaths();
  const kv = await openSynced(below, paths);
  put(kv, 'a', 'x'.repeat(1_500_000));
  kv.flush();
  assert.equal(text(below, 'a')?.length, 1_500_000);
  put(kv, 'b', '1');
  await kv.sync();
  const { commits } = below;
  put(kv, 'b', '2');
  await kv.sync();
  assert.equal(below.commits, commits);
  assert.equal(text(await BufferedKv.open(below, openLog(paths)), 'b'), '2');
});

test('a clean close leaves no log, one that fails leaves it for the next process', async () => {
  const paths = newPaths();
  const below = new Below();
  const kv = await openSynced(below, paths);
  put(kv, 'a', '1');
  kv.flush();
  const left = copyOf(below);
  below.refuses = true;
  await assert.rejects(kv.close(), { code: 'STORE_IO' });
  const next = await BufferedKv.open(left, openLog(paths));
  assert.equal(text(next, 'a'), '1');
  await next.close();
  assert.deepEqual(paths.map(existsSync), [false, false]);
});

/** An LMDB file on a disk that has room when it is told so. */
async function openOnDisk(
  paths: Paths,
  disk: { errno: number },
): Promise<{ below: LmdbKv; kv: BufferedKv }> {
  const file = paths[0].replace('-log0', '.mdb');
  const below = await LmdbKv.open({ path: file, reserve: () => disk.errno });
  return { below, kv: await BufferedKv.open(below, openLog(paths)) };
}

test('a store without room is opened where its log has nothing that is missing below', async () => {
  const paths = newPaths();
  const disk: { errno: number } = { errno: 0 };
  const { kv } = await openOnDisk(paths, disk);
  put(kv, 'a', '1');
  await kv.sync();
  await kv.close();
  disk.errno = constants.errno.ENOSPC;
  const { kv: next } = await openOnDisk(paths, disk);
  assert.equal(
    next.read((snapshot) => String(snapshot.get(Buffer.from('a')))),
    '1',
  );
  await next.sync();
  await next.close();
});

test('while the store has no room, a sync succeeds by the log, and loses nothing', async () => {
  const paths = newPaths();
  const disk: { errno: number } = { errno: 0 };
  const { below, kv } = await openOnDisk(paths, disk);
  put(kv, 'a', '1');
  await kv.sync();
  disk.errno = constants.errno.ENOSPC;
  // Until what was set aside is used up.
  for (let i = 0; !kv.isFailing; i++) {
    put(kv, `fill ${i}`, 'x'.repeat(100_000));
    await kv.sync();
  }
  assert.throws(() => kv.writeBack(), { code: 'STORE_IO', message: /ENOSPC/ });
  put(kv, 'a', '2');
  await kv.sync();
  assert.equal(kv.isFailing, true, 'only a write-back shows that there is room');
  assert.equal(String(below.get(Buffer.from('a'))), '1');
  // The end of the process: what was synced is found by the next one.
  await assert.rejects(kv.close(), { code: 'STORE_IO' });
  disk.errno = 0;
  const { kv: next } = await openOnDisk(paths, disk);
  assert.equal(
    next.read((snapshot) => String(snapshot.get(Buffer.from('a')))),
    '2',
  );
  await next.close();
});

test('a log that is full while the store takes nothing goes on in its other file', async () => {
  const paths = newPaths();
  const below = new Below();
  const kv = await openSynced(below, paths);
  // Both files are there.
  for (let i = 0; i < 6; i++) {
    put(kv, 'a', 'x'.repeat(1_000_000));
    await kv.sync();
    kv.writeBack();
    await new Promise((resolve) => setImmediate(resolve));
  }
  below.refuses = true;
  put(kv, 'a', 'refused');
  assert.throws(() => kv.writeBack(), { code: 'STORE_IO' });
  for (let i = 0; i < 9; i++) {
    put(kv, 'a', `${i}${'x'.repeat(1_000_000)}`);
    await kv.sync();
  }
  const left = copyOf(below);
  const found = await BufferedKv.open(left, openLog(copyOfLog(paths)));
  assert.equal(text(found, 'a')?.[0], '8');
  below.refuses = false;
  kv.writeBack();
  await new Promise((resolve) => setImmediate(resolve));
  for (let i = 0; i < 20; i++) {
    put(kv, 'a', `${i}${'y'.repeat(1_000_000)}`);
    await kv.sync();
    kv.writeBack();
  }
  assert.equal(text(await BufferedKv.open(below, openLog(paths)), 'a')?.slice(0, 3), '19y');
});

function copyOfLog(paths: Paths): Paths {
  const copies = newPaths();
  for (const [index, file] of paths.entries())
    writeFileSync(copies[index] ?? '', readFileSync(file));
  return copies;
}
