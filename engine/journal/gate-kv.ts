import { MillraceError } from '../errors.ts';
import type { Kv, Snapshot, Transaction, TransactionSize } from '../kv/kv.ts';
import { WriteAheadLog } from '../kv/write-ahead-log.ts';

/** What is to be written under a key; undefined: it is removed. */
export interface KeyChange {
  readonly key: Uint8Array;
  readonly value: Uint8Array | undefined;
}

/**
 * A Kv that can be shut: from then on it refuses every commit, so that whoever collects changes
 * above it keeps them, and can be asked for them.
 *
 * A journal holds chunks that the store does not have. Once it is begun nothing may be committed
 * that could name them (invariant 3).
 *
 * Threads: one thread uses one GateKv.
 */
export class GateKv implements Kv {
  readonly #inner: Kv;
  #isShut = false;
  #recorded: KeyChange[] | undefined;

  constructor(inner: Kv) {
    this.#inner = inner;
  }

  get isShut(): boolean {
    return this.#isShut;
  }

  /** Refuses commits and syncs from now on. */
  shut(): void {
    this.#isShut = true;
  }

  /** The changes that `writeBack`, which is refused as well, would commit now. */
  record(writeBack: () => void): KeyChange[] {
    const recorded: KeyChange[] = [];
    this.#recorded = recorded;
    try {
      writeBack();
    } catch (error) {
      if (!(error instanceof MillraceError) || error.code !== 'STORE_IO') throw error;
    } finally {
      this.#recorded = undefined;
    }
    return recorded;
  }

  get isShort(): boolean {
    return !this.#isShut && this.#inner.isShort === true;
  }

  get wantsSync(): boolean {
    return !this.#isShut && this.#inner.wantsSync === true;
  }

  transact<T>(body: (transaction: Transaction) => T, size?: TransactionSize): T {
    if (!this.#isShut) return this.#inner.transact(body, size);
    const recorded = this.#recorded;
    if (recorded !== undefined) this.#inner.read((snapshot) => body(recorder(snapshot, recorded)));
    throw refused();
  }

  read<T>(body: (snapshot: Snapshot) => T): T {
    return this.#inner.read(body);
  }

  sync(): Promise<void> {
    return this.#isShut ? Promise.reject(refused()) : this.#inner.sync();
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}

/** A write-ahead log that takes no more records once the gate is shut. */
export class GatedLog extends WriteAheadLog {
  readonly #gate: GateKv;

  constructor(paths: readonly [string, string], gate: GateKv) {
    super({ paths });
    this.#gate = gate;
  }

  override append(): boolean {
    return !this.#gate.isShut && super.append();
  }
}

function recorder(snapshot: Snapshot, recorded: KeyChange[]): Transaction {
  return {
    get: (key) => snapshot.get(key),
    scan: (from, to, visit) => snapshot.scan(from, to, visit),
    put: (key, value) => {
      recorded.push({ key: key.slice(), value: value.slice() });
    },
    remove: (key) => {
      recorded.push({ key: key.slice(), value: undefined });
    },
  };
}

function refused(): MillraceError {
  return new MillraceError('STORE_IO', 'nothing is committed any more: a journal takes it');
}
