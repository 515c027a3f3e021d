import { Buffer } from 'node:buffer';
import { existsSync } from 'node:fs';
import { open, type RootDatabase } from 'lmdb';
import { MillraceError } from '../errors.ts';
import { pass } from '../kill-points.ts';
import { Anchor } from './anchor.ts';
import type { Kv, Snapshot, Transaction } from './kv.ts';
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
 * then on every sync fails, until the store is opened anew. A disk that is full fails commits and
 * syncs only until there is room again.
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
  #depth = 0;
  #poisoned = false;

  private constructor(database: RootDatabase<Buffer, Uint8Array>, anchor: Anchor) {
    this.#database = database;
    this.#internals = database as unknown as LmdbInternals;
    this.#anchor = anchor;
    this.#internals._allocateGetBuffer(GET_BUFFER_HALF_BYTES);
  }

  /**
   * Opens the file, making it when there is none, and brings it back to its last sync after a
   * power loss.
   */
  static async open({ path, bootId, inspect }: LmdbKvOptions): Promise<LmdbKv> {
    const anchor = new Anchor(path, bootId);
    anchor.restore();
    if (inspect !== undefined && existsSync(path)) inspect(path);
    const kv = new LmdbKv(openDatabase(path), anchor);
    await kv.sync();
    return kv;
  }

  transact<T>(body: (transaction: Transaction) => T): T {
    this.#assertOpen();
    if (this.#depth > 0) return this.#join(body);
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
      throw storeError('commit', error);
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
    const value = this.#database.getBinaryFast(key);
    // What lmdb returns is longer than it says: native code would see all of the buffer.
    return value === undefined ? undefined : Buffer.prototype.subarray.call(value, 0, value.length);
  }

  put(key: Uint8Array, value: Uint8Array): void {
    this.#assertWriting();
    try {
      this.#database.putSync(key, value as Buffer);
    } catch (error) {
      throw storeError('write', error);
    }
  }

  remove(key: Uint8Array): void {
    this.#assertWriting();
    try {
      this.#database.removeSync(key);
    } catch (error) {
      throw storeError('write', error);
    }
  }

  scan(
    from: Uint8Array,
    to: Uint8Array,
    visit: (key: Uint8Array, value: Uint8Array) => boolean,
  ): void {
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
      await this.#database.close();
    }
  }

  /** Flushes the state of this moment, and makes it the one that survives a power loss. */
  async #flush(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#commitsToSync = COMMITS_PER_SYNC;
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
      const found = this.#anchor.readMetas(this.#internals.db.stat().pageSize);
      pass('tree-sync');
      await this.#flushFile();
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

  /** Runs a step after whose failure it is unknown what the disk holds: every later sync fails too. */
  async #orNeverAgain<T>(step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (error) {
      this.#failure = storeError('sync', error);
      throw this.#failure;
    }
  }

  #flushFile(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#internals.sync((error) => (error ? reject(error) : resolve()));
    });
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

  #assertWriting(): void {
    if (this.#depth === 0)
      throw new MillraceError('INVARIANT', 'a change outside of a transaction');
  }
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
