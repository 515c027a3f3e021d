/**
 * Answers who waits until content is safe: FLUSH and FSYNC of a file, a sync of the tree, a commit of everything.
 *
 * *Committed* is what is in the tree and survives the end of the process; *durable* is what survives the end of the
 * host. A FLUSH waits for the first, an FSYNC for both (`engine/kv/write-ahead-log.ts`).
 */
import { constants } from 'node:os';
import { OPCODE } from '../../engine/fuse-protocol.ts';
import type { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import { kind, NONE, request as requestCell } from '../../engine/layout.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import { Message } from '../commands.ts';
import type { Commits } from './commits.ts';
import type { Owners } from './owners.ts';
import { type Outcome, PENDING, type Request } from './request.ts';
import type { Slots } from './slots.ts';
import type { Turn } from './turn.ts';

/** Who else wants to know. */
interface Listeners {
  /** What was written is in the tree: the LSEEK in a request slot can be answered. */
  seek(request: number): void;
  /** A commit of everything has ended. */
  committed(errno: number): void;
  /** The tree has been made durable. */
  synced(): void;
  /** Has `then` run in a turn when room has been made in a full store; false: there will be none. */
  roomMade(then: () => void): boolean;
  /** Asks for a turn soon. */
  wake(): void;
}

/** What a {@link Durability} is made of. */
interface Parts {
  kv: BufferedKv;
  slots: Slots;
  turn: Turn;
  commits: Commits;
  owners: Owners;
}

/** Commits and syncs that somebody waits for. Threads: the tree worker's own. */
export class Durability {
  readonly #memory: SharedMemory;
  readonly #kv: BufferedKv;
  readonly #slots: Slots;
  readonly #turn: Turn;
  readonly #commits: Commits;
  readonly #owners: Owners;
  readonly #listeners: Listeners;
  readonly #message = new Message();
  #syncs = 0;
  /** The turn's count of changes at the last sync. */
  #syncedChanges = 0;

  constructor(memory: SharedMemory, parts: Parts, listeners: Listeners) {
    this.#memory = memory;
    this.#kv = parts.kv;
    this.#slots = parts.slots;
    this.#turn = parts.turn;
    this.#commits = parts.commits;
    this.#owners = parts.owners;
    this.#listeners = listeners;
  }

  // ---- one file ----

  /** FLUSH, FSYNC and LSEEK arrive here when all data workers have settled their part. */
  commitRequest(slot: number, request: number): void {
    const failed = this.#memory.words[this.#memory.requestWord(request, requestCell.ERRNO)];
    this.#settledFor(slot, request, failed);
  }

  /** The same when the only worker that was asked is this thread itself; false: not now, there is no transaction. */
  commitAtOnce(slot: number, request: number, failed: number): boolean {
    if (!this.#turn.isTransacting) return false;
    this.#settledFor(slot, request, failed);
    return true;
  }

  #settledFor(slot: number, request: number, failed: number): void {
    this.#untilInVain(failed, (errno) => this.#commitFor(slot, request, errno));
  }

  /**
   * Calls `done` with what settles have ended with. Where the store is full they are tried again when it has room, for as
   * long as any is made.
   */
  #untilInVain(failed: number, done: (errno: number) => void): void {
    const again = (): void => this.#settle((late) => this.#untilInVain(late, done));
    if (failed === constants.errno.ENOSPC && this.#listeners.roomMade(again)) return;
    done(failed);
  }

  /** Has everything settled that is dirty. */
  #settle(done: (errno: number) => void): void {
    const token = this.#owners.expect(1, done);
    this.#owners.tell(this.#message.begin(kind.SETTLE_ALL, NONE, 0, 0).a(token));
  }

  #commitFor(slot: number, request: number, failed: number): void {
    const turn = this.#turn;
    const opcode = this.#memory.words[this.#memory.requestWord(request, requestCell.OPCODE)];
    const isSync = opcode === OPCODE.FSYNC;
    const open = this.#slots.bySlot(slot);
    if (open === undefined) return turn.reply(request, failed || constants.errno.EBADF);
    if (this.#kv.isUnflushed) turn.flushAtEnd();
    this.#commits.commit(open, (errno) => {
      const result = failed || errno;
      if (failed !== 0) this.#slots.keepDirty(open);
      if (result === 0) this.#slots.settled(open);
      if (opcode === OPCODE.LSEEK && result === 0) this.#listeners.seek(request);
      else if (isSync && result === 0) this.#syncThen((late) => turn.reply(request, late));
      else turn.finishFlushed(request, -result);
    });
  }

  // ---- the tree ----

  /** Makes every change of the tree so far durable, then answers the request with no data. */
  syncTree({ slot }: Request): Outcome {
    this.#syncThen((errno) => this.#turn.reply(slot, errno));
    return PENDING;
  }

  /** Makes the Kv durable after this turn's commit, then calls `done`: at once, or outside of any turn. */
  #syncThen(done: (errno: number) => void): void {
    this.#turn.afterCommit(() => {
      if (this.#kv.syncsAtOnce) return done(this.#syncAtOnce());
      const ended = (errno: number): void => {
        this.#syncs -= 1;
        done(errno);
        this.#listeners.wake();
      };
      this.#syncs += 1;
      const { changes } = this.#turn;
      this.#kv.sync().then(
        () => {
          this.#syncedChanges = Math.max(this.#syncedChanges, changes);
          this.#listeners.synced();
          ended(0);
        },
        () => ended(constants.errno.EIO),
      );
    });
  }

  /** Where nothing survives the host, what survives the process is as durable as it gets; the errno. */
  #syncAtOnce(): number {
    if (!this.#turn.flush()) return constants.errno.EIO;
    this.#syncedChanges = this.#turn.changes;
    this.#listeners.synced();
    return 0;
  }

  /** Whether a sync of the Kv runs, which ends on the event loop. */
  get isSyncing(): boolean {
    return this.#syncs > 0;
  }

  /** Whether the tree has changed since it was made durable. */
  get isTreeDirty(): boolean {
    return this.#turn.changes !== this.#syncedChanges;
  }

  // ---- everything ----

  /** Settles and commits everything, makes it durable, then calls `done` with the first errno or 0. */
  commitAll(done: (errno: number) => void): void {
    this.#turn.runAlone(() => this.settleAll(done));
  }

  /** The same within a turn. */
  settleAll(done: (errno: number) => void): void {
    const ended = (errno: number): void => {
      this.#listeners.committed(errno);
      done(errno);
    };
    this.#gather((errno) => this.#syncThen((late) => ended(errno || late)));
  }

  /** Settles everything and brings it into the tree, but not to the disk; then calls `done` with the first errno or 0. */
  gatherAll(done: (errno: number) => void): void {
    this.#turn.runAlone(() => this.#gather(done));
  }

  /** Brings into the tree what was settled so far, for when some owner of regions will never answer. */
  gatherSettled(done: (errno: number) => void): void {
    this.#turn.runAlone(() => this.#commitDirty(0, done));
  }

  #gather(done: (errno: number) => void): void {
    this.#settle((failed) => {
      this.#untilInVain(failed, (errno) => this.#commitDirty(errno, done));
    });
  }

  /** Commits every inode that is dirty; `failed` is what its settles have ended with. */
  #commitDirty(failed: number, done: (errno: number) => void): void {
    let remaining = 1;
    let first = failed;
    const one = (errno: number): void => {
      first ||= errno;
      remaining -= 1;
      if (remaining === 0) done(first);
    };
    for (const open of [...this.#slots.all()]) {
      if (!this.#slots.isDirty(open)) continue;
      remaining += 1;
      this.#commits.commit(open, (errno) => {
        if (failed !== 0) this.#slots.keepDirty(open);
        one(errno);
      });
    }
    one(0);
  }
}
