import { Buffer } from 'node:buffer';
import { closeSync, existsSync, fstatSync, openSync, renameSync, rmSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname } from 'node:path';
import { getSystemErrorName } from 'node:util';
import { open, type RootDatabase } from 'lmdb';
import { flushDirectory } from '../durable-directory.ts';
import { MillraceError } from '../errors.ts';
import { pass } from '../kill-points.ts';
import { Anchor } from './anchor.ts';
import type { Kv, Snapshot, Transaction, TransactionSize } from './kv.ts';
import { SharedRun } from './shared-run.ts';

/**
 * Address space that is set aside for the file, in bytes; the file itself is as large as what is
 * in it. LMDB sets more aside when it is used up.
 */
const MAP_BYTES = 2 ** 36;
/**
 * Half of the buffer that values are copied through, in bytes; lmdb lends larger values from its
 * map.
 */
const GET_BUFFER_HALF_BYTES = 512 * 1024;
/**
 * Commits after which a sync starts on its own. Each commit leaves some 24 KiB of pages that
 * cannot be reused before, so this bounds what the file grows by between two syncs to about 50
 * MiB.
 */
const COMMITS_PER_SYNC = 2048;
/** Room that stays set aside behind what a commit may need, in bytes, for those that remove when there is no more. */
const SPARE_BYTES = 8 << 20;
/** Bytes that are set aside beyond that at once, where there is so much. */
const AHEAD_BYTES = 8 << 20;
/** What a transaction changes whose size is not given. */
const USUAL_SIZE: TransactionSize = { keys: 256, bytes: 2 << 20 };
/** What a commit changes that should find room before the Kv is not short of it any more. */
const SMALL_SIZE: TransactionSize = { keys: 64, bytes: 1 << 16 };
/** Pages that a commit copies for one key: those that lead to it, and a neighbour or the half of a leaf that is split. */
const PATH_PAGES = 5;
/** Values of more bytes than this may have pages of their own. */
const LONG_VALUE_BYTES = 2000;
/** Bytes that the list of free pages has for each page. */
const LISTED_BYTES = 8;
/** Pages that lead to what is in that list. */
const LIST_PATH_PAGES = 16;
/** Milliseconds after which a store that is short of room is asked for more. */
const LOOK_MS = 20;
/** LMDB's code for a key that is too long: nothing was written. */
const BAD_VALSIZE = -30_781;

/** What lmdb has but its types do not name. */
interface LmdbInternals {
  /** Sizes the buffer that values are copied through. */
  _allocateGetBuffer(halfBytes: number): unknown;
  /** fdatasync in another thread. */
  sync(callback: (error: Error | undefined) => void): void;
  db: { stat(): { pageSize: number } };
}

/** A read transaction that keeps its snapshot's pages from being reused. */
interface Pin {
  done(): void;
}

/** How a {@link LmdbKv} is opened. */
export interface LmdbKvOptions {
  /**
   * The data file; its directory must exist. `<path>-lock` (LMDB's) and `<path>-anchor` lie beside
   * it. All are readable by their owner only.
   */
  path: string;
  /** Names this run of the machine; the kernel's boot id unless given. */
  bootId?: string;
  /** Called with the path before LMDB opens the file, and only where there is one; may throw. */
  inspect?: ((path: string) => void) | undefined;
  /**
   * Sets room on the disk aside for the first `bytes` of an open file: 0 or an errno, EOPNOTSUPP
   * where the file system cannot. Without it a disk that is full ends the use of the Kv.
   */
  reserve?: (file: number, bytes: number) => number;
}

/**
 * A Kv in one LMDB file.
 *
 * What is promised: a commit is in the kernel's page cache when `transact` returns, and on the
 * disk when a later `sync` resolves. One process writes at a time.
 *
 * How: LMDB has no mode that does both well. With its defaults each commit waits for two flushes,
 * and with overlappingSync each synchronous commit waits for one, which makes every close of a
 * file as slow as the disk. So the environment is opened with noSync, where a commit is a few
 * writes to the page cache. What noSync gives up is won back by the anchor (anchor.ts): `sync`
 * flushes the file and then keeps, beside it, a copy of the two meta pages of the state that was
 * flushed; and from then on a read transaction stays open on exactly this state, so that LMDB,
 * which never overwrites a page that a reader can see, never overwrites a page of it.
 *
 * - kill -9, crash of the process: the page cache has every commit and no half of one. Nothing is
 *   lost.
 * - power loss, crash of the machine: pages that were written after the last sync may or may not
 *   be on the disk, the meta pages among them. At the next open the boot id differs from the
 *   anchor's, and the anchor's meta pages are put back: the file is, exactly, what the last sync
 *   made durable. Later commits are lost as a whole.
 *
 * WRITEMAP would save the writes to the page cache, but lets LMDB write into holes of the file: a
 * disk that is full then ends the process by SIGBUS instead of failing a commit.
 *
 * Cost: pages that are freed between two syncs are reused after the second one only, so a sync
 * starts by itself every 2048 commits; it ends when the thread's event loop turns. Syncs that are
 * asked for while one runs are one. Opening flushes the file once. A commit of a few keys takes
 * some 40 µs; one that frees thousands of pages makes those behind it slower, because LMDB checks
 * its list of free pages with each, so large changes should be cut into commits of about 64 keys.
 *
 * A flush that failed may have lost what it was to write, and the kernel reports that once: from
 * then on every commit and every sync fails, until the store is opened anew; reads go on. (A commit
 * could reuse no page any more, and would promise what no sync can keep.)
 *
 * A write that fails within a commit ends the use of the Kv: reads throw STORE_IO as well, and
 * whoever uses it has to end. LMDB gives the file up where it was a meta page, and lmdb 3.5 puts
 * the story of any other failed write into a buffer that may be too short for it, so its memory is
 * not to be trusted. What was committed is there when the file is opened again. So that a full disk
 * does not come to that, room for more than a commit needs is set aside before each (`reserve`), in
 * proportion to what it changes: a full disk fails commits only until there is room again.
 *
 * A commit copies the pages that lead to what it changes, one that removes as well. So room for
 * 8 MiB more is kept behind every commit, for as long as the disk has it. Once it does not, the Kv
 * `isShort`, and commits use that room. Whoever then only removes, in small commits, and syncs when
 * the Kv `wantsSync`, can go on: the file takes the pages that were freed before the last sync, and
 * grows no more.
 *
 * Threads: one thread uses one LmdbKv; flushes run on Node's thread pool. Values above 1 MiB are
 * lent from the map.
 */
export class LmdbKv implements Kv, Transaction {
  readonly #database: RootDatabase<Buffer, Uint8Array>;
  readonly #internals: LmdbInternals;
  readonly #anchor: Anchor;
  readonly #syncs = new SharedRun(() => this.#flush());
  #pin: Pin | undefined;
  /** Keeps the state that a failed sync may or may not have made the anchor's. */
  #doubtful: Pin | undefined;
  #closing: Promise<void> | undefined;
  #commitsToSync = COMMITS_PER_SYNC;
  #failure: MillraceError | undefined;
  /** Why nothing may be read any more either. */
  #broken: MillraceError | undefined;
  /** The data file, open for `#reserve`. */
  readonly #file: number;
  readonly #reserve: LmdbKvOptions['reserve'];
  /** Known from the first sync on, with which the Kv is opened. */
  #pageBytes = 0;
  /** So many bytes of the file have their place on the disk. */
  #reservedBytes = 0;
  #isShort = false;
  #looksAt = 0;
  /** Length of the file as the last sync began. */
  #syncedBytes = 0;
  #depth = 0;
  #poisoned = false;

  private constructor(
    database: RootDatabase<Buffer, Uint8Array>,
    anchor: Anchor,
    { path, reserve }: LmdbKvOptions,
  ) {
    this.#database = database;
    this.#file = openSync(path, 'r+');
    this.#reserve = reserve;
    this.#internals = internalsOf(database);
    this.#anchor = anchor;
    this.#internals._allocateGetBuffer(GET_BUFFER_HALF_BYTES);
  }

  /**
   * Opens the file, making it when there is none, and brings it back to its last sync after a
   * power loss.
   */
  static async open(options: LmdbKvOptions): Promise<LmdbKv> {
    const { path, bootId, inspect } = options;
    const anchor = new Anchor(path, bootId);
    anchor.restore();
    if (existsSync(path)) inspect?.(path);
    else await makeFile(path);
    const kv = new LmdbKv(openDatabase(path), anchor, options);
    await kv.sync();
    return kv;
  }

  transact<T>(body: (transaction: Transaction) => T, size: TransactionSize = USUAL_SIZE): T {
    this.#assertOpen();
    if (this.#depth > 0) return this.#join(body);
    if (this.#failure !== undefined) throw this.#failure;
    this.#setRoomAside(size);
    let result: T | undefined;
    let failed = true;
    this.#depth = 1;
    this.#poisoned = false;
    try {
      this.#database.transactionSync(() => {
        result = body(this);
        if (this.#poisoned) throw new MillraceError('INVARIANT', 'a nested transaction failed');
        failed = false;
      });
    } catch (error) {
      if (failed) throw error;
      throw this.#giveUp('commit', error);
    } finally {
      this.#depth = 0;
    }
    if (--this.#commitsToSync === 0) this.#syncs.run().catch(() => {});
    return result as T;
  }

  read<T>(body: (snapshot: Snapshot) => T): T {
    this.#assertOpen();
    return body(this);
  }

  get(key: Uint8Array): Uint8Array | undefined {
    this.#assertWhole();
    const value = this.#database.getBinaryFast(key);
    // What lmdb returns is longer than it says: native code would see all of the buffer.
    return value === undefined ? undefined : Buffer.prototype.subarray.call(value, 0, value.length);
  }

  put(key: Uint8Array, value: Uint8Array): void {
    this.#assertWriting();
    try {
      this.#database.putSync(key, value as Buffer);
    } catch (error) {
      throw this.#giveUp('write', error);
    }
  }

  remove(key: Uint8Array): void {
    this.#assertWriting();
    try {
      this.#database.removeSync(key);
    } catch (error) {
      throw this.#giveUp('write', error);
    }
  }

  scan(
    from: Uint8Array,
    to: Uint8Array,
    visit: (key: Uint8Array, value: Uint8Array) => boolean,
  ): void {
    this.#assertWhole();
    for (const { key, value } of this.#database.getRange({ start: from, end: to })) {
      if (!visit(key, value)) return;
    }
  }

  sync(): Promise<void> {
    this.#assertOpen();
    return this.#syncs.run();
  }

  close(): Promise<void> {
    this.#closing ??= this.#syncAndClose();
    return this.#closing;
  }

  async #syncAndClose(): Promise<void> {
    try {
      await this.#syncs.run();
      // Then both slots of the anchor say the same: the loss of either takes nothing back.
      await this.#syncs.run();
    } finally {
      this.#pin?.done();
      this.#doubtful?.done();
      this.#pin = undefined;
      this.#doubtful = undefined;
      this.#anchor.close();
      closeSync(this.#file);
      await this.#database.close();
    }
  }

  /** Flushes the state of this moment, and makes it the one that survives a power loss. */
  async #flush(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#commitsToSync = COMMITS_PER_SYNC;
    this.#syncedBytes = this.#fileBytes;
    const pin = this.#database.useReadTransaction() as unknown as Pin;
    try {
      await this.#save();
    } catch (error) {
      // Where the anchor may name this state already, its pages must not be reused.
      if (this.#failure === undefined) pin.done();
      else this.#doubtful = pin;
      throw error;
    }
    this.#pin?.done();
    this.#pin = pin;
  }

  async #save(): Promise<void> {
    const metas = await this.#orNeverAgain(async () => {
      this.#pageBytes = this.#internals.db.stat().pageSize;
      const found = this.#anchor.readMetas(this.#pageBytes);
      pass('tree-sync');
      await flushed(this.#database);
      pass('tree-synced');
      return found;
    });
    try {
      this.#anchor.write(metas);
    } catch (error) {
      // Nothing is lost: once there is room, the next sync succeeds.
      throw storeError('sync', error);
    }
    await this.#orNeverAgain(() => this.#anchor.save());
  }

  /** Runs a step after whose failure it is unknown what the disk holds: every later commit and sync fails too. */
  async #orNeverAgain<T>(step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (error) {
      this.#failure = storeError('sync', error);
      throw this.#failure;
    }
  }

  #join<T>(body: (transaction: Transaction) => T): T {
    this.#depth++;
    try {
      return body(this);
    } catch (error) {
      this.#poisoned = true;
      throw error;
    } finally {
      this.#depth--;
    }
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) {
      throw new MillraceError('CLOSED', 'the key-value store is closed');
    }
  }

  #assertWhole(): void {
    if (this.#broken !== undefined) throw this.#broken;
  }

  // ---- room ----

  get isShort(): boolean {
    if (this.#isShort) this.#look(this.#needed(SMALL_SIZE));
    return this.#isShort;
  }

  get wantsSync(): boolean {
    return this.#isShort && this.#failure === undefined && this.#fileBytes > this.#syncedBytes;
  }

  get #fileBytes(): number {
    return fstatSync(this.#file).size;
  }

  /** Sees to it that the next commit finds room; throws STORE_IO where there is none. */
  #setRoomAside(size: TransactionSize): void {
    if (this.#reserve === undefined) return;
    const needed = this.#needed(size);
    this.#look(needed);
    const errno = this.#extend(needed);
    if (errno !== 0) throw storeError('commit', getSystemErrorName(-errno));
  }

  /**
   * More bytes than the file has behind a commit that finds no free page in it. No page of the file is copied twice.
   */
  #needed({ keys, bytes }: TransactionSize): number {
    const fileBytes = this.#fileBytes;
    const pageBytes = this.#pageBytes;
    const filePages = Math.ceil(fileBytes / pageBytes);
    const paths = Math.min(PATH_PAGES * keys, filePages + 2 * keys);
    const longValues = Math.min(keys, Math.ceil(bytes / LONG_VALUE_BYTES));
    const values = Math.ceil(bytes / pageBytes) + longValues;
    const listed = filePages + 2 * (paths + values);
    const list = Math.ceil((listed * LISTED_BYTES) / pageBytes) + LIST_PATH_PAGES;
    return fileBytes + (paths + values + list) * pageBytes;
  }

  /** Has more than the first `needed` bytes set aside; says in `isShort` whether that is there. */
  #look(needed: number): void {
    const now = performance.now();
    if (this.#isShort && now < this.#looksAt) return;
    this.#looksAt = now + LOOK_MS;
    const spared = needed + SPARE_BYTES;
    this.#isShort = this.#extend(spared + AHEAD_BYTES, spared) !== 0;
  }

  /** Has room set aside for the first `wanted` bytes of the file, or else for those that are `needed`; 0 or an errno. */
  #extend(wanted: number, needed = wanted): number {
    if (this.#reserve === undefined || needed <= this.#reservedBytes) return 0;
    const errno = this.#reserve(this.#file, wanted);
    if (errno === constants.errno.EOPNOTSUPP) {
      this.#reservedBytes = Number.POSITIVE_INFINITY;
      return 0;
    }
    if (errno === 0) this.#reservedBytes = wanted;
    else if (wanted > needed) return this.#extend(needed);
    return errno;
  }

  /** Nothing may be asked of LMDB any more, but that it closes. */
  #giveUp(what: string, error: unknown): MillraceError {
    if ((error as { code?: unknown }).code === BAD_VALSIZE) return storeError(what, error);
    this.#broken = storeError(what, error);
    this.#failure = this.#broken;
    return this.#broken;
  }

  #assertWriting(): void {
    if (this.#depth === 0)
      throw new MillraceError('INVARIANT', 'a change outside of a transaction');
  }
}

/** Makes an empty file that is durable before it has its name: a power loss leaves all of it or nothing. */
async function makeFile(path: string): Promise<void> {
  const next = `${path}-new`;
  const nextFiles = [next, `${next}-lock`];
  for (const file of nextFiles) rmSync(file, { force: true });
  const database = openDatabase(next);
  try {
    await flushed(database);
  } finally {
    await database.close();
  }
  pass('tree-made');
  renameSync(next, path);
  for (const file of nextFiles) rmSync(file, { force: true });
  await flushDirectory(dirname(path));
  pass('tree-named');
}

/** Resolves when everything that was committed is on the disk. */
function flushed(database: RootDatabase<Buffer, Uint8Array>): Promise<void> {
  return new Promise((resolve, reject) => {
    internalsOf(database).sync((error) => (error ? reject(error) : resolve()));
  });
}

function internalsOf(database: RootDatabase<Buffer, Uint8Array>): LmdbInternals {
  return database as unknown as LmdbInternals;
}

function openDatabase(path: string): RootDatabase<Buffer, Uint8Array> {
  const options = {
    path,
    noSubdir: true,
    keyEncoding: 'binary',
    encoding: 'binary',
    compression: false,
    cache: false,
    mapSize: MAP_BYTES,
    overlappingSync: false,
    noSync: true,
    permissionsMode: 0o600,
  } as const;
  try {
    return open<Buffer, Uint8Array>(options);
  } catch (error) {
    throw storeError('open', error);
  }
}

function storeError(what: string, cause: unknown): MillraceError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new MillraceError('STORE_IO', `metadata ${what} failed: ${reason}`, {
    hint: 'Check free space and the health of the disk that holds the store.',
    cause,
  });
}
