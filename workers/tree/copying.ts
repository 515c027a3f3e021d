/**
 * Copies ranges between open files by naming the same chunks twice.
 *
 *     reload: workers store what is dirty ─► commit both ─► the range becomes pending of the target ─► commit ─► reload
 */
import { constants } from 'node:os';
import { kind } from '../../engine/layout.ts';
import type { CopiedRange } from '../../engine/tree/copy.ts';
import type { Tree } from '../../engine/tree/tree.ts';
import type { ContentChange } from '../../engine/tree/types.ts';
import { Message } from '../commands.ts';
import type { Commits } from './commits.ts';
import { systemTime } from './context.ts';
import type { Owners } from './owners.ts';
import { type Outcome, PENDING, type Request } from './request.ts';
import type { OpenInode, Slots } from './slots.ts';
import type { Turn } from './turn.ts';

/** Who waits until copies have ended, by their request slots. */
interface Waiter {
  readonly running: Set<number>;
  readonly done: () => void;
}

/** What a {@link Copying} is made of. */
interface Parts {
  tree: Tree;
  slots: Slots;
  turn: Turn;
  commits: Commits;
  owners: Owners;
  /** Told of references that come to be in a second place. */
  copied(changes: readonly ContentChange[]): void;
}

/** Requests that copy ranges. Threads: the tree worker's own. */
export class Copying {
  readonly #tree: Tree;
  readonly #slots: Slots;
  readonly #turn: Turn;
  readonly #commits: Commits;
  readonly #owners: Owners;
  readonly #copied: Parts['copied'];
  readonly #message = new Message();
  /** Request slots of copies that have not ended. */
  readonly #running = new Set<number>();
  #waiters: Waiter[] = [];

  constructor(parts: Parts) {
    this.#tree = parts.tree;
    this.#slots = parts.slots;
    this.#turn = parts.turn;
    this.#commits = parts.commits;
    this.#owners = parts.owners;
    this.#copied = parts.copied;
  }

  /** Calls `done` when no copy runs any more that runs now: from then on workers know what it has changed. */
  afterRunning(done: () => void): void {
    if (this.#running.size === 0) done();
    else this.#waiters.push({ running: new Set(this.#running), done });
  }

  #ended(slot: number): void {
    this.#running.delete(slot);
    if (this.#waiters.length === 0) return;
    for (const { running } of this.#waiters) running.delete(slot);
    const over = this.#waiters.filter(({ running }) => running.size === 0);
    this.#waiters = this.#waiters.filter(({ running }) => running.size > 0);
    for (const { done } of over) done();
  }

  /** As `OpenInodes.copy`. */
  copy(request: Request, range: CopiedRange): Outcome {
    const source = this.#slots.byIno(range.source);
    const target = this.#slots.byIno(range.target);
    if (source === undefined || target === undefined) return -constants.errno.EBADF;
    const { slot } = request;
    this.#running.add(slot);
    const fail = (errno: number): void => {
      this.#turn.finish(slot, -errno);
      this.#ended(slot);
    };
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
    const copied = this.#tree.copiedContent({ ...range, length });
    if (typeof copied === 'number') return -copied;
    this.#copied(copied.changes);
    for (const change of copied.changes) target.pending.push(change);
    const size = Math.max(this.#slots.sizeOf(target.slot), range.to + copied.length);
    this.#slots.setSize(target.slot, size);
    this.#slots.setMtime(target.slot, systemTime());
    target.committedWrites = -1;
    return copied.length;
  }

  #answerCopied(slot: number, bytes: number): void {
    const answer = this.#turn.answer();
    answer.written(bytes);
    this.#turn.finish(slot, answer.length);
    this.#ended(slot);
  }

  /** Has the workers store what is dirty of these inodes and ask anew for their content; `done` gets the first errno. */
  #reload(inodes: readonly OpenInode[], done: (errno: number) => void): void {
    const token = this.#owners.expect(inodes.length, done);
    for (const open of inodes) {
      this.#slots.forgetStored(open.slot);
      this.#owners.tell(this.#message.begin(kind.RELOAD, open.slot, 0, 0).a(token));
    }
  }

  /** Commits these inodes one after the other; `done` gets the first errno, or 0. */
  #commitEach(inodes: readonly OpenInode[], done: (errno: number) => void): void {
    const [first, ...rest] = inodes;
    if (first === undefined) return done(0);
    this.#commits.commit(first, (errno) =>
      errno !== 0 ? done(errno) : this.#commitEach(rest, done),
    );
  }
}
