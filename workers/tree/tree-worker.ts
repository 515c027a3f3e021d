/**
 * The tree worker: owns names, attributes and extents, and commits what data workers report (invariants 3 and 7).
 *
 * One turn is one transaction of the Kv: all descriptors that lie ready are served, and only then are the answers sent.
 * A turn that closes, syncs or renames a file is flushed before that, so that it survives the end of the process;
 * others are flushed together with later ones, at the latest when the ring has been empty for a moment.
 */
import { constants } from 'node:os';
import {
  descriptor,
  INLINE_BYTES,
  kind,
  NONE,
  OUT_BYTES,
  REGION_BYTES,
  REQUEST_BODY_BYTES,
  request as requestCell,
  TREE_WORKER,
} from '../../engine/layout.ts';
import type { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import { patchExtents } from '../../engine/tree/content.ts';
import type { CopiedRange } from '../../engine/tree/copy.ts';
import type { TreeDigest } from '../../engine/tree/hasher.ts';
import type { Namespace } from '../../engine/tree/namespaces.ts';
import type { Tree } from '../../engine/tree/tree.ts';
import type {
  Attributes,
  AttributesPatch,
  ContentChange,
  Extent,
  Owner,
  Time,
} from '../../engine/tree/types.ts';
import { type Commands, doubleAt, Message } from '../commands.ts';
import { DataWorker } from '../data/data-worker.ts';
import { Answer } from './answer.ts';
import { Barriers } from './barrier.ts';
import type { Access, Allocation, OpenInodes } from './open-inodes.ts';
import { Operations, type Outcome, PENDING, type Request } from './operations.ts';
import { stripPrivileges } from './privileges.ts';
import { OPCODE } from './protocol.ts';
import { Orphans } from './orphans.ts';
import { type OpenInode, Slots } from './slots.ts';
import type { FileSystemStatistics } from './statistics.ts';
import { type ControlHost, MountControl } from './virtual/mount-control.ts';
import { isControl } from './virtual/numbers.ts';

/** Room that every answer must have; a turn with less is ended early. */
const ANSWER_ROOM = 1 << 20;
/** Inodes that are deleted in one transaction: small commits keep LMDB's list of free pages short. */
const RECLAIM_INODES = 16;
/** Changes of one inode that wait for a commit; more are committed without being asked. */
const PENDING_MAX = 4096;

/** Buffers for inline content that are kept for later. */
const INLINE_BUFFERS = 64;

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
  /** What the mount shows; the default namespace, and no control files, unless given. */
  shows?: { namespaces: readonly Namespace[]; owner: Owner; digest: TreeDigest };
}

type Discard = Extract<ContentChange, { kind: 'discard' }>;

/** A commit that waits for the store's barrier. */
interface Commit {
  open: OpenInode;
  /** How many of its pending changes the barrier covers: later ones need the next. */
  changes: number;
  done(errno: number): void;
}

/** The tree worker's state and decisions. Threads: its own. */
export class TreeWorker implements OpenInodes, ControlHost {
  readonly commands: Commands;
  readonly #options: TreeWorkerOptions;
  readonly #memory: SharedMemory;
  readonly #words: Uint32Array;
  readonly #tree: Tree;
  readonly #slots: Slots;
  readonly #barriers = new Barriers();
  readonly #message = new Message();
  readonly #answer: Answer;
  readonly #operations: Operations;
  readonly #control: MountControl | undefined;
  /** The first region of every inode is owned by this thread: a small file then needs no other. */
  readonly #data: DataWorker;
  readonly #large = new Uint8Array(1 << 20);
  readonly #request: Request;
  /** Commits that the next barrier of the store will allow. */
  #waiting: Commit[] = [];
  #barrierRuns = false;
  readonly #orphans: Orphans;
  /** Inodes without a name and a holder whose records are deleted bit by bit. */
  readonly #doomed: number[] = [];
  #outUsed = 0;
  /** Where the errnos of this turn's answers to commits lie: they become EIO when the turn cannot be flushed. */
  #commitReplies: number[] = [];
  #mustFlush = false;
  #isTransacting = false;
  /** Mutations get ENOSPC in this turn. */
  #refuses = false;
  /** To be done when the turn's transaction is committed. */
  #afterCommit: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;
  /** Memory for inline content that waits for a commit. */
  readonly #inlineBuffers: Uint8Array[] = [];
  #syncs = 0;
  /** Counts turns that changed the tree; and those that are durable. */
  #changes = 0;
  #syncedChanges = 0;
  #stopped = false;

  constructor(options: TreeWorkerOptions) {
    this.#options = options;
    this.#memory = options.memory;
    this.commands = options.commands;
    this.#words = options.memory.words;
    this.#tree = options.tree;
    this.#slots = new Slots(options.memory);
    this.#orphans = new Orphans(options.memory);
    this.#data = new DataWorker(options.memory, options.commands, {
      inline: (slot, bytes) => this.#setInline(slot, bytes),
      extent: (slot, extent) => this.#addExtent(slot, { ...extent, id: extent.id.slice() }),
      commit: (slot, request, errno) => this.#commitAtOnce(slot, request, errno),
    });
    this.#answer = new Answer(options.commands.out);
    const { memory, tree, ttlMs, statfs, shows, wake } = options;
    const { digest } = shows ?? {};
    this.#control = digest && new MountControl({ memory, tree, digest, host: this, wake });
    const view = shows && { ...shows, control: this.#control };
    this.#operations = new Operations({ tree, inodes: this, ttl: ttlMs, view, statfs });
    const body = this.#memory.control.subarray(0, 0);
    this.#request = { slot: 0, opcode: 0, node: 0, uid: 0, gid: 0, pid: 0, body };
    this.#tree.orphans((ino) => {
      this.#doomed.push(ino);
      return true;
    });
  }

  // ---- turns ----

  /** Serves `count` descriptors from `ticket` on: how many it has taken (the rest needs another turn). */
  serve(ticket: number, count: number): number {
    const base = this.#memory.descriptorWord.bind(this.#memory, this.commands.worker);
    this.#outUsed = 0;
    this.#commitReplies.length = 0;
    this.#afterCommit = [];
    // While the Kv cannot be written, nothing may be added to what it holds back (invariant 5).
    this.#refuses = this.#options.kv.isFailing && !this.flush();
    let served = 0;
    const body = (): void => {
      while (served < count && this.commands.hasRoom && OUT_BYTES - this.#outUsed >= ANSWER_ROOM) {
        this.#handle(base(ticket + served));
        served += 1;
      }
    };
    if (this.#mutates(ticket, count)) this.#transact(body);
    else body();
    for (const done of this.#afterCommit) done();
    this.#dropClosed(false);
    this.#data.relieve();
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

  /** Runs `body` in one transaction, and flushes it when something in it must survive. */
  #transact(body: () => void): void {
    this.#isTransacting = true;
    try {
      this.#tree.transact(body);
    } finally {
      this.#isTransacting = false;
    }
    if (this.#options.kv.isUnflushed) this.#noteChange();
    if (!this.#mustFlush) return;
    this.#mustFlush = false;
    if (this.flush()) return;
    for (const position of this.#commitReplies) this.commands.patch(position, constants.errno.EIO);
  }

  /** What a turn without descriptors must still do; how long the next one may wait, in microseconds. */
  rest(): number {
    this.#data.relieve();
    return this.#data.patienceMicros;
  }

  /** Whether changes of the tree wait to be written where they belong. */
  get isCollecting(): boolean {
    return this.#options.kv.size > 0;
  }

  /** Makes all changes of the tree so far survive the end of the process. False: the store refuses; they are kept. */
  flush(): boolean {
    return succeeds(() => this.#options.kv.flush());
  }

  /** Writes all changes of the tree so far where they belong. False: the store refuses; they are kept. */
  writeBack(): boolean {
    return succeeds(() => this.#options.kv.writeBack());
  }

  #handle(word: number): void {
    const words = this.#words;
    const slot = words[word + descriptor.INODE];
    const a = words[word + descriptor.A];
    switch (words[word + descriptor.KIND]) {
      case kind.REQUEST:
        return this.#serveRequest(a);
      case kind.COMMIT:
        return this.#commitRequest(slot, a);
      case kind.EXTENT:
        return this.#extent(word, slot);
      case kind.INLINE:
        return this.#inline(slot, words[word + descriptor.LENGTH], a);
      case kind.QUERY:
        return this.#query(slot, doubleAt(words, word + descriptor.OFFSET), a);
      case kind.ACK:
      case kind.SYNCED:
        return this.#barriers.acknowledge(a, words[word + descriptor.B]);
      case kind.FORGET:
        return this.forgotten(doubleAt(words, word + descriptor.OFFSET));
      case kind.STRIP:
        return this.#strip(slot, a);
      default:
        return this.#data.handle(word);
    }
  }

  // ---- requests ----

  #serveRequest(slot: number): void {
    const request = this.#decode(slot);
    if (this.#refuses && !READ_ONLY.has(request.opcode) && !isControl(request.node)) {
      return this.#reply(slot, constants.errno.ENOSPC, 0);
    }
    // Programs publish by rename: like a close, it must survive.
    if (request.opcode === OPCODE.RENAME || request.opcode === OPCODE.RENAME2) {
      this.#mustFlush = true;
      this.#commitReplies.push(this.commands.position + 2);
    }
    this.#finish(slot, this.#operations.handle(request, this.#begin()));
  }

  #decode(slot: number): Request {
    const words = this.#words;
    const base = this.#memory.requestWord(slot, 0);
    const request = this.#request;
    request.slot = slot;
    request.opcode = words[base + (requestCell.OPCODE >>> 2)];
    request.node = this.#memory.doubles[(base + (requestCell.NODE >>> 2)) >>> 1];
    request.uid = words[base + (requestCell.UID >>> 2)];
    request.gid = words[base + (requestCell.GID >>> 2)];
    request.pid = words[base + (requestCell.PID >>> 2)];
    request.body = this.#body(slot, words[base + (requestCell.BODY_LENGTH >>> 2)]);
    return request;
  }

  /** A request's body; a long one lies in two places and is put together in a buffer of ours. */
  #body(slot: number, bytes: number): Uint8Array {
    const start = this.#memory.bodyByte(slot);
    const near = Math.min(bytes, REQUEST_BODY_BYTES);
    const body = this.#memory.control.subarray(start, start + near);
    if (near === bytes) return body;
    const frame = this.#words[this.#memory.requestWord(slot, requestCell.FRAME)];
    this.#large.set(body);
    this.#large.set(this.#memory.frameBytes(frame, bytes - near), near);
    return this.#large.subarray(0, bytes);
  }

  #begin(): Answer {
    return this.#answer.begin(this.#outUsed, OUT_BYTES);
  }

  #finish(slot: number, outcome: Outcome): void {
    if (outcome === PENDING) return;
    if (outcome < 0) return this.#reply(slot, -outcome, 0);
    this.#reply(slot, 0, outcome);
  }

  #reply(slot: number, errno: number, bytes: number): void {
    this.commands.reply(slot, errno, bytes > 0 ? this.#outUsed : 0, bytes);
    this.#outUsed += Math.ceil(bytes / 8) * 8;
  }

  answerLater(slot: number, write: (answer: Answer) => Outcome): void {
    // Once the commands are executed, the answers of the last turn have left the out buffer.
    if (this.commands.position === 0) this.#outUsed = 0;
    this.#finish(slot, write(this.#begin()));
    this.#options.wake();
  }

  /** Answers outside of a turn's transaction, for instance when a sync has ended. */
  #replyLater(slot: number, errno: number): void {
    this.commands.reply(slot, errno);
  }

  // ---- commits ----

  /** FLUSH and FSYNC arrive here when all data workers have settled their part. */
  #commitRequest(slot: number, request: number): void {
    const failed = this.#words[this.#memory.requestWord(request, requestCell.ERRNO)];
    this.#commitFor(slot, request, failed);
  }

  /** The same when the only worker that was asked is this thread itself. */
  #commitAtOnce(slot: number, request: number, failed: number): boolean {
    if (this.#isTransacting) this.#commitFor(slot, request, failed);
    return this.#isTransacting;
  }

  #commitFor(slot: number, request: number, failed: number): void {
    const opcode = this.#words[this.#memory.requestWord(request, requestCell.OPCODE)];
    const isSync = opcode === OPCODE.FSYNC;
    const open = this.#slots.bySlot(slot);
    if (open === undefined) return this.#reply(request, failed || constants.errno.EBADF, 0);
    if (this.#options.kv.isUnflushed) this.#mustFlush = true;
    this.#commit(open, (errno) => {
      const result = failed || errno;
      if (failed !== 0) this.#slots.keepDirty(open);
      if (result === 0) this.#slots.settled(open);
      if (opcode === OPCODE.LSEEK && result === 0) this.#finishSeek(request);
      else if (isSync && result === 0) this.#syncThen((late) => this.#replyLater(request, late));
      else {
        this.#commitReplies.push(this.commands.position + 2);
        this.#reply(request, result, 0);
      }
    });
  }

  /** What was written is in the tree: it knows where the holes are. */
  #finishSeek(slot: number): void {
    this.#finish(slot, this.#operations.answerSeek(this.#decode(slot), this.#begin()));
  }

  /** Writes what is pending of an inode into the tree once the store has it for good, then calls `done` in a turn. */
  #commit(open: OpenInode, done: (errno: number) => void): void {
    const chunks = open.pending.some((change) => change.kind === 'extent');
    if (!this.#options.storeNeedsSync || !chunks) {
      return done(this.#apply(open, open.pending.length));
    }
    this.#waiting.push({ open, changes: 0, done });
    this.#startBarrier();
  }

  #startBarrier(): void {
    if (this.#barrierRuns || this.#waiting.length === 0) return;
    const commits = this.#waiting;
    this.#waiting = [];
    this.#barrierRuns = true;
    const token = this.#barriers.open(1, (errno) => {
      this.#barrierRuns = false;
      for (const { open, changes, done } of commits) done(errno || this.#apply(open, changes));
      this.#startBarrier();
    });
    for (const commit of commits) commit.changes = commit.open.pending.length;
    this.commands.syncStore(token);
  }

  /** Writes size, mtime and the first pending changes of an inode: 0 or an errno. Within a transaction. */
  #apply(open: OpenInode, count: number): number {
    const writes = this.#slots.writesOf(open.slot);
    if (open.pending.length === 0 && writes === open.committedWrites) return 0;
    const changes = open.pending.splice(0, count);
    open.committedWrites = writes;
    this.#mustFlush = true;
    const { seconds, nanoseconds } = this.#slots.mtimeOf(open.slot);
    const update = { size: this.#slots.sizeOf(open.slot), mtime: { seconds, nanoseconds } };
    const result = this.#tree.applyContent(open.ino, changes, update);
    if (typeof result !== 'number') {
      for (const change of changes) this.#dropInline(change);
      return 0;
    }
    open.pending.unshift(...changes);
    open.committedWrites = -1;
    return result;
  }

  /** Makes the Kv durable after this turn's commit, then calls `done`, outside of any turn. */
  #syncThen(done: (errno: number) => void): void {
    this.#afterCommit.push(() => {
      const ended = (errno: number): void => {
        this.#syncs -= 1;
        done(errno);
        this.#options.wake();
      };
      this.#syncs += 1;
      const changes = this.#changes;
      this.#options.kv.sync().then(
        () => {
          this.#syncedChanges = Math.max(this.#syncedChanges, changes);
          this.#control?.synced();
          ended(0);
        },
        () => ended(constants.errno.EIO),
      );
    });
  }

  /** Whether a sync of the Kv runs, which ends on the event loop. */
  get isSyncing(): boolean {
    return this.#syncs > 0;
  }

  syncTree(request: Request): Outcome {
    const { slot } = request;
    this.#syncThen((errno) => this.#replyLater(slot, errno));
    return PENDING;
  }

  #extent(word: number, slot: number): void {
    const words = this.#words;
    this.#addExtent(slot, {
      offset: doubleAt(words, word + descriptor.OFFSET),
      length: words[word + descriptor.LENGTH],
      chunkLength: words[word + descriptor.A],
      chunkOffset: words[word + descriptor.B],
      id: words.slice(word + descriptor.PAYLOAD, word + descriptor.WORDS),
    });
  }

  #addExtent(slot: number, extent: Extent): void {
    const open = this.#slots.bySlot(slot);
    if (open === undefined) return;
    open.pending.push({ kind: 'extent', extent });
    if (open.pending.length === PENDING_MAX) this.#later(() => this.#commit(open, () => {}));
  }

  #inline(slot: number, bytes: number, worker: number): void {
    this.#setInline(slot, bytes);
    this.#tell(worker, this.#message.begin(kind.INLINED, slot, 0, 0));
  }

  #setInline(slot: number, bytes: number): void {
    const open = this.#slots.bySlot(slot);
    if (open === undefined) return;
    const last = open.pending.at(-1);
    if (last?.kind === 'inline') this.#dropInline(open.pending.pop());
    const content = (this.#inlineBuffers.pop() ?? new Uint8Array(INLINE_BYTES)).subarray(0, bytes);
    content.set(this.#memory.inlineCell(slot, bytes));
    open.pending.push({ kind: 'inline', bytes: content });
  }

  /** The change is in the tree, or void: its bytes can be used again. */
  #dropInline(change: ContentChange | undefined): void {
    if (change?.kind !== 'inline' || this.#inlineBuffers.length === INLINE_BUFFERS) return;
    this.#inlineBuffers.push(new Uint8Array(change.bytes.buffer));
  }

  /** Tells a data worker what a region holds, changes that are not committed yet included. */
  #query(slot: number, offset: number, worker: number): void {
    const open = this.#slots.bySlot(slot);
    const index = Math.floor(offset / REGION_BYTES);
    const stored = open === undefined ? constants.errno.EBADF : this.#tree.region(open.ino, index);
    if (typeof stored === 'number') {
      return this.#tell(worker, this.#message.begin(kind.LOADED, slot, offset, 0).b(stored));
    }
    let inline = 'inline' in stored ? stored.inline : undefined;
    let extents = 'inline' in stored ? [] : stored.extents;
    for (const change of open?.pending ?? []) {
      if (change.kind === 'inline') {
        if (index !== 0) continue;
        inline = change.bytes;
        extents = [];
      } else if (change.kind === 'discard') {
        extents = patchExtents(extents, change);
        if (inline !== undefined && index === 0) inline = discardInline(inline, change);
      } else if (Math.floor(change.extent.offset / REGION_BYTES) === index) {
        extents = patchExtents(extents, change);
        inline = undefined; // A region is one or the other: who stores extents takes the inline bytes along.
      }
    }
    this.#tellRegion(worker, { slot, offset }, inline, extents);
  }

  #tellRegion(
    worker: number,
    at: { slot: number; offset: number },
    inline: Uint8Array | undefined,
    extents: readonly Extent[],
  ): void {
    const { slot, offset } = at;
    for (const extent of extents) {
      const message = this.#message.begin(kind.KNOWN, slot, extent.offset, extent.length);
      this.#tell(worker, message.a(extent.chunkLength).b(extent.chunkOffset).id(extent.id));
    }
    const bytes = inline?.length ?? 0;
    if (inline !== undefined) this.#memory.inlineCell(slot, bytes).set(inline);
    const isInline = inline === undefined ? 0 : 1;
    this.#tell(worker, this.#message.begin(kind.LOADED, slot, offset, bytes).a(isInline));
  }

  #tell(worker: number, message: Message): void {
    this.commands.push(worker, message.words);
  }

  /** Workers that own regions: the data workers, and this thread's own half. */
  get #owners(): number {
    return this.#memory.buffers.dataWorkers + 1;
  }

  /** Sends a descriptor to every worker that owns regions. */
  #tellAll(message: Message): void {
    for (let worker = TREE_WORKER; worker <= this.#memory.buffers.dataWorkers; worker++) {
      this.commands.push(worker, message.words);
    }
  }

  // ---- OpenInodes ----

  open(attributes: Attributes, access: Access): number {
    const open = this.#slots.open(attributes, access.write);
    if (typeof open === 'number') return open;
    if (access.write) this.#armTimer();
    return open.slot;
  }

  release(slot: number, access: Access): void {
    const open = this.#slots.bySlot(slot);
    if (open === undefined) return;
    const last = this.#slots.close(open, access.write);
    if (last && open.forgotten) this.#drop([open]);
    else if (last) this.#armTimer();
  }

  slotOf(ino: number): number {
    return this.#slots.byIno(ino)?.slot ?? -1;
  }

  sizeOf(slot: number): number {
    return this.#slots.sizeOf(slot);
  }

  unsettledOf(slot: number): number {
    return this.#slots.unsettledOf(slot);
  }

  mtimeOf(slot: number): Time {
    return this.#slots.mtimeOf(slot);
  }

  setMtime(slot: number, time: Time): void {
    this.#slots.setMtime(slot, time);
  }

  resize(request: Request, ino: number, patch: AttributesPatch, answer: Answer): Outcome {
    const size = patch.size ?? 0;
    const open = this.#slots.byIno(ino);
    const old = open === undefined ? this.#tree.getattr(ino) : undefined;
    if (typeof old === 'number') return -old;
    const discard: Discard = { kind: 'discard', offset: size, length: Infinity };
    if (open === undefined) {
      const mtime = patch.mtime ?? old?.mtime ?? { seconds: 0, nanoseconds: 0 };
      const errno = errnoOf(this.#tree.applyContent(ino, [discard], { size, mtime }));
      return errno !== 0 ? -errno : this.#changeAttributes(ino, patch, answer);
    }
    const grows = size >= this.#slots.sizeOf(open.slot);
    this.#slots.setSize(open.slot, size);
    if (patch.mtime !== undefined) this.#slots.setMtime(open.slot, patch.mtime);
    open.committedWrites = -1;
    if (grows) this.#commitResize(open, request.slot, patch);
    else this.#shrink(open, discard, request.slot, patch);
    return PENDING;
  }

  allocate(request: Request, ino: number, range: Allocation): Outcome {
    const open = this.#slots.byIno(ino);
    if (open === undefined) return -constants.errno.EBADF;
    const { offset, length, discards, keepsSize } = range;
    const size = this.#slots.sizeOf(open.slot);
    const grows = !keepsSize && offset + length > size;
    if (!discards && !grows) return 0;
    const { slot } = request;
    const finish = (): void => {
      if (grows) this.#slots.setSize(open.slot, offset + length);
      this.#slots.setMtime(open.slot, now());
      open.committedWrites = -1;
      this.#commit(open, (errno) => this.#finish(slot, -errno));
    };
    if (discards) this.#discard(open, { kind: 'discard', offset, length }, finish);
    else finish();
    return PENDING;
  }

  copy(request: Request, range: CopiedRange): Outcome {
    const source = this.#slots.byIno(range.source);
    const target = this.#slots.byIno(range.target);
    if (source === undefined || target === undefined) return -constants.errno.EBADF;
    const { slot } = request;
    const fail = (errno: number): void => this.#finish(slot, -errno);
    const both = source === target ? [source] : [source, target];
    this.#reload(both, (failed) => {
      if (failed !== 0) return fail(failed);
      this.#commitEach(both, (errno) => {
        const copied = errno === 0 ? this.#copyContent(source, target, range) : -errno;
        if (copied <= 0) return copied < 0 ? fail(-copied) : this.#answerCopied(slot, 0);
        this.#commitEach([target], (late) => {
          if (late !== 0) return fail(late);
          // Who read meanwhile has learned what was there before.
          this.#reload([target], (again) =>
            again !== 0 ? fail(again) : this.#answerCopied(slot, copied),
          );
        });
      });
    });
    return PENDING;
  }

  /** Puts the copied range among what is pending of the target: its bytes, or -errno. */
  #copyContent(source: OpenInode, target: OpenInode, range: CopiedRange): number {
    const length = Math.min(range.length, this.#slots.sizeOf(source.slot) - range.from);
    if (length <= 0) return 0;
    const changes = this.#tree.copiedContent({ ...range, length });
    if (typeof changes === 'number') return -changes;
    target.pending.push(...changes);
    const size = Math.max(this.#slots.sizeOf(target.slot), range.to + length);
    this.#slots.setSize(target.slot, size);
    this.#slots.setMtime(target.slot, now());
    target.committedWrites = -1;
    return length;
  }

  #answerCopied(slot: number, bytes: number): void {
    const answer = this.#begin();
    answer.written(bytes);
    this.#finish(slot, answer.length);
  }

  /** Has the workers store what is dirty of these inodes and ask anew for their content; `done` gets the first errno. */
  #reload(inodes: readonly OpenInode[], done: (errno: number) => void): void {
    const token = this.#barriers.open(this.#owners * inodes.length, done);
    for (const open of inodes) {
      this.#slots.forgetStored(open.slot);
      this.#tellAll(this.#message.begin(kind.RELOAD, open.slot, 0, 0).a(token));
    }
  }

  /** Commits these inodes one after the other; `done` gets the first errno, or 0. */
  #commitEach(inodes: readonly OpenInode[], done: (errno: number) => void): void {
    const [first, ...rest] = inodes;
    if (first === undefined) return done(0);
    this.#commit(first, (errno) => (errno !== 0 ? done(errno) : this.#commitEach(rest, done)));
  }

  #commitResize(open: OpenInode, request: number, patch: AttributesPatch): void {
    this.#commit(open, (errno) => {
      const outcome = errno !== 0 ? -errno : this.#changeAttributes(open.ino, patch, this.#begin());
      this.#finish(request, outcome);
    });
  }

  /** Has the data workers discard what is cut off, then commits and answers. */
  #shrink(open: OpenInode, discard: Discard, request: number, patch: AttributesPatch): void {
    this.#discard(open, discard, () => this.#commitResize(open, request, patch));
  }

  /** Has all workers discard a range; `done` runs in the turn in which the last one has. */
  #discard(open: OpenInode, discard: Discard, done: () => void): void {
    // Pending at once, so that nobody is told of the old bytes; and again behind what workers had on its way.
    open.pending.push(discard);
    const token = this.#barriers.open(this.#owners, () => {
      open.pending.push(discard);
      done();
    });
    const message = this.#message.begin(kind.DISCARD, open.slot, discard.offset, 0);
    this.#tellAll(message.a(token).double(discard.length));
  }

  #changeAttributes(ino: number, patch: AttributesPatch, answer: Answer): Outcome {
    const errno = errnoOf(this.#tree.setattr(ino, patch));
    return errno !== 0 ? -errno : this.#operations.answerAttributes(ino, answer);
  }

  unlinked(ino: number): void {
    this.#orphans.add(ino);
  }

  unnamed(ino: number): void {
    this.#orphans.addLinkable(ino);
  }

  isLinkable(ino: number): boolean {
    return this.#orphans.isLinkable(ino);
  }

  linked(ino: number): void {
    this.#orphans.remove(ino);
  }

  forgotten(ino: number): void {
    if (!this.#orphans.remove(ino)) return;
    const open = this.#slots.byIno(ino);
    if (open === undefined) {
      this.#doomed.push(ino);
      this.#options.wake();
      return;
    }
    open.forgotten = true;
    // A closed inode keeps its slot until many are dropped at once.
    if (open.openers === 0) this.#armTimer();
  }

  setPrivileges(slot: number, privileges: number): void {
    this.#slots.setPrivileges(slot, privileges);
  }

  /** A front has seen a WRITE that takes privileges off. */
  #strip(slot: number, privileges: number): void {
    const open = this.#slots.bySlot(slot);
    if (open !== undefined) stripPrivileges(this.#tree, open.ino, privileges);
  }

  // ---- forgetting ----

  #dropClosed(all: boolean): void {
    const drop = this.#slots.closedToDrop(all);
    if (drop.length > 0) this.#drop(drop);
  }

  /** Has the data workers forget inodes that nobody has open, then gives their slots back. */
  #drop(inodes: readonly OpenInode[]): void {
    for (const open of inodes) {
      if (open.dropping) continue;
      open.dropping = true;
      this.#slots.forgetStored(open.slot);
      const { opens } = open;
      const token = this.#barriers.open(this.#owners, () => this.#dropped(open, opens));
      const message = this.#message.begin(kind.DROP, open.slot, 0, 0);
      this.#tellAll(message.a(token).b(open.forgotten ? 1 : 0));
    }
  }

  /** All workers have forgotten the inode: the slot is free, unless somebody opened it again meanwhile. */
  #dropped(open: OpenInode, opens: number): void {
    if (open.forgotten && open.opens === opens) open.pending = [];
    this.#commit(open, (errno) => {
      open.dropping = false;
      if (open.opens !== opens || errno !== 0) return;
      this.#slots.free(open);
      if (open.forgotten) this.#doomed.push(open.ino);
    });
  }

  /** Whether unlinked inodes wait to be deleted. */
  get isReclaiming(): boolean {
    return this.#doomed.length > 0;
  }

  /** Deletes a bounded part of what unlinked inodes leave behind. True: there is more to do. */
  reclaimSome(): boolean {
    const ino = this.#doomed.at(-1);
    if (ino === undefined) return false;
    this.#tree.transact(() => {
      for (let i = 0; i < RECLAIM_INODES; i++) {
        const next = this.#doomed.at(-1);
        if (next === undefined) break;
        if (this.#tree.reclaim(next)) this.#doomed.pop();
      }
    });
    return this.#doomed.length > 0;
  }

  // ---- the clock, and the end ----

  /** Runs `task` in a turn of its own, soon. */
  #later(task: () => void): void {
    setImmediate(() => {
      this.#outOfTurn(task);
    });
  }

  /** Runs `task` as a turn without descriptors. */
  #outOfTurn(task: () => void): void {
    // Answers of the last turn may not be sent yet: the out buffer is left as it is.
    this.#commitReplies.length = 0;
    this.#afterCommit = [];
    this.#transact(task);
    for (const done of this.#afterCommit) done();
    this.#options.wake();
  }

  /** The tree has changed: it is made durable in a while, if nobody asks for it. */
  #noteChange(): void {
    this.#changes += 1;
    if (this.#timer === undefined && this.#options.commitIntervalMs > 0) this.#armTimer();
  }

  get isDirty(): boolean {
    return this.#changes !== this.#syncedChanges || this.countInodes().dirty > 0;
  }

  countInodes(): { open: number; dirty: number } {
    const counts = { open: 0, dirty: 0 };
    for (const open of this.#slots.all()) {
      if (open.openers > 0) counts.open += 1;
      if (this.#slots.isDirty(open)) counts.dirty += 1;
    }
    return counts;
  }

  /** Whether a hash of a tree is being made. */
  get isHashing(): boolean {
    return this.#control?.isHashing === true;
  }

  /** Goes on with the hash of a tree, for a moment; true: there is more to do now. */
  hashSome(): boolean {
    return this.#control?.hashSome() === true;
  }

  #armTimer(): void {
    if (this.#timer !== undefined || this.#stopped) return;
    const period = this.#options.commitIntervalMs > 0 ? this.#options.commitIntervalMs : 5000;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#onTimer();
    }, period);
  }

  #onTimer(): void {
    let writers = false;
    let dirty = this.#changes !== this.#syncedChanges;
    for (const open of this.#slots.all()) {
      if (open.writers > 0) writers = true;
      if (this.#slots.isDirty(open)) dirty = true;
    }
    this.#outOfTurn(() => this.#dropClosed(true));
    if (dirty && this.#options.commitIntervalMs > 0) this.commitAll(() => {});
    if (writers || dirty) this.#armTimer();
  }

  /** Settles and commits everything, makes it durable, then calls `done` with the first errno or 0. */
  commitAll(done: (errno: number) => void): void {
    this.#outOfTurn(() => this.settleAll(done));
  }

  settleAll(done: (errno: number) => void): void {
    const ended = (errno: number): void => {
      this.#control?.committed(errno);
      done(errno);
    };
    const token = this.#barriers.open(this.#owners, (failed) => {
      let remaining = 1;
      let first = failed;
      const one = (errno: number): void => {
        first ||= errno;
        remaining -= 1;
        if (remaining === 0) this.#syncThen((late) => ended(first || late));
      };
      for (const open of [...this.#slots.all()]) {
        if (!this.#slots.isDirty(open)) continue;
        remaining += 1;
        this.#commit(open, (errno) => {
          if (failed !== 0) this.#slots.keepDirty(open);
          one(errno);
        });
      }
      one(0);
    });
    this.#tellAll(this.#message.begin(kind.SETTLE_ALL, NONE, 0, 0).a(token));
  }

  /** Inodes whose data or attributes are not stored; what an operator is told when a drain fails. */
  dirtyInodes(): number[] {
    const inodes: number[] = [];
    for (const open of this.#slots.all()) {
      if (this.#slots.isDirty(open) && !this.#hasNoName(open)) inodes.push(open.ino);
    }
    return inodes;
  }

  #hasNoName(open: OpenInode): boolean {
    return open.forgotten || this.#orphans.has(open.ino);
  }

  /** Stops the clock and asks for the end of the turns. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  get isStopped(): boolean {
    return this.#stopped;
  }
}

function now(): Time {
  const milliseconds = Date.now();
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanoseconds: (milliseconds - seconds * 1000) * 1e6 };
}

function errnoOf(result: object | number): number {
  return typeof result === 'number' ? result : 0;
}

/** Whether the store takes it; what is no error of the store is thrown. */
function succeeds(write: () => void): boolean {
  try {
    write();
    return true;
  } catch (error) {
    if (!isStoreError(error)) throw error;
    return false;
  }
}

function isStoreError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'STORE_IO';
}

/** Inline bytes after a discard: cut off, or zeroed where bytes follow. */
function discardInline(inline: Uint8Array, change: { offset: number; length: number }): Uint8Array {
  const end = change.offset + change.length;
  if (change.offset >= inline.length) return inline;
  if (end >= inline.length) return inline.slice(0, change.offset);
  const rest = inline.slice();
  rest.fill(0, change.offset, end);
  return rest;
}
