import { Buffer } from 'node:buffer';
import { MillraceError } from '../errors.ts';
import type { Kv, Snapshot, Transaction } from './kv.ts';

/** Entries of a block before it is split in two. */
const BLOCK_ENTRIES_MAX = 256;

interface Entry {
  readonly key: Uint8Array;
  value: Uint8Array;
}

/**
 * How to take back one change: the value that the key had before, undefined when there was none.
 */
interface Undo {
  readonly key: Uint8Array;
  readonly value: Uint8Array | undefined;
}

/**
 * A Kv in the memory of this process: for tests, and for trees that are built from elsewhere and
 * thrown away.
 *
 * Entries lie in sorted blocks of at most 256, so a change moves a few kilobytes at most. `sync`
 * has nothing to do.
 */
export class MemoryKv implements Kv, Transaction {
  readonly #blocks: Entry[][] = [[]];
  #undo: Undo[] | undefined;
  #poisoned = false;
  #closed = false;

  transact<T>(body: (transaction: Transaction) => T): T {
    this.#assertOpen();
    if (this.#undo !== undefined) return this.#join(body);
    this.#undo = [];
    this.#poisoned = false;
    try {
      const result = body(this);
      if (this.#poisoned) throw new MillraceError('INVARIANT', 'a nested transaction failed');
      this.#undo = undefined;
      return result;
    } catch (error) {
      this.#rollBack();
      throw error;
    }
  }

  read<T>(body: (snapshot: Snapshot) => T): T {
    this.#assertOpen();
    return body(this);
  }

  get(key: Uint8Array): Uint8Array | undefined {
    const block = this.#blocks[this.#blockOf(key)];
    const at = lowerBound(block, key);
    return isAt(block, at, key) ? block[at].value : undefined;
  }

  put(key: Uint8Array, value: Uint8Array): void {
    this.#change(key, new Uint8Array(value));
  }

  remove(key: Uint8Array): void {
    this.#change(key, undefined);
  }

  scan(
    from: Uint8Array,
    to: Uint8Array,
    visit: (key: Uint8Array, value: Uint8Array) => boolean,
  ): void {
    let blockIndex = this.#blockOf(from);
    let at = lowerBound(this.#blocks[blockIndex], from);
    for (; blockIndex < this.#blocks.length; blockIndex++, at = 0) {
      const block = this.#blocks[blockIndex];
      for (; at < block.length; at++) {
        const { key, value } = block[at];
        if (Buffer.compare(key, to) >= 0 || !visit(key, value)) return;
      }
    }
  }

  sync(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#closed = true;
    return Promise.resolve();
  }

  #join<T>(body: (transaction: Transaction) => T): T {
    try {
      return body(this);
    } catch (error) {
      this.#poisoned = true;
      throw error;
    }
  }

  #change(key: Uint8Array, value: Uint8Array | undefined): void {
    if (this.#undo === undefined) {
      throw new MillraceError('INVARIANT', 'a change outside of a transaction');
    }
    const before = this.#set(key, value);
    if (before !== undefined || value !== undefined) {
      this.#undo.push({ key: new Uint8Array(key), value: before });
    }
  }

  /** Sets (or, with undefined, removes) the value of a key and returns the one before. */
  #set(key: Uint8Array, value: Uint8Array | undefined): Uint8Array | undefined {
    const blockIndex = this.#blockOf(key);
    const block = this.#blocks[blockIndex];
    const at = lowerBound(block, key);
    const before = isAt(block, at, key) ? block[at].value : undefined;
    if (value === undefined) {
      if (before !== undefined) this.#cut(blockIndex, at);
    } else if (before !== undefined) {
      block[at].value = value;
    } else {
      block.splice(at, 0, { key: new Uint8Array(key), value });
      if (block.length > BLOCK_ENTRIES_MAX) {
        this.#blocks.splice(blockIndex + 1, 0, block.splice(BLOCK_ENTRIES_MAX >> 1));
      }
    }
    return before;
  }

  #cut(blockIndex: number, at: number): void {
    const block = this.#blocks[blockIndex];
    block.splice(at, 1);
    if (block.length === 0 && this.#blocks.length > 1) this.#blocks.splice(blockIndex, 1);
  }

  #rollBack(): void {
    const undo = this.#undo ?? [];
    this.#undo = undefined;
    for (let i = undo.length - 1; i >= 0; i--) this.#set(undo[i].key, undo[i].value);
  }

  /** The last block whose first key is not behind `key`: where it is or would be. */
  #blockOf(key: Uint8Array): number {
    let low = 0;
    let high = this.#blocks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (Buffer.compare(this.#blocks[middle][0].key, key) <= 0) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #assertOpen(): void {
    if (this.#closed) throw new MillraceError('CLOSED', 'the key-value store is closed');
  }
}

/** Index of the first entry whose key is not before `key`. */
function lowerBound(block: Entry[], key: Uint8Array): number {
  let low = 0;
  let high = block.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (Buffer.compare(block[middle].key, key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function isAt(block: Entry[], at: number, key: Uint8Array): boolean {
  return at < block.length && Buffer.compare(block[at].key, key) === 0;
}
