/** What can be read: one consistent state of all keys. */
export interface Snapshot {
  /**
   * The value stored under `key`, or undefined when there is none.
   * Ownership: the bytes are only valid until the next call of the same Kv.
   */
  get(key: Uint8Array): Uint8Array | undefined;
  /**
   * Calls `visit` for each key from `from` (inclusive) to `to` (exclusive) in byte order, until it
   * returns false. `visit` may call `get`, but neither `put`, `remove` nor `scan`. Ownership: key
   * and value are only valid until the next call.
   */
  scan(
    from: Uint8Array,
    to: Uint8Array,
    visit: (key: Uint8Array, value: Uint8Array) => boolean,
  ): void;
}

/**
 * A snapshot that can be changed; it sees its own changes at once, others see them when it is
 * committed.
 */
export interface Transaction extends Snapshot {
  /** Stores `value` under `key` (1 to 511 bytes), replacing what is there. Both are copied. */
  put(key: Uint8Array, value: Uint8Array): void;
  /** Removes the key; no matter if there is none. */
  remove(key: Uint8Array): void;
}

/** What a transaction changes at most, for a store that sets room aside before it begins. */
export interface TransactionSize {
  readonly keys: number;
  /** Of all keys and values. */
  readonly bytes: number;
}

/**
 * An ordered key-value store with transactions: the only thing that the tree knows about where
 * metadata lives.
 *
 * Everything but `sync` and `close` is synchronous, because the tree worker decides in one turn
 * and never leaves its turn half done. Keys are ordered by their bytes.
 *
 * A store that lies across a network (etcd) serves the same synchronous view. It keeps a cache of
 * a snapshot. A `get` or `scan` that the cache cannot answer throws a miss that names the range;
 * the driver, which called the operation, drops what the operation wrote, fetches the range, and
 * runs the operation again (an operation of the tree is a pure function of what it reads, so
 * running it twice is harmless). What the body wrote is sent as one commit that carries a check
 * for each key and range that was read; where a check fails, the driver refreshes these keys and
 * runs the operation again. So `transact` below never has to wait, and nothing in the tree
 * changes.
 *
 * Threads: one thread uses one Kv.
 */
export interface Kv {
  /**
   * Runs `body` and commits what it wrote: all of it, or nothing when it throws.
   *
   * A commit survives the end of this process, however it ends; `sync` makes it survive the end of
   * the machine. A nested call joins the outer one. There are no savepoints: after a nested body
   * threw, the outer one cannot be committed any more, even when it catches the error.
   *
   * `size`: what `body` changes at most; 256 keys and 2 MiB unless given.
   *
   * Throws what `body` throws, and MillraceError STORE_IO when the store refuses the commit.
   */
  transact<T>(body: (transaction: Transaction) => T, size?: TransactionSize): T;
  /** Runs `body` on one state of all keys. Within `transact` it sees the transaction. */
  read<T>(body: (snapshot: Snapshot) => T): T;
  /** Resolves when everything that was committed before the call is on stable storage. */
  sync(): Promise<void>;
  /**
   * Whether the store is nearly full: what is left is for commits that remove, and for small ones.
   * Looks for more room now and then. Without it the store never is.
   */
  readonly isShort?: boolean;
  /**
   * Whether it `isShort` and has grown since its last sync: behind another sync a commit may find
   * room in what earlier ones have freed.
   */
  readonly wantsSync?: boolean;
  /** Syncs, then lets go of the store. No other call may follow; a second close does nothing. */
  close(): Promise<void>;
}
