import { Buffer } from 'node:buffer';
import { MillraceError } from '../errors.ts';
import type { Kv, Snapshot, Transaction } from './kv.ts';

/** One key that differs from the Kv below: its new value, or undefined when it is removed. */
interface Change {
  readonly key: Uint8Array;
  readonly value: Uint8Array | undefined;
}

/**
 * A Kv that collects transactions and writes many of them below as one.
 *
 * A transaction is visible to this thread at once, but survives the end of the process only after `flush` (and the
 * end of the machine after `sync`). Most operations of a file system promise nothing until a file is closed or synced,
 * so a commit per operation would be waste: making a small file costs one commit instead of three.
 *
 * A flush that fails leaves everything collected, and can be repeated: nothing is lost by an error of the store.
 *
 * **Bounds:** memory grows with the changes between two flushes; whoever transacts flushes when `size` says so.
 */
export class BufferedKv implements Kv, Transaction {
  readonly #below: Kv;
  /** By key, as a Latin-1 string. */
  readonly #collected = new Map<string, Change>();
  #current: Map<string, Change> | undefined;
  #poisoned = false;

  constructor(below: Kv) {
    this.#below = below;
  }

  /** Keys that the next flush will write. */
  get size(): number {
    return this.#collected.size;
  }

  transact<T>(body: (transaction: Transaction) => T): T {
    if (this.#current !== undefined) return this.#join(body);
    const current = new Map<string, Change>();
    this.#current = current;
    this.#poisoned = false;
    try {
      const result = body(this);
      if (this.#poisoned) throw new MillraceError('INVARIANT', 'a nested transaction failed');
      for (const [name, change] of current) this.#collected.set(name, change);
      return result;
    } finally {
      this.#current = undefined;
    }
  }

  #join<T>(body: (transaction: Transaction) => T): T {
    try {
      return body(this);
    } catch (error) {
      this.#poisoned = true;
      throw error;
    }
  }

  read<T>(body: (snapshot: Snapshot) => T): T {
    return body(this);
  }

  get(key: Uint8Array): Uint8Array | undefined {
    if (this.#current === undefined && this.#collected.size === 0) return this.#belowGet(key);
    const name = nameOf(key);
    const change = this.#current?.get(name) ?? this.#collected.get(name);
    return change === undefined ? this.#belowGet(key) : change.value;
  }

  #belowGet(key: Uint8Array): Uint8Array | undefined {
    return this.#below.read((snapshot) => snapshot.get(key));
  }

  put(key: Uint8Array, value: Uint8Array): void {
    this.#change(key, value.slice());
  }

  remove(key: Uint8Array): void {
    this.#change(key, undefined);
  }

  #change(key: Uint8Array, value: Uint8Array | undefined): void {
    if (this.#current === undefined) {
      throw new MillraceError('INVARIANT', 'a key was changed outside of a transaction');
    }
    this.#current.set(nameOf(key), { key: key.slice(), value });
  }

  scan(
    from: Uint8Array,
    to: Uint8Array,
    visit: (key: Uint8Array, value: Uint8Array) => boolean,
  ): void {
    const changes = this.#changesBetween(from, to);
    let next = 0;
    let goesOn = true;
    /** Visits the changes before `key`; true when one of them replaces it. */
    const visitUntil = (key: Uint8Array | undefined): boolean => {
      while (goesOn && next < changes.length) {
        const change = changes[next];
        const order = key === undefined ? -1 : Buffer.compare(change.key, key);
        if (order > 0) return false;
        next += 1;
        if (change.value !== undefined) goesOn = visit(change.key, change.value);
        if (order === 0) return true;
      }
      return false;
    };
    this.#below.read((snapshot) =>
      snapshot.scan(from, to, (key, value) => {
        if (!visitUntil(key) && goesOn) goesOn = visit(key, value);
        return goesOn;
      }),
    );
    visitUntil(undefined);
  }

  /** What was changed in a range, in order of keys. Cost: all that is collected. */
  #changesBetween(from: Uint8Array, to: Uint8Array): Change[] {
    const found = new Map<string, Change>();
    for (const changes of [this.#collected, this.#current ?? []]) {
      for (const [name, change] of changes) {
        if (Buffer.compare(change.key, from) >= 0 && Buffer.compare(change.key, to) < 0) {
          found.set(name, change);
        }
      }
    }
    return [...found.values()].sort((a, b) => Buffer.compare(a.key, b.key));
  }

  /** Writes what was collected below, as one transaction. Throws STORE_IO, and keeps it, when that is refused. */
  flush(): void {
    if (this.#collected.size === 0) return;
    this.#below.transact((transaction) => {
      for (const { key, value } of this.#collected.values()) {
        if (value === undefined) transaction.remove(key);
        else transaction.put(key, value);
      }
    });
    this.#collected.clear();
  }

  async sync(): Promise<void> {
    this.flush();
    await this.#below.sync();
  }

  async close(): Promise<void> {
    this.flush();
    await this.#below.close();
  }
}

function nameOf(key: Uint8Array): string {
  return Buffer.prototype.latin1Slice.call(key, 0, key.length);
}
