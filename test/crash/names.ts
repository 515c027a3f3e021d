/** Which names may be there after a crash: changes of names and attributes survive in their order. */

/** What a name leads to. */
export interface Entry {
  readonly type: 'file' | 'directory' | 'link';
  /** Which file it is: names that share one are links of each other. */
  readonly id: number;
  readonly mode: string;
  readonly target?: string;
  readonly xattrs: Readonly<Record<string, string>>;
}

/** One state of a tree: path to entry. */
export type Tree = ReadonlyMap<string, Entry>;

/** What `op_tree` of syscalls.py tells of a path. */
export interface Found {
  type: string;
  mode: string;
  nlink: number;
  size?: number;
  target?: string;
  content?: string;
  xattrs?: Record<string, string>;
}

/** The states that a tree has had since the last one that is known to survive. */
export class Names {
  #states: Tree[] = [new Map()];

  /** The tree as the program sees it. */
  get now(): Tree {
    return this.#states.at(-1) as Tree;
  }

  /** The next state, before it is asked for. */
  change(make: (tree: Map<string, Entry>) => void): void {
    const next = new Map(this.now);
    make(next);
    this.#states.push(next);
  }

  /** Every state but the last one is gone for good. */
  settle(): void {
    this.#states = [this.now];
  }

  /** After a crash: this state is the one. */
  adopt(tree: Tree): void {
    this.#states = [tree];
  }

  /** The states that what was found shows, the latest first; or what is wrong with it, compared with the latest. */
  matches(found: Readonly<Record<string, Found>>): Tree[] | string {
    const latestFirst = this.#states.toReversed();
    const matching = latestFirst.filter((state) => difference(state, found) === undefined);
    if (matching.length > 0) return matching;
    const problem = difference(this.now, found);
    return `none of ${latestFirst.length} states; of the latest: ${problem}`;
  }
}

function difference(tree: Tree, found: Readonly<Record<string, Found>>): string | undefined {
  for (const path of Object.keys(found)) {
    if (path !== '' && !tree.has(path)) return `${path} is there`;
  }
  for (const [path, entry] of tree) {
    const seen = found[path];
    if (seen === undefined) return `${path} is missing`;
    const { type, mode, nlink, target, xattrs } = seen;
    const is = JSON.stringify([type, mode, nlink, target, xattrs]);
    const wanted = [entry.type, entry.mode, links(tree, path, entry), entry.target];
    const should = JSON.stringify([...wanted, entry.type === 'link' ? undefined : entry.xattrs]);
    if (is !== should) return `${path} is ${is} and not ${should}`;
  }
  return undefined;
}

/** As `st_nlink`: names of a file, 2 + subdirectories of a directory. */
function links(tree: Tree, path: string, entry: Entry): number {
  let count = entry.type === 'directory' ? 2 : 0;
  for (const [other, { id, type }] of tree) {
    if (entry.type !== 'directory') count += id === entry.id ? 1 : 0;
    else if (type === 'directory' && other.startsWith(`${path}/`)) {
      count += other.slice(path.length + 1).includes('/') ? 0 : 1;
    }
  }
  return count;
}
