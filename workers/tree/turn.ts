/**
 * What one turn of the tree worker collects, and what becomes of it when its transaction ends.
 *
 *     begin ─► answer, finish, reply … ─► the transaction ─► flush, where something must survive ─► end: afterCommit
 *                                                                  └─► refused: held replies become EIO
 *
 * Answers are written into the out buffer and as commands; both leave with the next `poll`, after the end of the turn, or
 * earlier where commands become many. What must not leave before the flush becomes a command after it.
 */
import { constants } from 'node:os';
import type { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import { OUT_BYTES } from '../../engine/layout.ts';
import type { Tree } from '../../engine/tree/tree.ts';
import type { Commands } from '../commands.ts';
import { Answer } from './answer.ts';
import type { Clock } from './clock.ts';
import { type Outcome, PENDING } from './request.ts';

/** Room that every answer must have; a turn with less is ended early. */
const ANSWER_ROOM = 1 << 20;
/** Keys of removals that may wait for a tree's file that takes nothing: what they leave may be what makes room. */
export const REMOVED_KEYS_MAX = 1024;

/** A reply that is sent when what it tells of is flushed. */
interface HeldReply {
  readonly request: number;
  readonly errno: number;
  /** Where its data lies in the out buffer. */
  readonly offset: number;
  readonly bytes: number;
}

/** The turn that is taken now, or was taken last. Threads: the tree worker's own. */
export class Turn {
  readonly #commands: Commands;
  readonly #kv: BufferedKv;
  readonly #tree: Tree;
  readonly #clock: Clock;
  readonly #wake: () => void;
  readonly #answer: Answer;
  #outUsed = 0;
  /** Replies of this turn that wait for its flush. No command may name them before: it could be executed any time. */
  #held: HeldReply[] = [];
  #mustFlush = false;
  #isTransacting = false;
  #isFailing = false;
  #isShort = false;
  #afterCommit: (() => void)[] = [];
  #changes = 0;
  /** The Kv's count of changes when a turn was counted last. */
  #noted = 0;

  /** `wake` asks for a turn soon. */
  constructor(
    commands: Commands,
    parts: { kv: BufferedKv; tree: Tree; clock: Clock; wake: () => void },
  ) {
    this.#commands = commands;
    this.#kv = parts.kv;
    this.#tree = parts.tree;
    this.#clock = parts.clock;
    this.#wake = parts.wake;
    this.#answer = new Answer(commands.out);
  }

  // ---- its course ----

  /** Starts a turn: the answers of the last one have left. */
  begin(): void {
    this.#outUsed = 0;
    this.#afterCommit = [];
    // While the Kv cannot be written, nothing may be added to what it holds back (invariant 5).
    this.#isFailing = this.#kv.isFailing && !this.writeBack();
    this.#isShort = this.#kv.isShort;
  }

  /** Whether the turn may serve one more descriptor; its changes are one commit of the Kv below, which needs room. */
  get hasRoom(): boolean {
    const isWide = !this.#kv.isFailing && this.#kv.isFull;
    return !isWide && this.#commands.hasRoom && OUT_BYTES - this.#outUsed >= ANSWER_ROOM;
  }

  /**
   * Whether a mutation gets ENOSPC in this turn. One that `removes` does not while there is room for commits that make
   * more of it, nor while the log alone can take some: garbage can be collected then.
   */
  refuses(removes: boolean): boolean {
    if (!this.#isFailing) return this.#isShort && !removes;
    return !removes || this.#kv.size >= REMOVED_KEYS_MAX;
  }

  /** Whether the tree's file has no room for more than removals. */
  get isShort(): boolean {
    return this.#isFailing || this.#isShort;
  }

  /** Runs `body` in one transaction, and flushes it when something in it must survive. */
  transact(body: () => void): void {
    this.#isTransacting = true;
    try {
      this.#tree.transact(body);
    } finally {
      this.#isTransacting = false;
    }
    // A transaction that is large is written back at its end, and is not durable for that.
    if (this.#kv.changeCount !== this.#noted) this.#noteChange();
    const isKept = !this.#mustFlush || this.flush();
    this.#mustFlush = false;
    this.#sendHeld(isKept ? 0 : constants.errno.EIO);
  }

  #sendHeld(failed: number): void {
    if (this.#held.length === 0) return;
    for (const { request, errno, offset, bytes } of this.#held) {
      this.#commands.reply(request, failed || errno, offset, bytes);
    }
    this.#held = [];
  }

  get isTransacting(): boolean {
    return this.#isTransacting;
  }

  /** Does what waits for the turn's transaction to be committed. */
  end(): void {
    for (const done of this.#afterCommit) done();
  }

  /** Runs `task` as a turn without descriptors. Must not be called within a turn. */
  runAlone(task: () => void): void {
    // Answers of the last turn may not be sent yet: the out buffer is left as it is.
    this.#afterCommit = [];
    this.transact(task);
    this.end();
    this.#wake();
  }

  /** Runs `task` in a turn of its own, soon. */
  later(task: () => void): void {
    setImmediate(() => {
      this.runAlone(task);
    });
  }

  /** Has `task` run when the turn's transaction is committed. */
  afterCommit(task: () => void): void {
    this.#afterCommit.push(task);
  }

  // ---- what survives ----

  /** What this turn changes must survive the end of the process: it is flushed before answers are sent. */
  flushAtEnd(): void {
    this.#mustFlush = true;
  }

  /** Makes all changes of the tree so far survive the end of the process. False: the store refuses; they are kept. */
  flush(): boolean {
    return succeeds(() => this.#kv.flush());
  }

  /** Writes all changes of the tree so far where they belong. False: the store refuses; they are kept. */
  writeBack(): boolean {
    return succeeds(() => this.#kv.writeBack());
  }

  /** Whether changes of the tree wait to be written where they belong. */
  get isCollecting(): boolean {
    return this.#kv.size > 0;
  }

  /** Counts turns that changed the tree. */
  get changes(): number {
    return this.#changes;
  }

  /** The tree has changed: it is made durable in a while, if nobody asks for it. */
  #noteChange(): void {
    this.#noted = this.#kv.changeCount;
    this.#changes += 1;
    if (this.#clock.commits) this.#clock.arm();
  }

  // ---- answers ----

  /** Where the next answer is written; the object is only valid until the next call. */
  answer(): Answer {
    return this.#answer.begin(this.#outUsed, OUT_BYTES);
  }

  /** Answers a request as its outcome says: with what was written to `answer`, with an errno, or not yet. */
  finish(request: number, outcome: Outcome): void {
    if (outcome === PENDING) return;
    if (outcome < 0) return this.reply(request, -outcome);
    this.#commands.reply(request, 0, outcome > 0 ? this.#outUsed : 0, outcome);
    this.#outUsed += Math.ceil(outcome / 8) * 8;
  }

  /** The same, but once the turn is flushed; with EIO where it must be and cannot. */
  finishFlushed(request: number, outcome: Outcome): void {
    if (!this.#isTransacting) return this.finish(request, outcome);
    if (outcome === PENDING) return;
    const [errno, bytes] = outcome < 0 ? [-outcome, 0] : [0, outcome];
    this.#held.push({ request, errno, offset: bytes > 0 ? this.#outUsed : 0, bytes });
    this.#outUsed += Math.ceil(bytes / 8) * 8;
  }

  /** Answers a request with an errno, or 0 and no data; outside of a turn as well, as when a sync has ended. */
  reply(request: number, errno: number): void {
    this.#commands.reply(request, errno);
  }

  /** Answers a request outside of a turn, with what `write` writes. */
  answerLater(request: number, write: (answer: Answer) => Outcome): void {
    // Once the commands are executed, the answers of the last turn have left the out buffer.
    if (this.#commands.position === 0) this.#outUsed = 0;
    this.finish(request, write(this.answer()));
    this.#wake();
  }
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
