/** What is remembered of an inode. */
export const STATE = {
  /** Its record cannot be read: only the number is known. */
  DAMAGED: 1,
  /** It is marked as deleted. */
  ORPHAN: 2,
  /** It is the root of a namespace. */
  ROOT: 4,
  /** One of its regions cannot be read: what it holds is not known. */
  CONTENT_UNKNOWN: 8,
  /** A directory that a root leads to. */
  REACHABLE: 16,
  /** A directory that no root leads to. */
  UNREACHABLE: 32,
  /** A directory on the way that is being followed. */
  ON_THE_WAY: 64,
} as const;

const FIRST_ROWS = 1024;
/** How much a table grows by when it is full. */
const GROWTH = 1.5;

/**
 * All inodes of a store, in the order of their numbers, in columns. Memory: 61 bytes for each
 * inode, two and a half times that for a moment when it grows. Threads: one.
 */
export class InodeTable {
  length = 0;
  ino: Float64Array = new Float64Array(FIRST_ROWS);
  mode: Uint32Array = new Uint32Array(FIRST_ROWS);
  /** What the record says. */
  nlink: Uint32Array = new Uint32Array(FIRST_ROWS);
  /** The directory that the record of a directory names. */
  parent: Float64Array = new Float64Array(FIRST_ROWS);
  namespace: Float64Array = new Float64Array(FIRST_ROWS);
  size: Float64Array = new Float64Array(FIRST_ROWS);
  /** What the record counts, less what was found in regions. */
  unaccounted: Float64Array = new Float64Array(FIRST_ROWS);
  /** Extended attributes that the record counts, less those that were found. */
  xattrs: Int32Array = new Int32Array(FIRST_ROWS);
  /** Names that lead to it. */
  names: Uint32Array = new Uint32Array(FIRST_ROWS);
  /** Names of directories in it. */
  subdirectories: Uint32Array = new Uint32Array(FIRST_ROWS);
  /** Row of the directory that one of its names lies in, or −1. */
  above: Int32Array = new Int32Array(FIRST_ROWS);
  state: Uint8Array = new Uint8Array(FIRST_ROWS);

  /** Appends a row; numbers must come in ascending order. */
  add(ino: number): number {
    if (this.length === this.ino.length) this.#grow();
    const row = this.length++;
    this.ino[row] = ino;
    this.above[row] = -1;
    return row;
  }

  /** The row of an inode, or −1. Cost: the logarithm of the rows. */
  find(ino: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ino[middle] < ino) low = middle + 1;
      else high = middle;
    }
    return low < this.length && this.ino[low] === ino ? low : -1;
  }

  has(row: number, state: number): boolean {
    return (this.state[row] & state) !== 0;
  }

  mark(row: number, state: number): void {
    this.state[row] |= state;
  }

  unmark(row: number, state: number): void {
    this.state[row] &= ~state;
  }

  #grow(): void {
    const rows = Math.ceil(this.ino.length * GROWTH);
    this.ino = larger(this.ino, new Float64Array(rows));
    this.mode = larger(this.mode, new Uint32Array(rows));
    this.nlink = larger(this.nlink, new Uint32Array(rows));
    this.parent = larger(this.parent, new Float64Array(rows));
    this.namespace = larger(this.namespace, new Float64Array(rows));
    this.size = larger(this.size, new Float64Array(rows));
    this.unaccounted = larger(this.unaccounted, new Float64Array(rows));
    this.xattrs = larger(this.xattrs, new Int32Array(rows));
    this.names = larger(this.names, new Uint32Array(rows));
    this.subdirectories = larger(this.subdirectories, new Uint32Array(rows));
    this.above = larger(this.above, new Int32Array(rows));
    this.state = larger(this.state, new Uint8Array(rows));
  }
}

function larger<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
