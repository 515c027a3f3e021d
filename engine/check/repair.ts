import { Buffer } from 'node:buffer';
import type { Kv } from '../kv/kv.ts';
import { ERRNO } from '../tree/errno.ts';
import { COUNTERS_KEY, KeyMaker } from '../tree/keys.ts';
import { isDirectory, S_IFDIR, typeOf } from '../tree/mode.ts';
import { findName, mkdir, putName } from '../tree/names.ts';
import { newRoot } from '../tree/namespaces.ts';
import { type Inode, RecordCodec } from '../tree/records.ts';
import { Session } from '../tree/session.ts';
import type { Owner, Sealer, Time } from '../tree/types.ts';
import { STATE } from './inode-table.ts';
import { type CheckedTree, checkTree, isLostRoot, linksOf } from './tree-check.ts';

/** Where inodes get a name that have none. */
const LOST_AND_FOUND: Uint8Array = Buffer.from('lost+found');
/** Of directories that are made: what they hold may have been for fewer than everybody. */
const MADE_MODE = 0o700;
const NO_INO = 0;
/** Names that are tried for one inode before it stays as it is. */
const NAMES_TRIED = 100;

/** What a repair changes. */
export interface RepairOptions {
  kv: Kv;
  sealer: Sealer;
  /** Owner of directories that are made. */
  owner: Owner;
  now: Time;
}

/**
 * Puts right what can be, by what a check found: roots that are gone, counters, link counts, marks of
 * orphans, parents of directories, and names for inodes that have none. Each change is a transaction
 * of its own.
 *
 * Deletes no record but marks of orphans that are wrong, and replaces none that cannot be read but
 * the counters. Whether all is well afterwards only another check tells.
 */
export function repairTree(checked: CheckedTree, options: RepairOptions): void {
  // What lies in a root has its name again as soon as there is one: only then is it known what else is wrong.
  const found = new Repair(checked, options).makeRoots() ? checkTree(options) : checked;
  new Repair(found, options).run();
}

class Repair {
  readonly #checked: CheckedTree;
  readonly #session: Session;
  readonly #owner: Owner;
  readonly #now: Time;

  constructor(checked: CheckedTree, { kv, sealer, owner, now }: RepairOptions) {
    this.#checked = checked;
    const [codec, keys] = [new RecordCodec(), new KeyMaker()];
    this.#session = new Session({ kv, sealer, codec, keys, onDamage: () => {} });
    this.#owner = owner;
    this.#now = now;
  }

  /** Makes the roots of namespaces whose records are gone; whether there were any. */
  makeRoots(): boolean {
    const { lostRoots } = this.#checked;
    const session = this.#session;
    for (const ino of lostRoots) {
      const root = { ...newRoot(ino, this.#owner, this.#now), mode: S_IFDIR | MADE_MODE };
      session.transact(() => session.save(root));
    }
    return lostRoots.length > 0;
  }

  run(): void {
    this.#putCounters();
    for (const ino of this.#checked.strayOrphans) this.#unmark(ino);
    const { inodes } = this.#checked;
    for (let row = 0; row < inodes.length; row++) this.#correct(row);
    for (let row = 0; row < inodes.length; row++) {
      const isLost =
        inodes.names[row] === 0 && !inodes.has(row, STATE.ROOT | STATE.ORPHAN | STATE.DAMAGED);
      if (!isLost) continue;
      if (isLostRoot(inodes, row)) this.#nameNamespace(inodes.ino[row]);
      else this.#reattach(row);
    }
    this.#session.saveCounters();
  }

  /** Must come first: whoever makes an inode takes its number from them. */
  #putCounters(): void {
    const { counters, nextIno, inodes } = this.#checked;
    if (counters?.inodes === inodes.length && counters.nextIno >= nextIno) return;
    const right = { nextIno: Math.max(counters?.nextIno ?? 0, nextIno), inodes: inodes.length };
    const session = this.#session;
    session.transact(() => session.put(COUNTERS_KEY, session.codec.encodeCounters(right)));
  }

  #unmark(ino: number): void {
    this.#session.transact(() => this.#session.remove(this.#session.keys.orphan(ino)));
  }

  /** What an inode says of itself and others know better. */
  #correct(row: number): void {
    const { inodes } = this.#checked;
    const ino = inodes.ino[row];
    const isNamed = inodes.names[row] > 0;
    if (inodes.has(row, STATE.ORPHAN) && isNamed) this.#unmark(ino);
    if (inodes.has(row, STATE.DAMAGED)) return;
    const isKept = isNamed || inodes.has(row, STATE.ROOT | STATE.ORPHAN);
    const nlink = isKept ? linksOf(inodes, row) : inodes.nlink[row];
    const extra = inodes.has(row, STATE.CONTENT_UNKNOWN)
      ? 0
      : Math.max(0, -inodes.unaccounted[row]);
    const above = inodes.above[row];
    const isWronglyPlaced =
      typeOf(inodes.mode[row]) === S_IFDIR &&
      inodes.names[row] === 1 &&
      !inodes.has(row, STATE.ROOT) &&
      inodes.ino[above] !== inodes.parent[row];
    const moreXattrs = Math.max(0, -inodes.xattrs[row]);
    const isRight = nlink === inodes.nlink[row] && extra === 0 && moreXattrs === 0;
    if (isRight && !isWronglyPlaced) return;
    this.#change(ino, (inode) => ({
      ...inode,
      nlink,
      allocated: inode.allocated + extra,
      xattrs: inode.xattrs + moreXattrs,
      parent: isWronglyPlaced ? inodes.ino[above] : inode.parent,
    }));
  }

  #change(ino: number, change: (inode: Inode) => Inode): void {
    const session = this.#session;
    session.transact(() => {
      const inode = session.load(ino);
      if (typeof inode !== 'number') session.save(change(inode));
    });
  }

  /** Gives an inode a name in lost+found of its namespace, where that can be used. */
  #reattach(row: number): void {
    const { inodes } = this.#checked;
    const session = this.#session;
    const [ino, root] = [inodes.ino[row], inodes.namespace[row]];
    session.transact(() => {
      const place = this.#lostAndFound(root);
      const inode = session.load(ino);
      if (place === undefined || place.ino === ino || typeof inode === 'number') return;
      const name = this.#freeName(place.ino, ino);
      if (name === undefined) return;
      const isDir = isDirectory(inode);
      putName(session, place.ino, { name, ino, type: typeOf(inode.mode) });
      const nlink = isDir ? 2 + inodes.subdirectories[row] : 1;
      session.save({ ...inode, nlink, parent: place.ino, ctime: this.#now });
      const links = place.nlink + (isDir ? 1 : 0);
      session.save({ ...place, nlink: links, mtime: this.#now, ctime: this.#now });
    });
  }

  /** The directory lost+found of a namespace, which is made unless there is one. */
  #lostAndFound(root: number): Inode | undefined {
    const session = this.#session;
    const { inodes } = this.#checked;
    const row = inodes.find(root);
    // What lies in a root that cannot be read has its name there still.
    if (row < 0 || !inodes.has(row, STATE.ROOT) || inodes.has(row, STATE.DAMAGED)) return undefined;
    const found = findName(session, root, LOST_AND_FOUND);
    if (typeof found !== 'number') {
      const inode = session.load(found.record.ino);
      return typeof inode !== 'number' && isDirectory(inode) ? inode : undefined;
    }
    const creation = { mode: MADE_MODE, owner: this.#owner };
    const made = mkdir(session, { parent: root, name: LOST_AND_FOUND, creation, now: this.#now });
    if (typeof made === 'number') return undefined;
    const inode = session.load(made.ino);
    return typeof inode === 'number' ? undefined : inode;
  }

  #freeName(directory: number, ino: number): Uint8Array | undefined {
    for (let tried = 0; tried < NAMES_TRIED; tried++) {
      const name = Buffer.from(tried === 0 ? `#${ino}` : `#${ino}-${tried}`);
      const found = findName(this.#session, directory, name);
      // A record that cannot be read has the place: it is not overwritten.
      if (found === ERRNO.ENOENT) return name;
    }
    return undefined;
  }

  /** Gives the root directory of a namespace a namespace's name. */
  #nameNamespace(root: number): void {
    const session = this.#session;
    session.transact(() => {
      const name = Buffer.from(`lost-${root}`);
      const key = session.keys.namespace(session.nameHash(NO_INO, name));
      if (session.get(key) !== undefined) return;
      session.put(key, session.codec.encodeName({ name, ino: root, type: S_IFDIR }));
    });
  }
}
