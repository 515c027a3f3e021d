import { Buffer } from 'node:buffer';
import { MillraceError } from '../errors.ts';
import { pass } from '../kill-points.ts';
import type { Kv, Snapshot, Transaction } from './kv.ts';
import type { WriteAheadLog } from './write-ahead-log.ts';

/**
 * Keys that are collected before they are written back. It is no larger because LMDB pays with
 * every later commit for the pages that one transaction frees: a commit that removes 3000 keys
 * makes those behind it ten times slower.
 */
const KEYS_MAX = 256;
/** Bytes that are collected, superseded values included, before they are written back. */
const BYTES_MAX = 2 << 20;
/** More collected keys than this are written back before a scan, which would look at all of them. */
const SCANNED_MAX = 64;
/** Bytes of one block of the arena; a value of more than a quarter of it gets memory of its own. */
const BLOCK_BYTES = 1 << 18;
/** Length of a removed key's value. */
const REMOVED = -1;
/**
 * The key below that says which records of the log are written back, in the same transaction.
 *
 * A process that is killed between that commit and the reset of its log leaves records that are
 * older than what is below. Replayed, they would take back a part of it: only keys that had been
 * flushed before.
 */
const WRITTEN_LOG_NAME = '\0log';
const WRITTEN_LOG: Uint8Array = Buffer.from(WRITTEN_LOG_NAME, 'latin1');

/** One key that differs from the Kv below. Key and value lie behind one another in `block`. */
interface Change {
  readonly block: Uint8Array;
  readonly at: number;
  readonly keyBytes: number;
  /** Bytes of the value, or REMOVED. */
  readonly valueBytes: number;
}

/** How to take back one change: what was collected for the key before, if anything. */
interface Undo {
  readonly name: string;
  readonly before: Change | undefined;
}

/**
 * A Kv that collects transactions and writes many of them below as one.
 *
 * A transaction is visible to this thread at once, but survives the end of the process only after
 * `flush` (and the end of the machine after `sync`). Most operations of a file system promise
 * nothing until a file is closed or synced, so a commit per operation would be waste. With a
 * write-ahead log a flush is one write to the page cache, and what was collected goes below when
 * there is enough of it, or when the owner has nothing else to do and calls `writeBack`.
 *
 * A flush or write-back that fails leaves everything collected, and can be repeated: nothing is
 * lost by an error of the store, and until one succeeds `isFailing` is true.
 *
 * **Bounds:** when 256 keys or 2 MiB are collected, the end of a transaction writes them back; one
 * transaction may be larger. While that fails memory grows with every change: whoever transacts
 * must refuse changes while `isFailing` (see `failure`), and call `flush` to learn whether the
 * store has recovered.
 *
 * Keys: the one of the bytes 0, "log" belongs to this class; a scan passes it over.
 *
 * Threads: one thread uses one BufferedKv. Ownership: keys and values are copied; values that
 * `get` and `scan` lend are valid until the next flush at most.
 */
export class BufferedKv implements Kv, Transaction {
  readonly #below: Kv;
  readonly #log: WriteAheadLog | undefined;
  readonly #arena = new Arena();
  /** By key, as a Latin-1 string: its order is the order of the bytes. */
  readonly #changes = new Map<string, Change>();
  /** Keys whose changes would not survive the end of the process. */
  readonly #unflushed = new Set<string>();
  #undo: Undo[] | undefined;
  #poisoned = false;
  #failure: Error | undefined;
  #closing: Promise<void> | undefined;

  /** Over `below`; what an earlier process left in the log is written there first. */
  constructor(below: Kv, log?: WriteAheadLog) {
    this.#below = below;
    this.#log = log;
    if (log !== undefined) recover(below, log);
  }

  /** Keys that the next write-back will write. */
  get size(): number {
    return this.#changes.size;
  }

  /** Whether there are changes that would not survive the end of the process. */
  get isUnflushed(): boolean {
    return this.#unflushed.size > 0;
  }

  /** Bytes of memory that the collected changes hold, superseded ones included. */
  get bytes(): number {
    return this.#arena.bytes;
  }

  /** Whether the last flush or write-back failed: what was collected may lie in memory only. */
  get isFailing(): boolean {
    return this.#failure !== undefined;
  }

  /** What the last flush or write-back failed with; undefined when it succeeded. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  transact<T>(body: (transaction: Transaction) => T): T {
    if (this.#undo !== undefined) return this.#join(body);
    this.#assertOpen();
    this.#undo = [];
    this.#poisoned = false;
    let result: T;
    try {
      result = body(this);
      if (this.#poisoned) throw new MillraceError('INVARIANT', 'a nested transaction failed');
      this.#undo = undefined;
    } catch (error) {
      this.#rollBack();
      throw error;
    }
    if (this.#isFull && !this.isFailing) this.#tryWriteBack();
    return result;
  }

  #join<T>(body: (transaction: Transaction) => T): T {
    try {
      return body(this);
    } catch (error) {
      this.#poisoned = true;
      throw error;
    }
  }

  #rollBack(): void {
    const undo = this.#undo ?? [];
    this.#undo = undefined;
    for (let i = undo.length - 1; i >= 0; i--) {
      const { name, before } = undo[i];
      if (before === undefined) this.#changes.delete(name);
      else this.#changes.set(name, before);
    }
  }

  get #isFull(): boolean {
    return this.#changes.size >= KEYS_MAX || this.#arena.bytes >= BYTES_MAX;
  }

  /** The transaction stands already: that it cannot be written yet is told by `isFailing`. */
  #tryWriteBack(): void {
    try {
      this.writeBack();
    } catch {
      // Kept, to be written again.
    }
  }

  read<T>(body: (snapshot: Snapshot) => T): T {
    this.#assertOpen();
    return body(this);
  }

  get(key: Uint8Array): Uint8Array | undefined {
    const change = this.#changes.size === 0 ? undefined : this.#changes.get(nameOf(key));
    return change === undefined
      ? this.#below.read((below) => below.get(key))
      : changedValue(change);
  }

  put(key: Uint8Array, value: Uint8Array): void {
    this.#change(key, value);
  }

  remove(key: Uint8Array): void {
    this.#change(key, undefined);
  }

  #change(key: Uint8Array, value: Uint8Array | undefined): void {
    if (this.#undo === undefined) {
      throw new MillraceError('INVARIANT', 'a key was changed outside of a transaction');
    }
    const name = nameOf(key);
    this.#undo.push({ name, before: this.#changes.get(name) });
    this.#unflushed.add(name);
    this.#changes.set(name, this.#arena.add(key, value));
  }

  scan(
    from: Uint8Array,
    to: Uint8Array,
    visit: (key: Uint8Array, value: Uint8Array) => boolean,
  ): void {
    const isMany = this.#changes.size > SCANNED_MAX;
    if (isMany && this.#undo === undefined && !this.isFailing) this.#tryWriteBack();
    const [first, behind] = [nameOf(from), nameOf(to)];
    const names = this.#changedBetween(first, behind);
    const isOurs = first <= WRITTEN_LOG_NAME && WRITTEN_LOG_NAME < behind;
    if (names.length === 0 && !isOurs) {
      this.#below.read((below) => below.scan(from, to, visit));
      return;
    }
    let next = 0;
    let goesOn = true;
    /** Visits the changes before a key below; true when one of them replaces it. */
    const visitUntil = (name: string | undefined): boolean => {
      while (goesOn && next < names.length) {
        const changed = names[next];
        if (name !== undefined && changed > name) return false;
        next += 1;
        const change = this.#changes.get(changed) as Change;
        const value = changedValue(change);
        if (value !== undefined) goesOn = visit(changedKey(change), value);
        if (changed === name) return true;
      }
      return false;
    };
    this.#below.read((below) =>
      below.scan(from, to, (key, value) => {
        const name = nameOf(key);
        if (!visitUntil(name) && goesOn && name !== WRITTEN_LOG_NAME) goesOn = visit(key, value);
        return goesOn;
      }),
    );
    visitUntil(undefined);
  }

  /** What was changed in a range, in order. Cost: all that is collected. */
  #changedBetween(from: string, to: string): string[] {
    const names: string[] = [];
    for (const name of this.#changes.keys()) {
      if (name >= from && name < to) names.push(name);
    }
    return names.length > 1 ? names.sort(inOrder) : names;
  }

  /**
   * Makes every transaction so far survive the end of the process. Throws what the Kv below or the
   * log throws (STORE_IO when it refuses), and keeps everything then. Not within a transaction.
   */
  flush(): void {
    this.#assertOutside();
    if (!this.isUnflushed && !this.isFailing) return;
    if (this.isFailing || !this.#tryLog()) this.writeBack();
  }

  /** Appends what is not flushed to the log; false when it has to be written back instead. */
  #tryLog(): boolean {
    const log = this.#log;
    if (log === undefined) return false;
    log.begin();
    for (const name of this.#unflushed) {
      const change = this.#changes.get(name);
      // A key that an aborted transaction touched first is not among the changes.
      if (change !== undefined) log.add(changedKey(change), changedValue(change));
    }
    try {
      if (!log.append()) return false;
    } catch {
      return false; // What refuses the log may still take a commit, or says why it does not.
    }
    this.#unflushed.clear();
    return true;
  }

  /**
   * Writes what was collected below, as one transaction. Throws what the Kv below throws (STORE_IO
   * when it refuses), and keeps everything then. Not within a transaction.
   */
  writeBack(): void {
    this.#assertOutside();
    try {
      pass('write-back');
      if (this.#changes.size > 0) this.#below.transact((below) => this.#writeAll(below));
      pass('written-back');
      this.#unflushed.clear();
      this.#log?.reset();
    } catch (error) {
      this.#failure = error instanceof Error ? error : new Error(String(error));
      throw error;
    }
    this.#changes.clear();
    this.#arena.clear();
    this.#failure = undefined;
  }

  #assertOutside(): void {
    if (this.#undo !== undefined) {
      throw new MillraceError('INVARIANT', 'a transaction cannot be flushed before it ends');
    }
  }

  #writeAll(below: Transaction): void {
    for (const change of this.#changes.values()) {
      const value = changedValue(change);
      if (value === undefined) below.remove(changedKey(change));
      else below.put(changedKey(change), value);
    }
    const mark = this.#log?.mark;
    if (mark !== undefined) below.put(WRITTEN_LOG, mark);
    pass('write-back-commit');
  }

  async sync(): Promise<void> {
    this.#assertOpen();
    this.writeBack();
    await this.#below.sync();
  }

  close(): Promise<void> {
    this.#closing ??= this.#writeBackAndClose();
    return this.#closing;
  }

  async #writeBackAndClose(): Promise<void> {
    let isWritten = false;
    try {
      this.writeBack();
      isWritten = true;
    } finally {
      // The log goes last: until then the changes may lie nowhere else.
      await this.#below.close().catch((error: unknown) => {
        isWritten = false;
        throw error;
      });
      pass('tree-closed');
      this.#log?.close(isWritten);
      pass('log-removed');
    }
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) {
      throw new MillraceError('CLOSED', 'the key-value store is closed');
    }
  }
}

/** Writes what an earlier process left in the log where it belongs. */
function recover(below: Kv, log: WriteAheadLog): void {
  below.transact((transaction) => {
    log.replay((key, value) => {
      if (value === undefined) transaction.remove(key);
      else transaction.put(key, value);
    }, transaction.get(WRITTEN_LOG));
  });
  pass('log-replayed');
  log.reset();
}

/** Memory for keys and values that are all given up at once: an allocation each would cost more than the copy. */
class Arena {
  #block = new Uint8Array(BLOCK_BYTES);
  #used = 0;
  #bytes = 0;

  /** Bytes that were added since the last `clear`. */
  get bytes(): number {
    return this.#bytes;
  }

  add(key: Uint8Array, value: Uint8Array | undefined): Change {
    const keyBytes = key.length;
    const length = keyBytes + (value?.length ?? 0);
    this.#bytes += length;
    const block = length > BLOCK_BYTES / 4 ? new Uint8Array(length) : this.#room(length);
    const at = block === this.#block ? this.#used : 0;
    if (block === this.#block) this.#used += length;
    for (let i = 0; i < keyBytes; i++) block[at + i] = key[i];
    if (value !== undefined) block.set(value, at + keyBytes);
    return { block, at, keyBytes, valueBytes: value === undefined ? REMOVED : value.length };
  }

  /** A block with that much room behind what is used; full ones belong to their changes. */
  #room(length: number): Uint8Array {
    if (this.#used + length > BLOCK_BYTES) {
      this.#block = new Uint8Array(BLOCK_BYTES);
      this.#used = 0;
    }
    return this.#block;
  }

  /** Gives up everything: no change may be used any more. */
  clear(): void {
    this.#used = 0;
    this.#bytes = 0;
  }
}

function changedKey({ block, at, keyBytes }: Change): Uint8Array {
  return block.subarray(at, at + keyBytes);
}

function changedValue({ block, at, keyBytes, valueBytes }: Change): Uint8Array | undefined {
  if (valueBytes === REMOVED) return undefined;
  return block.subarray(at + keyBytes, at + keyBytes + valueBytes);
}

function nameOf(key: Uint8Array): string {
  return Buffer.prototype.latin1Slice.call(key, 0, key.length);
}

function inOrder(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
