/**
 * What the front remembers of names, because libfuse 2 speaks in paths and the engine in inodes: a bounded cache of
 * directory entries, and for each inode how often the engine was asked for it (`nlookup`), so that FORGET gives back
 * exactly that much once nothing here refers to the inode any more.
 */

/** Entries that are remembered at most. */
const ENTRIES_MAX = 4096;

interface Entry {
  readonly node: number;
  /** By the clock of `NamesOptions.now`. */
  readonly until: number;
}

interface Node {
  lookups: number;
  /** Entries, open files and requests that refer to it. */
  users: number;
}

/** With which means names are remembered. */
export interface NamesOptions {
  /** Told that nothing refers to an inode any more, and how many look-ups are given back. */
  forget: (node: number, lookups: number) => void;
  /** Milliseconds that only grow. */
  now: () => number;
  capacity?: number;
}

/** Entries and inode counts of one mount. Threads: the one that serves it. */
export class Names {
  readonly #options: NamesOptions;
  readonly #capacity: number;
  /** In the order in which they were entered: the first one is the oldest. */
  readonly #entries = new Map<string, Entry>();
  readonly #nodes = new Map<number, Node>();
  #changes = 0;

  constructor(options: NamesOptions) {
    this.#options = options;
    this.#capacity = options.capacity ?? ENTRIES_MAX;
  }

  /** Grows whenever a name is taken away: what was looked up before may not be entered after. */
  get changes(): number {
    return this.#changes;
  }

  /** Entries that are remembered now. */
  get size(): number {
    return this.#entries.size;
  }

  /** The inode behind a name, or 0 when it is not known any more. */
  find(parent: number, name: Uint8Array): number {
    const key = keyOf(parent, name);
    const entry = this.#entries.get(key);
    if (entry === undefined) return 0;
    if (entry.until > this.#options.now()) return entry.node;
    this.#remove(key, entry);
    return 0;
  }

  /** Counts one look-up that the engine has answered with this inode; somebody must `hold` it before or after. */
  counted(node: number): void {
    this.#node(node).lookups += 1;
  }

  /** Remembers a name for so long; the inode is one that is held. */
  enter(parent: number, name: Uint8Array, node: number, ttlMs: number): void {
    const key = keyOf(parent, name);
    const before = this.#entries.get(key);
    this.hold(node);
    if (before !== undefined) this.#remove(key, before);
    if (this.#entries.size >= this.#capacity) this.#removeOldest();
    this.#entries.set(key, { node, until: this.#options.now() + ttlMs });
  }

  /** Forgets a name that does not stand any more. */
  drop(parent: number, name: Uint8Array): void {
    this.#changes += 1;
    const key = keyOf(parent, name);
    const entry = this.#entries.get(key);
    if (entry !== undefined) this.#remove(key, entry);
  }

  /** Forgets all names. */
  clear(): void {
    this.#changes += 1;
    for (const [key, entry] of this.#entries) this.#remove(key, entry);
  }

  /** One more user of an inode: as many `release` must follow. */
  hold(node: number): void {
    this.#node(node).users += 1;
  }

  /** One user less; behind the last one the inode is forgotten. */
  release(node: number): void {
    const known = this.#nodes.get(node);
    if (known === undefined) return;
    known.users -= 1;
    if (known.users > 0) return;
    this.#nodes.delete(node);
    if (known.lookups > 0) this.#options.forget(node, known.lookups);
  }

  #node(node: number): Node {
    let known = this.#nodes.get(node);
    if (known === undefined) {
      known = { lookups: 0, users: 0 };
      this.#nodes.set(node, known);
    }
    return known;
  }

  #remove(key: string, entry: Entry): void {
    this.#entries.delete(key);
    this.release(entry.node);
  }

  #removeOldest(): void {
    for (const [key, entry] of this.#entries) {
      this.#remove(key, entry);
      return;
    }
  }
}

/** Names are bytes: one character each, which no two names share. */
function keyOf(parent: number, name: Uint8Array): string {
  return `${parent}/${Buffer.from(name.buffer, name.byteOffset, name.length).toString('latin1')}`;
}
