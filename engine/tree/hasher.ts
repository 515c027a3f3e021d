import { Buffer } from 'node:buffer';
import { REGION_BYTES } from '../layout.ts';
import { ContentDigest, type TreeDigest } from './content-digest.ts';
import { ERRNO } from './errno.ts';
import { HashCache, type Running } from './hash-cache.ts';
import { allBehind, allOfInode, KEY, type KeyRange, regionOf } from './keys.ts';
import { isRegular, S_IFDIR } from './mode.ts';
import type { Inode, NameRecord } from './records.ts';
import { isDense } from './regions.ts';
import type { Session } from './session.ts';
import { HASH_BYTES, SetSum } from './set-sum.ts';
import type { Errno, RegionContent, Result } from './types.ts';

export type { TreeDigest } from './content-digest.ts';

/** Names, or regions of a file, that are read from the store at a time. */
const BATCH = 64;
/**
 * Times that directories may be begun again, in one hash, because they changed meanwhile. Each time
 * the next steps are longer, so that more fits between two changes, and begin later.
 */
const RESTARTS_MAX = 32;
const STEP_MAX_MS = 20;
const PAUSE_MAX_MS = 50;

/** What a part of a tree is, as the first byte of what is hashed. */
const PART = { XATTR: 1, REGION: 2, ENTRY: 3, NODE: 4, TARGET: 5 } as const;

/** Offsets in what is hashed for a node: part, mode, device, size, then two hashes. */
const NODE = { MODE: 1, RDEV: 5, SIZE: 9, XATTRS: 17, BODY: 49, BYTES: 81 } as const;

const TWO_32 = 2 ** 32;

/** What the work on a directory asks for in between: a breath, another directory's hash, or bytes. */
type Request = undefined | number | Promise<Uint8Array>;
/** What it is given for that. */
type Reply = Uint8Array | Errno | undefined;
type Work = Generator<Request, Uint8Array | Errno, Reply>;

/** What one region of a file holds. */
interface Region {
  readonly index: number;
  readonly content: RegionContent;
}

/** A directory that is being hashed, with the work on it. */
interface Frame {
  running: Running;
  work: Work;
}

/** A hash that somebody waits for. */
interface Wanted {
  root: number;
  done: ((result: Result<Uint8Array>) => void)[];
  stack: Frame[];
  restarts: number;
  /** The cache's count of changes when the work on the root began. */
  changes: number;
  /** What the frame on top is given next. */
  reply: Reply;
}

/**
 * Hashes of trees: equal for equal names, types, permissions, device numbers, sizes, link targets,
 * extended attributes and bytes, whatever inodes, owners, times and extents they have. README.md
 * says what exactly is hashed.
 *
 * `ask`, then `work` until it is done: each call takes as long as it may and leaves the rest. A
 * directory whose tree has not changed since is not read again.
 *
 * Threads: the tree's.
 */
export class TreeHasher {
  readonly #session: Session;
  readonly #digest: TreeDigest;
  readonly #content: ContentDigest;
  readonly #cache: HashCache;
  readonly #wake: () => void;
  readonly #queue: Wanted[] = [];
  readonly #node: Uint8Array = new Uint8Array(NODE.BYTES);
  /** The hash in front waits: for bytes that are being read, or for a directory to rest. */
  #waits = false;

  constructor(session: Session, digest: TreeDigest, wake: () => void) {
    this.#session = session;
    this.#digest = digest;
    this.#content = new ContentDigest(digest);
    this.#cache = new HashCache(session);
    this.#wake = wake;
  }

  /** Whether somebody waits for a hash. */
  get isBusy(): boolean {
    return this.#queue.length > 0;
  }

  /**
   * The hash of the tree below a directory, the directory included: `done` gets it, at once or out
   * of `work`. EAGAIN when the tree changes faster than it can be hashed, EIO when it is damaged.
   */
  ask(root: number, done: (result: Result<Uint8Array>) => void): void {
    const known = this.#cache.get(root);
    if (known !== undefined) return done(known);
    const same = this.#queue.find((wanted) => wanted.root === root);
    if (same !== undefined) {
      same.done.push(done);
      return;
    }
    const wanted = { root, done: [done], stack: [], restarts: 0, changes: 0, reply: undefined };
    this.#queue.push(wanted);
    this.#wake();
  }

  /**
   * Goes on for about so many milliseconds, or 20 where directories do not rest; true: there is more
   * that could be done now. False: not before the next `wake`.
   */
  work(limitMs: number): boolean {
    const begin = performance.now();
    let wanted = this.#queue.at(0);
    while (wanted !== undefined && !this.#waits) {
      this.#step(wanted);
      const limit = Math.min(STEP_MAX_MS, limitMs * (1 + wanted.restarts));
      if (performance.now() - begin >= limit) break;
      wanted = this.#queue.at(0);
    }
    return this.#queue.length > 0 && !this.#waits;
  }

  #step(wanted: Wanted): void {
    const top = wanted.stack.at(-1);
    if (top === undefined) return this.#begin(wanted, wanted.root);
    if (top.running.stale) return this.#restart(wanted, top);
    const { reply } = wanted;
    wanted.reply = undefined;
    const { done, value } = top.work.next(reply);
    if (done === true) this.#end(wanted, top, value as Uint8Array | Errno);
    else if (typeof value === 'number') this.#begin(wanted, value);
    else if (value instanceof Promise) this.#wait(wanted, value);
  }

  #begin(wanted: Wanted, ino: number): void {
    const known = this.#cache.get(ino);
    if (known !== undefined) return this.#give(wanted, known);
    if (wanted.stack.length === 0) wanted.changes = this.#cache.changes;
    const running = this.#cache.begin(ino);
    wanted.stack.push({ running, work: this.#directory(running) });
  }

  #restart(wanted: Wanted, top: Frame): void {
    wanted.stack.pop();
    this.#cache.end(top.running, undefined);
    wanted.restarts += 1;
    wanted.reply = undefined;
    if (wanted.restarts > RESTARTS_MAX) return this.#finish(wanted, ERRNO.EAGAIN);
    this.#waits = true;
    setTimeout(
      () => {
        this.#waits = false;
        this.#begin(wanted, top.running.ino);
        this.#wake();
      },
      Math.min(PAUSE_MAX_MS, wanted.restarts),
    ).unref();
  }

  #end(wanted: Wanted, top: Frame, result: Uint8Array | Errno): void {
    if (top.running.stale) return this.#restart(wanted, top);
    wanted.stack.pop();
    const hash = typeof result === 'number' ? undefined : result;
    const kept = this.#cache.end(top.running, hash);
    const above = wanted.stack.at(-1);
    if (above !== undefined) {
      if (!kept) above.running.unkept = true;
      wanted.reply = result;
    } else if (!kept && hash !== undefined && wanted.changes !== this.#cache.changes) {
      // Not everything could be watched: it is only known to be right when nothing has changed.
      wanted.restarts += 1;
      if (wanted.restarts > RESTARTS_MAX) this.#finish(wanted, ERRNO.EAGAIN);
    } else {
      this.#finish(wanted, result === ERRNO.ENOENT ? ERRNO.EIO : result);
    }
  }

  /** A directory's hash is known without work. */
  #give(wanted: Wanted, hash: Uint8Array): void {
    if (wanted.stack.length === 0) this.#finish(wanted, hash);
    else wanted.reply = hash;
  }

  #finish(wanted: Wanted, result: Result<Uint8Array>): void {
    for (const { running } of wanted.stack) this.#cache.end(running, undefined);
    this.#queue.splice(this.#queue.indexOf(wanted), 1);
    for (const done of wanted.done) done(result);
  }

  #wait(wanted: Wanted, bytes: Promise<Uint8Array>): void {
    this.#waits = true;
    const go = (reply: Reply): void => {
      this.#waits = false;
      wanted.reply = reply;
      this.#wake();
    };
    bytes.then(go, () => go(ERRNO.EIO));
  }

  // ---- one directory ----

  *#directory(running: Running): Work {
    const sum = new SetSum();
    let entries = 0;
    let range: KeyRange | undefined = allOfInode(KEY.NAME, running.ino);
    while (range !== undefined) {
      const names: NameRecord[] = [];
      const next = this.#names(range, names);
      if (typeof next === 'number') return next;
      for (const record of names) {
        const node = yield* this.#entry(record, running);
        if (typeof node === 'number') return node;
        sum.add(this.#digest.hash(entryPart(record.name, node)));
        entries += 1;
        yield;
      }
      range = next;
    }
    const inode = this.#session.peek(running.ino);
    if (typeof inode === 'number') return inode;
    const body = new Uint8Array(HASH_BYTES);
    sum.write(body, 0);
    return this.#nodeHash(inode, entries, body);
  }

  /** Reads some names; the range that follows, undefined at the end, or an errno. */
  #names(range: KeyRange, names: NameRecord[]): KeyRange | Errno | undefined {
    let next: KeyRange | undefined;
    const errno = this.#session.scanNames(range, (record, key) => {
      names.push(record);
      if (names.length < BATCH) return true;
      next = allBehind(key);
      return false;
    });
    return errno === 0 ? next : errno;
  }

  /** The hash of the node that a name leads to. */
  *#entry(record: NameRecord, running: Running): Work {
    if (record.type === S_IFDIR) return (yield record.ino) ?? ERRNO.EIO;
    const inode = this.#session.peek(record.ino);
    if (typeof inode === 'number') return inode;
    this.#cache.met(inode, running);
    if (isRegular(inode)) return yield* this.#file(inode);
    const { target } = inode;
    const body = target.length === 0 ? undefined : this.#digest.hash(part(PART.TARGET, target));
    return this.#nodeHash(inode, inode.size, body?.slice());
  }

  // ---- one file ----

  *#file(inode: Inode): Work {
    if (inode.size === 0) return this.#nodeHash(inode, 0, undefined);
    const sum = new SetSum();
    const last = Math.ceil(inode.size / REGION_BYTES) - 1;
    const lastLength = inode.size - last * REGION_BYTES;
    let lastIsHole = true;
    let met = 0;
    let range: KeyRange | undefined = allOfInode(KEY.REGION, inode.ino);
    while (range !== undefined) {
      const regions: Region[] = [];
      const isOne = last === 0;
      const next: KeyRange | Errno | undefined = isOne
        ? this.#onlyRegion(inode.ino, regions)
        : this.#regions(range, regions);
      if (typeof next === 'number') return next;
      for (const { index, content } of regions) {
        if (index > last) continue;
        met += 1;
        const length = index === last ? lastLength : REGION_BYTES;
        const found = this.#content.id(content, index, length);
        const id = found instanceof Promise ? yield found : found;
        if (id === undefined || typeof id === 'number') return id ?? ERRNO.EIO;
        if (index === last) lastIsHole = false;
        // Zeros are a hole, but for the last region: that one would have to be hashed to tell.
        else if (isSame(id, this.#content.zeros(REGION_BYTES))) continue;
        sum.add(this.#digest.hash(regionPart(index, id)));
      }
      if (next !== undefined) yield;
      range = next;
    }
    if (isDense(inode) && met <= last) {
      const key = this.#session.keys.inode(inode.ino);
      return this.#session.damaged(key, 'counts bytes that are not there');
    }
    if (lastIsHole) {
      sum.add(this.#digest.hash(regionPart(last, this.#content.zeros(lastLength))));
    }
    const body = new Uint8Array(HASH_BYTES);
    sum.write(body, 0);
    return this.#nodeHash(inode, inode.size, body);
  }

  /** Reads the region of a small file: a look-up, which costs less than a search. */
  #onlyRegion(ino: number, regions: Region[]): Errno | undefined {
    const session = this.#session;
    const content = session.getRegion(session.keys.region(ino, 0));
    if (content === undefined || typeof content === 'number') return content;
    regions.push({ index: 0, content });
    return undefined;
  }

  /** Reads some regions; the range that follows, undefined at the end, or an errno. */
  #regions(range: KeyRange, regions: Region[]): KeyRange | Errno | undefined {
    let next: KeyRange | undefined;
    const errno = this.#session.scanRegions(range, (content, key) => {
      regions.push({ index: regionOf(key), content });
      if (regions.length < BATCH) return true;
      next = allBehind(key);
      return false;
    });
    return errno === 0 ? next : errno;
  }

  // ---- one inode ----

  /** The hash of type, permissions, size, extended attributes and what the node holds. */
  #nodeHash(inode: Inode, size: number, body: Uint8Array | undefined): Uint8Array | Errno {
    const sum = new SetSum();
    const errno = this.#addXattrs(inode.ino, sum);
    if (errno !== 0) return errno;
    const node = this.#node;
    node[0] = PART.NODE;
    putU32(node, NODE.MODE, inode.mode);
    putU32(node, NODE.RDEV, inode.rdev);
    putU32(node, NODE.SIZE, size >>> 0);
    putU32(node, NODE.SIZE + 4, Math.floor(size / TWO_32));
    sum.write(node, NODE.XATTRS);
    if (body === undefined) node.fill(0, NODE.BODY);
    else node.set(body, NODE.BODY);
    return this.#digest.hash(node).slice();
  }

  #addXattrs(ino: number, sum: SetSum): Errno {
    return this.#session.scanXattrs(allOfInode(KEY.XATTR, ino), ({ name, value }) => {
      const head = Uint8Array.of(PART.XATTR, name.length);
      sum.add(this.#digest.hash(Buffer.concat([head, name, value])));
      return true;
    });
  }
}

function part(kind: number, bytes: Uint8Array): Uint8Array {
  const whole = new Uint8Array(1 + bytes.length);
  whole[0] = kind;
  whole.set(bytes, 1);
  return whole;
}

function entryPart(name: Uint8Array, node: Uint8Array): Uint8Array {
  const whole = new Uint8Array(1 + HASH_BYTES + name.length);
  whole[0] = PART.ENTRY;
  whole.set(node, 1);
  whole.set(name, 1 + HASH_BYTES);
  return whole;
}

function regionPart(index: number, id: Uint8Array): Uint8Array {
  const whole = new Uint8Array(5 + HASH_BYTES);
  whole[0] = PART.REGION;
  putU32(whole, 1, index);
  whole.set(id, 5);
  return whole;
}

/** Little-endian, as everything that is hashed. */
function putU32(bytes: Uint8Array, offset: number, value: number): void {
  for (let byte = 0; byte < 4; byte++) bytes[offset + byte] = value >>> (8 * byte);
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
