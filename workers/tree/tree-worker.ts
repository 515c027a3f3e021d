/**
 * The tree worker: owns names, attributes and extents, and commits what data workers report (invariants 3 and 7).
 *
 * One turn is one transaction of the Kv: all descriptors that lie ready are served, and only then are the answers sent.
 * A turn that closes, syncs or renames a file is flushed before that, so that it survives the end of the process;
 * others are flushed together with later ones, at the latest when the ring has been empty for a moment.
 *
 *     REQUEST ─► Operations ─► MountInodes ─► Resizing, Copying, Forgetting, Durability ─► Commits, Owners ─► Turn
 *     COMMIT ──► Durability ──► Commits          EXTENT, INLINE ─► Commits          QUERY ─► Contents
 *     PIECE, READ, SYNC of region 0 ─► DataWorker ─► Durability, Commits: at once, without a message
 *
 * This file takes turns, reads descriptors and connects those parts; each part knows only those that follow it.
 */
import { constants } from 'node:os';
import { OPCODE } from '../../engine/fuse-protocol.ts';
import { descriptor, kind, request as requestCell } from '../../engine/layout.ts';
import type { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import type { TreeDigest } from '../../engine/tree/hasher.ts';
import type { Namespace } from '../../engine/tree/namespaces.ts';
import type { Tree } from '../../engine/tree/tree.ts';
import type { Owner } from '../../engine/tree/types.ts';
import type { Collection } from '../collection.ts';
import { type Commands, doubleAt } from '../commands.ts';
import type { CollectionOutcome } from '../task.ts';
import { DataWorker } from '../data/data-worker.ts';
import type { Answer } from './answer.ts';
import { Barriers } from './barrier.ts';
import { Clock } from './clock.ts';
import { CollectionSchedule } from './collection-schedule.ts';
import { Commits } from './commits.ts';
import { Contents } from './contents.ts';
import { Copying } from './copying.ts';
import { Durability } from './durability.ts';
import { Forgetting } from './forgetting.ts';
import { type CollectionOrder, GarbageCollector } from './garbage-collector.ts';
import { MountInodes } from './mount-inodes.ts';
import { Operations } from './operations.ts';
import { Orphans } from './orphans.ts';
import { Owners } from './owners.ts';
import { stripPrivileges } from './privileges.ts';
import type { Outcome } from './request.ts';
import { RequestReader } from './request-reader.ts';
import { Resizing } from './resizing.ts';
import { Room } from './room.ts';
import { type SlotLimits, Slots } from './slots.ts';
import type { FileSystemStatistics } from './statistics.ts';
import { Turn } from './turn.ts';
import { type ControlHost, MountControl } from './virtual/mount-control.ts';
import { isControl } from './virtual/numbers.ts';

/** Operations that change nothing: a turn of these alone needs no transaction. */
const READ_ONLY = new Set<number>([
  OPCODE.LOOKUP,
  OPCODE.GETATTR,
  OPCODE.READLINK,
  OPCODE.OPEN,
  OPCODE.RELEASE,
  OPCODE.STATFS,
  OPCODE.GETXATTR,
  OPCODE.LISTXATTR,
  OPCODE.OPENDIR,
  OPCODE.READDIR,
  OPCODE.READDIRPLUS,
  OPCODE.RELEASEDIR,
  OPCODE.STATX,
  // Of virtual files alone.
  OPCODE.READ,
  OPCODE.WRITE,
  OPCODE.FLUSH,
  OPCODE.FSYNC,
  OPCODE.LSEEK,
]);

/** Operations that make room, or take none: they are served while there is room for no others. */
const REMOVES = new Set<number>([
  OPCODE.UNLINK,
  OPCODE.RMDIR,
  OPCODE.REMOVEXATTR,
  // A truncation, and what makes a hole or is refused later.
  OPCODE.SETATTR,
  OPCODE.FALLOCATE,
]);

/** What a tree worker is made of. */
export interface TreeWorkerOptions {
  memory: SharedMemory;
  commands: Commands;
  kv: BufferedKv;
  tree: Tree;
  /** How long the kernel may keep names and attributes, in milliseconds. */
  ttlMs: number;
  /** Dirty data is committed without being asked after this many milliseconds; 0: never. */
  commitIntervalMs: number;
  /** Whether stored chunks need a barrier before a commit may name them. */
  storeNeedsSync: boolean;
  statfs: () => FileSystemStatistics;
  /** Asks for a turn soon: something happened outside of one. */
  wake: () => void;
  /** Begins a collection of garbage over the store; without it there are none. */
  beginCollection?: () => Collection;
  /** Milliseconds between two collections that nobody asks for; 0 or none: there are none. */
  collectIntervalMs?: number;
  /** Bytes that the store can still take; garbage is collected for want of room where this is given. */
  freeBytes?: () => number;
  /** How many inodes may be open, and who is told; as many as there can be unless given. */
  limits?: SlotLimits;
  /** What the mount shows; the default namespace, and no control files, unless given. */
  shows?: { namespaces: readonly Namespace[]; owner: Owner; digest: TreeDigest };
}

/** The tree worker's state and decisions. Threads: its own. */
export class TreeWorker implements ControlHost {
  readonly commands: Commands;
  readonly #memory: SharedMemory;
  readonly #words: Uint32Array;
  readonly #kv: BufferedKv;
  readonly #tree: Tree;
  readonly #clock: Clock;
  readonly #turn: Turn;
  readonly #barriers = new Barriers();
  readonly #slots: Slots;
  readonly #contents: Contents;
  readonly #commits: Commits;
  readonly #durability: Durability;
  readonly #forgetting: Forgetting;
  readonly #requests: RequestReader;
  readonly #operations: Operations;
  readonly #control: MountControl | undefined;
  readonly #collector: GarbageCollector;
  readonly #schedule: CollectionSchedule;
  readonly #room: Room | undefined;
  /** The first region of every inode is owned by this thread: a small file then needs no other. */
  readonly #data: DataWorker;

  constructor(options: TreeWorkerOptions) {
    const { memory, commands, kv, tree, storeNeedsSync, wake } = options;
    this.commands = commands;
    this.#memory = memory;
    this.#words = memory.words;
    this.#kv = kv;
    this.#tree = tree;
    const barriers = this.#barriers;
    const clock = new Clock(options.commitIntervalMs, () => this.#tick());
    const turn = new Turn(commands, { kv, tree, clock, wake });
    const slots = new Slots(memory, options.limits);
    const orphans = new Orphans(memory);
    const owners = new Owners(memory, commands, barriers);
    const commits = new Commits(memory, commands, { tree, slots, turn, barriers, storeNeedsSync });
    const parts = { kv, tree, clock, turn, slots, orphans, owners, commits, wake };
    const durability = new Durability(memory, parts, {
      seek: (request) => this.#answerSeek(request),
      committed: (errno) => this.#control?.committed(errno),
      synced: () => this.#control?.synced(),
      roomMade: (then) => this.#room?.await(() => turn.later(then)) === true,
      wake,
    });
    const forgetting = new Forgetting(parts);
    const copying = new Copying({
      ...parts,
      copied: (changes) => this.#collector.keep(changes),
    });
    this.#collector = new GarbageCollector({
      ...parts,
      commands,
      barriers,
      dropForgotten: () => turn.runAlone(() => forgetting.dropForgotten()),
      reclaimSome: () => forgetting.reclaimSome(),
      afterCopies: (done) => copying.afterRunning(done),
      begin: options.beginCollection ?? cannotCollect,
    });
    const interval = options.collectIntervalMs ?? 0;
    this.#schedule = new CollectionSchedule(memory, this.#collector, interval);
    const { freeBytes } = options;
    if (interval > 0 && freeBytes !== undefined) {
      const later = (task: () => void): void => void setImmediate(task);
      const isTreeShort = (): boolean => turn.isShort;
      const collector = this.#collector;
      this.#room = new Room({ memory, collector, forgetting, freeBytes, isTreeShort, later });
    }
    const resizing = new Resizing({
      ...parts,
      answerAttributes: (ino, answer) => this.#operations.answerAttributes(ino, answer),
    });
    const inodes = new MountInodes({ ...parts, resizing, copying, forgetting, durability });
    this.#clock = clock;
    this.#turn = turn;
    this.#slots = slots;
    this.#contents = new Contents(memory, commands, parts);
    this.#commits = commits;
    this.#durability = durability;
    this.#forgetting = forgetting;
    this.#requests = new RequestReader(memory);
    const { shows, statfs, ttlMs: ttl } = options;
    const { digest } = shows ?? {};
    this.#control = digest && new MountControl({ memory, tree, digest, host: this, wake });
    const view = shows && { ...shows, control: this.#control };
    this.#operations = new Operations({ tree, inodes, ttl, view, statfs });
    this.#data = new DataWorker(memory, commands, {
      inline: (slot, bytes) => commits.setInline(slot, bytes),
      extent: (slot, extent) => commits.addExtent(slot, { ...extent, id: extent.id.slice() }),
      commit: (slot, request, errno) => durability.commitAtOnce(slot, request, errno),
    });
  }

  // ---- turns ----

  /** Serves `count` descriptors from `ticket` on: how many it has taken (the rest needs another turn). */
  serve(ticket: number, count: number): number {
    const turn = this.#turn;
    const { worker } = this.commands;
    turn.begin();
    let served = 0;
    const body = (): void => {
      while (served < count && (served === 0 || turn.hasRoom)) {
        this.#handle(this.#memory.descriptorWord(worker, ticket + served));
        served += 1;
      }
    };
    if (this.#mutates(ticket, count)) turn.transact(body);
    else body();
    turn.end();
    this.#forgetting.dropClosed(false);
    this.#data.relieve();
    this.#room?.notice();
    return served;
  }

  #mutates(ticket: number, count: number): boolean {
    for (let i = 0; i < count; i++) {
      const word = this.#memory.descriptorWord(this.commands.worker, ticket + i);
      const is = this.#words[word + descriptor.KIND];
      if (is === kind.PIECE || is === kind.READ || is === kind.EXTENT) continue;
      if (is === kind.FORGET) continue;
      if (is !== kind.REQUEST) return true;
      const slot = this.#words[word + descriptor.A];
      const opcode = this.#words[this.#memory.requestWord(slot, requestCell.OPCODE)];
      if (!READ_ONLY.has(opcode)) return true;
    }
    return false;
  }

  #handle(word: number): void {
    const words = this.#words;
    const slot = words[word + descriptor.INODE];
    const a = words[word + descriptor.A];
    switch (words[word + descriptor.KIND]) {
      case kind.REQUEST:
        return this.#serveRequest(a);
      case kind.COMMIT:
        return this.#durability.commitRequest(slot, a);
      case kind.EXTENT:
        return this.#commits.extent(word);
      case kind.INLINE:
        return this.#commits.inline(slot, words[word + descriptor.LENGTH], a);
      case kind.QUERY:
        return this.#contents.query(slot, doubleAt(words, word + descriptor.OFFSET), a);
      case kind.ACK:
      case kind.SYNCED:
        return this.#barriers.acknowledge(a, words[word + descriptor.B]);
      case kind.FORGET:
        return this.#forgetting.forgotten(doubleAt(words, word + descriptor.OFFSET));
      case kind.STRIP:
        return this.#strip(slot, a);
      default:
        return this.#data.handle(word);
    }
  }

  /** A front has seen a WRITE that takes privileges off. */
  #strip(slot: number, privileges: number): void {
    const open = this.#slots.bySlot(slot);
    if (open !== undefined) stripPrivileges(this.#tree, open.ino, privileges);
  }

  /** What a turn without descriptors must still do; how long the next one may wait, in microseconds. */
  rest(): number {
    this.#data.relieve();
    return this.#data.patienceMicros;
  }

  // ---- requests ----

  #serveRequest(slot: number): void {
    const turn = this.#turn;
    const request = this.#requests.read(slot);
    const { opcode, node } = request;
    const isChange = !READ_ONLY.has(opcode) && opcode !== OPCODE.FSYNCDIR && !isControl(node);
    if (isChange && turn.refuses(REMOVES.has(opcode))) {
      return turn.reply(slot, constants.errno.ENOSPC);
    }
    const outcome = this.#operations.handle(request, turn.answer());
    if (opcode !== OPCODE.RENAME && opcode !== OPCODE.RENAME2) {
      return turn.finish(slot, outcome);
    }
    // Programs publish by rename: like a close, it must survive.
    turn.flushAtEnd();
    turn.finishFlushed(slot, outcome);
  }

  /** What was written is in the tree: it knows where the holes are. */
  #answerSeek(slot: number): void {
    const turn = this.#turn;
    turn.finish(slot, this.#operations.answerSeek(this.#requests.read(slot), turn.answer()));
  }

  answerLater(slot: number, write: (answer: Answer) => Outcome): void {
    this.#turn.answerLater(slot, write);
  }

  // ---- between turns ----

  /** Whether changes of the tree wait to be written where they belong. */
  get isCollecting(): boolean {
    return this.#turn.isCollecting;
  }

  /** Writes all changes of the tree so far where they belong. False: the store refuses; they are kept. */
  writeBack(): boolean {
    return this.#turn.writeBack();
  }

  /** Whether the next turn should wait for `renew`: the tree's file is short of room, and has freed some. */
  get wantsSync(): boolean {
    return this.#kv.wantsSync;
  }

  /** Syncs the tree's file, so that it can use again what it has freed. */
  renew(): Promise<void> {
    return this.#kv.renew();
  }

  /** Whether a sync of the Kv runs, which ends on the event loop. */
  get isSyncing(): boolean {
    return this.#durability.isSyncing || this.#collector.isSyncing;
  }

  /** Whether unlinked inodes wait to be deleted. */
  get isReclaiming(): boolean {
    return this.#forgetting.isReclaiming;
  }

  /** Deletes a bounded part of what unlinked inodes leave behind. True: there is more to do. */
  reclaimSome(): boolean {
    return this.#forgetting.reclaimSome();
  }

  /** Whether a hash of a tree is being made. */
  get isHashing(): boolean {
    return this.#control?.isHashing === true;
  }

  /** Goes on with the hash of a tree, for a moment; true: there is more to do now. */
  hashSome(): boolean {
    return this.#control?.hashSome() === true;
  }

  // ---- garbage ----

  /** Deletes chunks that nothing refers to; `done` is called outside of turns as well. */
  collect(order: CollectionOrder, done: (outcome: CollectionOutcome) => void): void {
    this.#collector.collect(order, done);
  }

  /** Whether a collection has something to do now, by `garbageStep`. */
  get hasGarbageWork(): boolean {
    return this.#collector.hasWork;
  }

  /** Goes on with a collection for about so many milliseconds; true: there is more to do now. */
  garbageStep(limitMs: number): boolean {
    return this.#collector.step(limitMs);
  }

  collectionStatus(): object {
    return { intervalSeconds: this.#schedule.intervalMs / 1000, ...this.#collector.status() };
  }

  /** Ends the collection that runs; resolves when no other thread works on it. */
  endCollections(): Promise<void> {
    this.#schedule.stop();
    return this.#collector.close();
  }

  // ---- the clock, and the end ----

  /** Gives up the slots of closed inodes, and commits what is dirty. */
  #tick(): void {
    let writers = false;
    let dirty = this.#durability.isTreeDirty;
    for (const open of this.#slots.all()) {
      if (open.writers > 0) writers = true;
      if (this.#slots.isDirty(open)) dirty = true;
    }
    this.#turn.runAlone(() => this.#forgetting.dropClosed(true));
    this.#room?.look();
    if (dirty && this.#clock.commits) this.commitAll(() => {});
    if (writers || dirty) this.#clock.arm();
  }

  get isDirty(): boolean {
    return this.#durability.isTreeDirty || this.countInodes().dirty > 0;
  }

  countInodes(): { open: number; dirty: number } {
    const counts = { open: 0, dirty: 0 };
    for (const open of this.#slots.all()) {
      if (open.openers > 0) counts.open += 1;
      if (this.#slots.isDirty(open)) counts.dirty += 1;
    }
    return counts;
  }

  /** Settles and commits everything, makes it durable, then calls `done` with the first errno or 0. */
  commitAll(done: (errno: number) => void): void {
    this.#durability.commitAll(done);
  }

  settleAll(done: (errno: number) => void): void {
    this.#durability.settleAll(done);
  }

  /** Settles everything and brings it into the tree, but not to the disk. */
  gatherAll(done: (errno: number) => void): void {
    this.#durability.gatherAll(done);
  }

  /** Brings into the tree what was settled so far, though not everything can be. */
  gatherSettled(done: (errno: number) => void): void {
    this.#durability.gatherSettled(done);
  }

  /** Inodes whose data or attributes are not stored; what an operator is told when a drain fails. */
  dirtyInodes(): number[] {
    const inodes: number[] = [];
    for (const open of this.#slots.all()) {
      if (this.#slots.isDirty(open) && !this.#forgetting.hasNoName(open)) inodes.push(open.ino);
    }
    return inodes;
  }

  /** Stops the clocks and asks for the end of the turns. */
  stop(): void {
    this.#schedule.stop();
    this.#room?.stop();
    this.#clock.stop();
  }

  get isStopped(): boolean {
    return this.#clock.isStopped;
  }
}

function cannotCollect(): never {
  throw new Error('garbage is not collected here');
}
