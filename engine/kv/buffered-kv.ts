import { Buffer } from 'node:buffer';
import { MillraceError } from '../errors.ts';
import { pass } from '../kill-points.ts';
import type { Kv, Snapshot, Transaction, TransactionSize } from './kv.ts';
import type { LogPosition } from './log-segment.ts';
import type { WriteAheadLog } from './write-ahead-log.ts';
import { putWrittenPosition, WRITTEN_POSITION_KEY, writtenPosition } from './written-position.ts';

/**
 * Keys that are collected before they are written back. It is no larger because LMDB pays with
 * every later commit for the pages that one transaction frees: a commit that removes 3000 keys
 * makes those behind it ten times slower.
 */
const KEYS_MAX = 256;
/** The same while the Kv below is short of room: what one commit needs must be there. */
const KEYS_SHORT_MAX = 64;
/** Bytes that are collected, superseded values included, before they are written back. */
const BYTES_MAX = 2 << 20;
/** More collected keys than this are written back before a scan, which would look at all of them. */
const SCANNED_MAX = 64;
/** Bytes of one block of the arena; a value of more than a quarter of it gets memory of its own. */
const BLOCK_BYTES = 1 << 18;
/** More than the position of the log takes below. */
const POSITION_BYTES = 64;
/** Length of a removed key's value. */
const REMOVED = -1;
const WRITTEN_POSITION_NAME = Buffer.from(WRITTEN_POSITION_KEY).toString('latin1');

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
 * write-ahead log a flush is one write to the page cache, a sync waits for the log alone, and what
 * was collected goes below when there is enough of it, or when the owner has nothing else to do and
 * calls `writeBack`.
 *
 * With a log everything goes through it, so that record follows record and each state of the Kv
 * below can be brought up to the last sync. Where the log cannot take a change (it is full, or its
 * disk), the change goes below alone, and the log begins anew behind it; until the Kv below is
 * synced, a sync is a sync of the Kv below.
 *
 * A flush or write-back that fails leaves everything collected, and can be repeated: nothing is
 * lost by an error of the store, and until a write-back succeeds `isFailing` is true. Meanwhile a
 * log that still has room makes a flush, and a sync, succeed: its files have their places on the
 * disk, so that a full one does not keep anybody from making room.
 *
 * **Bounds:** when 256 keys (64 while the Kv below is short of room) or 2 MiB are collected, the end
 * of a transaction writes them back; one transaction may be larger. While that fails memory grows
 * with every change: whoever transacts must refuse changes while `isFailing` (see `failure`), and
 * call `writeBack` to learn whether the store has recovered.
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
  #changeCount = 0;
  #undo: Undo[] | undefined;
  #poisoned = false;
  #failure: Error | undefined;
  /** Whether the log, synced, brings the last synced state of the Kv below up to date. */
  #isAnchored = false;
  /** Whether a sync of the Kv below runs that nobody waits for. */
  #isAnchoring = false;
  /** Whether the log has begun another file behind what is not written below yet. */
  #isBehind = false;
  #closing: Promise<void> | undefined;

  /** Over `below`. A log with what an earlier process may have left is for `open`. */
  constructor(below: Kv, log?: WriteAheadLog) {
    this.#below = below;
    this.#log = log;
  }

  /**
   * Over `below`; what an earlier process left in the log is written there, and synced, first. Where it throws, both are
   * closed.
   */
  static async open(below: Kv, log: WriteAheadLog): Promise<BufferedKv> {
    try {
      return await BufferedKv.#recovered(below, log);
    } catch (error) {
      await below.close().catch(() => {});
      log.close(false);
      throw error;
    }
  }

  static async #recovered(below: Kv, log: WriteAheadLog): Promise<BufferedKv> {
    const records = await recover(below, log);
    const kv = new BufferedKv(below, log);
    if (!log.wasLeft) return kv;
    if (records > 0) pass('log-replayed');
    // Its files are written anew from now on: a loss of power must not need what was in them.
    await below.sync();
    if (records === 0) return kv;
    // The position that was written below is taken: no other state may have it.
    log.restart();
    log.release(log.position.generation);
    kv.#isAnchored = true;
    return kv;
  }

  /** Keys that the next write-back will write. */
  get size(): number {
    return this.#changes.size;
  }

  /** Whether there are changes that would not survive the end of the process. */
  get isUnflushed(): boolean {
    return this.#unflushed.size > 0;
  }

  /** How often a key was changed so far: grows with every change, whatever becomes of it. */
  get changeCount(): number {
    return this.#changeCount;
  }

  /** Bytes of memory that the collected changes hold, superseded ones included. */
  get bytes(): number {
    return this.#arena.bytes;
  }

  /** Whether so much is collected that the end of a transaction writes it back. */
  get isFull(): boolean {
    const keys = this.#below.isShort === true ? KEYS_SHORT_MAX : KEYS_MAX;
    return this.#changes.size >= keys || this.#arena.bytes >= BYTES_MAX;
  }

  get isShort(): boolean {
    return this.#below.isShort === true;
  }

  get wantsSync(): boolean {
    return this.#below.wantsSync === true;
  }

  /** Syncs the Kv below as it is, so that it can use again what commits have freed. What fails fails again for who asks. */
  async renew(): Promise<void> {
    try {
      await this.#below.sync();
    } catch {
      // What it would have freed stays in use.
    }
  }

  /** Whether the last write-back failed: what was collected may lie in memory, and the log, only. */
  get isFailing(): boolean {
    return this.#failure !== undefined;
  }

  /** What the last write-back failed with; undefined when it succeeded. */
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
    if (!this.isFailing && this.isFull) this.#tryWriteBack();
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
    this.#changeCount += 1;
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
    const isOurs = first <= WRITTEN_POSITION_NAME && WRITTEN_POSITION_NAME < behind;
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
        if (!visitUntil(name) && goesOn && name !== WRITTEN_POSITION_NAME)
          goesOn = visit(key, value);
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
    if (!this.isUnflushed && (!this.isFailing || this.#log?.isOpen === true)) return;
    if (!this.#tryLog()) this.writeBack();
  }

  /** Appends what is not flushed to the log; false when it has to be written back instead. */
  #tryLog(): boolean {
    const log = this.#log;
    if (log?.isOpen !== true) return false;
    log.begin();
    for (const name of this.#unflushed) {
      const change = this.#changes.get(name);
      // A key that an aborted transaction touched first is not among the changes.
      if (change !== undefined) log.add(changedKey(change), changedValue(change));
    }
    try {
      if (!log.append() && !this.#appendBehind(log)) return false;
    } catch {
      return false; // What refuses the log may still take a commit, or says why it does not.
    }
    this.#unflushed.clear();
    return true;
  }

  /** The same in the other file of a log that is full while the Kv below takes nothing. */
  #appendBehind(log: WriteAheadLog): boolean {
    if (!this.isFailing || !log.isNearlyFull || !log.rotate()) return false;
    this.#isBehind = true;
    return log.append();
  }

  /**
   * Writes what was collected below, as one transaction. Throws what the Kv below throws (STORE_IO
   * when it refuses), and keeps everything then. Not within a transaction.
   */
  writeBack(): void {
    this.#assertOutside();
    const log = this.#log;
    // What was never logged would be missing between two records that were.
    const isLogged = log === undefined || (log.isOpen && (!this.isUnflushed || this.#tryLog()));
    const hadChanges = this.#changes.size > 0;
    try {
      pass('write-back');
      if (hadChanges) {
        const written = isLogged ? log?.position : log.next;
        this.#below.transact((below) => this.#writeAll(below, written), this.#changesSize());
      }
      pass('written-back');
    } catch (error) {
      this.#failure = error instanceof Error ? error : new Error(String(error));
      throw error;
    }
    this.#unflushed.clear();
    this.#changes.clear();
    this.#arena.clear();
    this.#failure = undefined;
    if (log === undefined) return;
    if (!isLogged && hadChanges) this.#restart(log);
    else if (!this.#isAnchoring && (this.#isBehind || (log.isNearlyFull && log.rotate()))) {
      this.#isBehind = false;
      this.#anchorSoon();
    }
  }

  /** What a write-back changes below. */
  #changesSize(): TransactionSize {
    let bytes = 0;
    for (const { keyBytes, valueBytes } of this.#changes.values()) {
      bytes += keyBytes + Math.max(0, valueBytes);
    }
    // With the position of the log.
    return { keys: this.#changes.size + 1, bytes: bytes + POSITION_BYTES };
  }

  #assertOutside(): void {
    if (this.#undo !== undefined) {
      throw new MillraceError('INVARIANT', 'a transaction cannot be flushed before it ends');
    }
  }

  #writeAll(below: Transaction, written: LogPosition | undefined): void {
    for (const change of this.#changes.values()) {
      const value = changedValue(change);
      if (value === undefined) below.remove(changedKey(change));
      else below.put(changedKey(change), value);
    }
    if (written !== undefined) putWrittenPosition(below, written);
    pass('write-back-commit');
  }

  // ---- the disk ----

  /**
   * Whether a sync is a flush and no more, because nothing that is written here would survive the
   * machine: whoever flushes may answer at once.
   */
  get syncsAtOnce(): boolean {
    return this.#isLogSynced && this.#log?.isVolatile === true;
  }

  get #isLogSynced(): boolean {
    return this.#isAnchored && this.#log?.isOpen === true;
  }

  async sync(): Promise<void> {
    this.#assertOpen();
    this.flush();
    if (this.#isLogSynced) {
      try {
        return await this.#log?.sync();
      } catch {
        // The log is lost: everything since the last sync of the Kv below has to go there.
        this.#isAnchored = false;
      }
    }
    this.writeBack();
    await this.#syncBelow();
  }

  /** Syncs the Kv below: its log need not reach back behind this state any more. */
  async #syncBelow(): Promise<void> {
    const log = this.#log;
    const generation = log?.position.generation;
    await this.#below.sync();
    if (log === undefined || generation === undefined) return;
    log.release(generation);
    if (log.position.generation === generation) this.#isAnchored = true;
  }

  /** The same, without anybody who waits for it. What fails now fails again for who asks. */
  #anchorSoon(): void {
    if (this.#isAnchoring) return;
    this.#isAnchoring = true;
    const ended = (): void => {
      this.#isAnchoring = false;
    };
    this.#syncBelow().then(ended, ended);
  }

  /** The log goes on behind a commit that it does not have. */
  #restart(log: WriteAheadLog): void {
    log.restart();
    this.#isAnchored = false;
    this.#anchorSoon();
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
      await this.#log?.settled();
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

/**
 * Writes what an earlier process left in the log where it belongs; how many records that were.
 *
 * In small commits, for which a full disk has room when it has none for a large one. The last one says that all of the
 * log is written: whoever is killed before begins anew, and comes to the same.
 */
async function recover(below: Kv, log: WriteAheadLog): Promise<number> {
  const left = new Map<string, { key: Uint8Array; value: Uint8Array | undefined }>();
  const written = below.read(writtenPosition);
  const records = log.replay((key, value) => left.set(nameOf(key), { key, value }), written);
  // A store without room for a commit can be opened when it needs none.
  if (records === 0) return 0;
  const changes = [...left.values()];
  let at = 0;
  do {
    const keys = below.isShort === true ? KEYS_SHORT_MAX : KEYS_MAX;
    const some: typeof changes = [];
    let bytes = POSITION_BYTES;
    for (; at < changes.length && some.length < keys && bytes < BYTES_MAX; at++) {
      const change = changes[at] as (typeof changes)[number];
      bytes += change.key.length + (change.value?.length ?? 0);
      some.push(change);
    }
    below.transact(
      (transaction) => {
        for (const { key, value } of some) {
          if (value === undefined) transaction.remove(key);
          else transaction.put(key, value);
        }
        if (at >= changes.length) putWrittenPosition(transaction, log.next);
      },
      { keys: some.length + 1, bytes },
    );
    if (below.wantsSync === true) await below.sync();
  } while (at < changes.length);
  return records;
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
