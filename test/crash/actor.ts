/** A program that works at random in a directory of its own and knows what it may find there after a crash. */
import { createHash } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { Draws } from '../support/random.ts';
import { type Outcome, type Request, Syscalls } from '../support/syscalls.ts';
import { type Change, Contents } from './contents.ts';
import { type Entry, type Found, Names, type Tree } from './names.ts';

/** What ends a process: a kill leaves the page cache, a power loss only what was synced. */
export type Level = 'kill' | 'power';

/** What calls fail with when nobody serves the mount any more. */
const DEAD = new Set(['ENOTCONN', 'ECONNABORTED']);
/** What calls fail with while the store does. */
const REFUSED = new Set(['ENOSPC', 'EIO', 'EROFS']);
/** What a second try of something that was done fails with. */
const DONE_BEFORE = new Set(['EEXIST', 'ENOENT']);
const FILE_BYTES_MAX = 9 << 20;
const FILES_MAX = 10;
const HANDLES_MAX = 3;
/** Calls that are told when something is lost. */
const TOLD = 150;
/** How often what must succeed is tried once the store is whole again, and how far apart, in milliseconds. */
const TRIES = 60;
const TRY_MS = 100;
const CREATE = ['O_RDWR', 'O_CREAT', 'O_EXCL'];
/** Lengths of writes: inline files, ordinary ones, several requests, several regions. */
const LENGTHS_MAX = [200, 200, 4_096, 4_096, 70_000, 70_000, 1_200_000, 6_000_000] as const;

/** What an actor is made of. */
export interface ActorOptions {
  name: string;
  draws: Draws;
  level: Level;
  /** Makes the store whole again; for actors that work while it fails. */
  heal?: () => void;
  /**
   * Whether any call may be refused, and go on to be for as long as the mount stands, since it cannot know what its
   * disk holds. Otherwise only bytes may be, until the store is whole again.
   */
  mayStayRefused?: boolean;
}

/** Tries where the mount may refuse for good. */
const FEW_TRIES = 4;

/** Thrown when the mount is gone, or may refuse everything: no fault of anybody. */
class Gone extends Error {}

/** One program. Its directory is `name` below the mount. */
export class Actor {
  readonly #options: ActorOptions;
  readonly #names = new Names();
  readonly #contents = new Map<number, Contents>();
  /** Open files by handle. */
  readonly #open = new Map<string, number>();
  #calls: Syscalls | undefined;
  readonly #latest: string[] = [];
  #root = '';
  #next = 1;

  constructor(options: ActorOptions) {
    this.#options = options;
  }

  /** Has a process of its own for the mount at `directory`, until `leave`. */
  enter(directory: string, onStuck: () => void): void {
    this.#root = `${directory}/${this.#options.name}`;
    this.#calls = new Syscalls({ onStuck, deadlineMs: 30_000 });
  }

  get #mountDirectory(): string {
    return this.#root.slice(0, this.#root.lastIndexOf('/'));
  }

  /** Ends the process, and so closes what it has open. */
  async leave(): Promise<void> {
    await this.#calls?.close();
    this.#open.clear();
  }

  /** Makes the actor's directory, durable. */
  async begin(): Promise<void> {
    await this.#ok('mkdir', this.#root);
    await this.#ok('fsync_directory', this.#mountDirectory);
  }

  /** Takes so many steps; false when the mount has ended meanwhile. */
  async work(steps: number): Promise<boolean> {
    try {
      for (let step = 0; step < steps; step += 1) await this.#step();
      return true;
    } catch (error) {
      if (error instanceof Gone) return false;
      throw error;
    }
  }

  /** Closes every handle and syncs every file; all must succeed within a while. False when the mount has ended. */
  async settle(): Promise<boolean> {
    try {
      for (const handle of [...this.#open.keys()]) await this.#close(handle);
      for (const [path, entry] of this.#names.now) {
        if (entry.type !== 'file') continue;
        await this.#ok('open', 'settle', `${this.#root}/${path}`, ['O_RDWR']);
        await this.#eventually('fsync', 'settle');
        await this.#ok('close', 'settle');
        this.#synced(entry.id);
      }
      await this.#ok('fsync_directory', this.#root);
      this.#synced(-1);
      return true;
    } catch (error) {
      if (error instanceof Gone) return false;
      throw error;
    }
  }

  /** The mount has ended with status 0: everything is durable. */
  unmounted(): void {
    this.#names.settle();
    for (const contents of this.#contents.values()) contents.settle();
  }

  /**
   * Compares everything with what may be there, and knows it to be the state from now on. False when the mount has
   * ended meanwhile; throws what is wrong.
   */
  async verify(scratch: string): Promise<boolean> {
    // What a kill left is not on the disk yet: only once it is, a later power loss must leave it as well.
    const synced =
      this.#options.level === 'kill' ? undefined : await this.#made('fsync_directory', this.#root);
    if (synced !== undefined && (await this.#isGone(synced))) return false;
    const outcome = await this.#made('tree', this.#root);
    if (await this.#isGone(outcome)) return false;
    if ('errno' in outcome) throw new Error(`${this.#root} cannot be read: ${outcome.errno}`);
    const found = outcome.value as Record<string, Found>;
    const trees = this.#names.matches(found);
    if (typeof trees === 'string') throw new Error(`names: ${trees}`);
    // Names alone may fit several states: one file was to take the place of another, say.
    let problem = '';
    for (const tree of trees) {
      const bytes = await this.#contentsIn(tree, found, scratch);
      if (bytes === undefined) return false;
      if (typeof bytes !== 'string') {
        this.#adopt(tree, bytes);
        return true;
      }
      problem ||= bytes;
    }
    throw new Error(problem);
  }

  /** What the files of a tree hold, by number; what is wrong with it; or undefined when the mount has ended. */
  async #contentsIn(
    tree: Tree,
    found: Readonly<Record<string, Found>>,
    scratch: string,
  ): Promise<Map<number, Buffer> | string | undefined> {
    const all = new Map<number, Buffer>();
    for (const [path, entry] of tree) {
      if (entry.type !== 'file') continue;
      const bytes = await this.#contentOf(path, entry, found[path] as Found, scratch);
      if (bytes === undefined || typeof bytes === 'string') return bytes;
      all.set(entry.id, bytes);
    }
    return all;
  }

  #adopt(tree: Tree, bytes: ReadonlyMap<number, Buffer>): void {
    this.#names.adopt(tree);
    this.#contents.clear();
    for (const [id, state] of bytes) {
      const contents = new Contents();
      contents.adopt(state);
      this.#contents.set(id, contents);
    }
  }

  /** The bytes of a file, which must be among those that it may have; what is wrong with them. */
  async #contentOf(
    path: string,
    entry: Entry,
    found: Found,
    scratch: string,
  ): Promise<Buffer | string | undefined> {
    const contents = this.#contents.get(entry.id) as Contents;
    const known = contents.states().find((state) => hashOf(state) === found.content);
    if (known !== undefined) return known;
    const outcome = await this.#made('copy_out', `${this.#root}/${path}`, scratch);
    if (await this.#isGone(outcome)) return undefined;
    if ('errno' in outcome) throw new Error(`${path} cannot be read: ${outcome.errno}`);
    const bytes = readFileSync(scratch);
    rmSync(scratch);
    const problem = contents.problem(bytes);
    return problem === undefined ? bytes : `content of ${path}: ${problem}`;
  }

  // ---- calls ----

  async #made(...request: Request): Promise<Outcome> {
    if (this.#calls === undefined) throw new Error('the actor has no process');
    const line = JSON.stringify(request).replaceAll(this.#root, '');
    this.#latest.push(line);
    if (this.#latest.length > TOLD) this.#latest.shift();
    const outcome = await this.#calls.call(...request);
    if ('errno' in outcome) this.#latest.push(`  ${outcome.errno}`);
    return outcome;
  }

  /** Whether a call failed because nobody serves the mount any more. */
  async #isGone(outcome: Outcome): Promise<boolean> {
    if (!('errno' in outcome)) return false;
    if (DEAD.has(outcome.errno)) return true;
    // A mount that has ended by itself leaves an empty directory.
    if (outcome.errno !== 'ENOENT' || this.#options.mayStayRefused !== true) return false;
    return 'errno' in (await this.#made('lstat', `${this.#mountDirectory}/.millrace`));
  }

  /** The last calls, for whoever wants to know how something was lost. */
  get trace(): string {
    return this.#latest.join('\n');
  }

  /** A call that must succeed unless the mount is gone. */
  async #ok(...request: Request): Promise<unknown> {
    for (let attempt = 1; ; attempt += 1) {
      const outcome = await this.#made(...request);
      if ('value' in outcome) return outcome.value;
      if (await this.#isGone(outcome)) throw new Gone();
      // What was refused because it could not be kept may have been done; it is kept later.
      if (attempt > 1 && DONE_BEFORE.has(outcome.errno)) return undefined;
      if (this.#options.mayStayRefused !== true || !REFUSED.has(outcome.errno)) {
        throw new Error(`${JSON.stringify(request).slice(0, 200)} failed with ${outcome.errno}`);
      }
      await this.#beforeAnother(attempt, request);
    }
  }

  /** Waits before what was refused is tried again; throws after too many tries. */
  async #beforeAnother(attempt: number, request: Request): Promise<void> {
    const { heal, mayStayRefused } = this.#options;
    heal?.();
    if (mayStayRefused === true && attempt === FEW_TRIES) throw new Gone();
    if (attempt === TRIES) throw new Error(`${JSON.stringify(request)} goes on to fail`);
    await pause(TRY_MS);
  }

  /** A call that a failing store may refuse; false when it does. */
  async #allowed(...request: Request): Promise<boolean> {
    const outcome = await this.#made(...request);
    if ('value' in outcome) return true;
    if (await this.#isGone(outcome)) throw new Gone();
    if (this.#options.heal !== undefined && REFUSED.has(outcome.errno)) return false;
    throw new Error(`${JSON.stringify(request).slice(0, 200)} failed with ${outcome.errno}`);
  }

  /** A call that must succeed within a while once the store is whole again, which it becomes when it refuses. */
  async #eventually(...request: Request): Promise<void> {
    for (let attempt = 1; !(await this.#allowed(...request)); attempt += 1) {
      await this.#beforeAnother(attempt, request);
    }
  }

  // ---- what is known ----

  #synced(id: number): void {
    this.#contents.get(id)?.settle();
    if (this.#options.level === 'power') {
      for (const contents of this.#contents.values()) contents.settleClosed();
    }
    this.#names.settle();
  }

  #closed(id: number): void {
    if (this.#options.level === 'power') return this.#contents.get(id)?.close();
    this.#contents.get(id)?.settle();
    this.#names.settle();
  }

  #paths(type: Entry['type']): string[] {
    return [...this.#names.now].filter(([, entry]) => entry.type === type).map(([path]) => path);
  }

  /** A path that is not there yet, in one of the directories. */
  #newPath(): string {
    const directory = this.#options.draws.pick(['', ...this.#paths('directory')]);
    this.#next += 1;
    return `${directory === '' ? '' : `${directory}/`}n${this.#next}`;
  }

  // ---- steps ----

  #step(): Promise<void> {
    const { draws } = this.#options;
    const files = this.#paths('file');
    if (files.length === 0) return this.#create();
    const handle = this.#open.size > 0 ? draws.pick([...this.#open.keys()]) : undefined;
    const file = draws.pick(files);
    if (draws.below(10) < 6) {
      if (handle === undefined) return this.#openFile(file);
      return this.#useHandle(handle);
    }
    switch (draws.below(12)) {
      case 0:
      case 1:
        return files.length < FILES_MAX ? this.#create() : this.#unlink(file);
      case 2:
        return this.#publish(file);
      case 3:
        return this.#rename(file, draws.below(2) === 0 ? this.#newPath() : draws.pick(files));
      case 4:
        return this.#unlink(file);
      case 5:
        return files.length < FILES_MAX ? this.#link(file) : this.#unlink(file);
      case 6:
        return this.#truncate(file);
      case 7:
        return this.#attributes(file);
      case 8:
        return this.#directories();
      case 9:
        return this.#symlink();
      case 10:
        return this.#syncDirectory();
      default:
        return this.#openFile(file);
    }
  }

  #useHandle(handle: string): Promise<void> {
    switch (this.#options.draws.below(10)) {
      case 0:
      case 1:
        return this.#fsync(handle);
      case 2:
        return this.#close(handle);
      case 3:
        return this.#truncateHandle(handle);
      default:
        return this.#write(handle);
    }
  }

  async #create(): Promise<void> {
    // First: it may close a file, which makes everything before durable, but not what comes behind.
    await this.#makeRoom();
    const path = this.#newPath();
    const id = this.#nextId();
    this.#names.change((tree) => tree.set(path, { type: 'file', id, mode: '0o644', xattrs: {} }));
    this.#contents.set(id, new Contents());
    const handle = `h${id}`;
    const opened = await this.#ok('open', handle, `${this.#root}/${path}`, CREATE);
    if (opened === undefined) await this.#ok('open', handle, `${this.#root}/${path}`, ['O_RDWR']);
    this.#open.set(handle, id);
  }

  #nextId(): number {
    this.#next += 1;
    return this.#next;
  }

  async #openFile(path: string): Promise<void> {
    await this.#makeRoom();
    const handle = `h${this.#nextId()}`;
    await this.#ok('open', handle, `${this.#root}/${path}`, ['O_RDWR']);
    this.#open.set(handle, (this.#names.now.get(path) as Entry).id);
  }

  async #makeRoom(): Promise<void> {
    const [oldest] = this.#open.keys();
    if (this.#open.size >= HANDLES_MAX && oldest !== undefined) await this.#close(oldest);
  }

  #contentsOf(handle: string): Contents {
    return this.#contents.get(this.#open.get(handle) as number) as Contents;
  }

  async #write(handle: string): Promise<void> {
    const { draws, name } = this.#options;
    const contents = this.#contentsOf(handle);
    const size = contents.length;
    const length = 1 + draws.below(draws.pick(LENGTHS_MAX));
    const offset = draws.below(3) > 0 ? size : draws.below(size + 5_000);
    if (offset + length > FILE_BYTES_MAX) return this.#truncateHandle(handle);
    const repeat = `${name}${this.#nextId()};`;
    const change: Change = { kind: 'write', offset, repeat, length };
    contents.change(change);
    await this.#eventually('pwrite', handle, { repeat, length }, offset);
  }

  async #truncateHandle(handle: string): Promise<void> {
    const contents = this.#contentsOf(handle);
    const size = this.#options.draws.below(contents.length + 2_000);
    contents.change({ kind: 'truncate', size });
    await this.#eventually('ftruncate', handle, size);
  }

  async #truncate(path: string): Promise<void> {
    const { id } = this.#names.now.get(path) as Entry;
    const contents = this.#contents.get(id) as Contents;
    const size = this.#options.draws.below(contents.length + 2_000);
    contents.change({ kind: 'truncate', size });
    await this.#eventually('truncate', `${this.#root}/${path}`, size);
  }

  async #fsync(handle: string): Promise<void> {
    const call = this.#options.draws.pick(['fsync', 'fdatasync']);
    if (await this.#allowed(call, handle)) this.#synced(this.#open.get(handle) as number);
  }

  async #close(handle: string): Promise<void> {
    const id = this.#open.get(handle) as number;
    this.#open.delete(handle);
    if (await this.#allowed('close', handle)) this.#closed(id);
  }

  async #syncDirectory(): Promise<void> {
    if (await this.#allowed('fsync_directory', this.#root)) this.#synced(-1);
  }

  async #rename(from: string, to: string): Promise<void> {
    const entry = this.#names.now.get(from) as Entry;
    const replaced = this.#names.now.get(to);
    // POSIX: two links of one file stay both.
    if (replaced?.id !== entry.id) {
      this.#names.change((tree) => {
        tree.delete(from);
        tree.set(to, entry);
      });
    }
    await this.#ok('rename', `${this.#root}/${from}`, `${this.#root}/${to}`);
    // Of two links of one file the kernel never asks the file system: nothing is promised then.
    if (this.#options.level === 'kill' && replaced?.id !== entry.id) this.#names.settle();
  }

  /** As programs save: a new file, synced, in the place of an old one. */
  async #publish(path: string): Promise<void> {
    await this.#create();
    const handle = [...this.#open.keys()].at(-1) as string;
    const id = this.#open.get(handle) as number;
    await this.#write(handle);
    await this.#fsync(handle);
    await this.#close(handle);
    const [from] = [...this.#names.now].find(([, entry]) => entry.id === id) as [string, Entry];
    await this.#rename(from, path);
  }

  async #unlink(path: string): Promise<void> {
    this.#names.change((tree) => tree.delete(path));
    await this.#ok('unlink', `${this.#root}/${path}`);
  }

  async #link(path: string): Promise<void> {
    const to = this.#newPath();
    this.#names.change((tree) => tree.set(to, tree.get(path) as Entry));
    await this.#ok('link', `${this.#root}/${path}`, `${this.#root}/${to}`);
  }

  async #attributes(path: string): Promise<void> {
    const { draws } = this.#options;
    const { id } = this.#names.now.get(path) as Entry;
    const isMode = draws.below(2) === 0;
    const bits = draws.pick([0o600, 0o640, 0o644, 0o755]);
    const value = `value ${this.#nextId()}`;
    this.#names.change((tree) => {
      for (const [other, entry] of tree) {
        if (entry.id !== id) continue;
        const xattrs = { ...entry.xattrs, 'user.crash': value };
        tree.set(
          other,
          isMode ? { ...entry, mode: `0o${bits.toString(8)}` } : { ...entry, xattrs },
        );
      }
    });
    if (isMode) await this.#ok('chmod', `${this.#root}/${path}`, bits);
    else await this.#ok('setxattr', `${this.#root}/${path}`, 'user.crash', value);
  }

  async #directories(): Promise<void> {
    const { now } = this.#names;
    const empty = this.#paths('directory').find(
      (path) => ![...now.keys()].some((other) => other.startsWith(`${path}/`)),
    );
    if (empty !== undefined && this.#options.draws.below(2) === 0) {
      this.#names.change((tree) => tree.delete(empty));
      await this.#ok('rmdir', `${this.#root}/${empty}`);
      return;
    }
    const path = this.#newPath();
    const id = this.#nextId();
    this.#names.change((tree) => {
      tree.set(path, { type: 'directory', id, mode: '0o755', xattrs: {} });
    });
    await this.#ok('mkdir', `${this.#root}/${path}`);
  }

  async #symlink(): Promise<void> {
    const links = this.#paths('link');
    if (links.length > 3) {
      const path = links[0] as string;
      return this.#unlink(path);
    }
    const path = this.#newPath();
    const target = `to ${this.#nextId()}`;
    const entry = { type: 'link', id: this.#nextId(), mode: '0o777', target, xattrs: {} } as const;
    this.#names.change((tree) => tree.set(path, entry));
    await this.#ok('symlink', target, `${this.#root}/${path}`);
  }
}

function hashOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
