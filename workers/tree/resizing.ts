/** Changes sizes and makes holes: truncate, fallocate. Data workers discard first, then the tree learns of it. */
import { constants } from 'node:os';
import { kind, REGION_BYTES } from '../../engine/layout.ts';
import { REGION_EXTENTS_MAX } from '../../engine/limits.ts';
import type { Tree } from '../../engine/tree/tree.ts';
import type { AttributesPatch, ContentChange } from '../../engine/tree/types.ts';
import { Message } from '../commands.ts';
import type { Answer } from './answer.ts';
import type { Commits } from './commits.ts';
import { systemTime } from './context.ts';
import type { Allocation } from './open-inodes.ts';
import type { Owners } from './owners.ts';
import { type Outcome, PENDING, type Request } from './request.ts';
import type { OpenInode, Slots } from './slots.ts';
import type { Turn } from './turn.ts';

type Discard = Extract<ContentChange, { kind: 'discard' }>;

/** What a {@link Resizing} is made of. */
interface Parts {
  tree: Tree;
  slots: Slots;
  turn: Turn;
  commits: Commits;
  owners: Owners;
  /** Writes the answer of a SETATTR. */
  answerAttributes(ino: number, answer: Answer): Outcome;
}

/** Requests that change sizes or discard ranges. Threads: the tree worker's own. */
export class Resizing {
  readonly #tree: Tree;
  readonly #slots: Slots;
  readonly #turn: Turn;
  readonly #commits: Commits;
  readonly #owners: Owners;
  readonly #answerAttributes: Parts['answerAttributes'];
  readonly #message = new Message();

  constructor(parts: Parts) {
    this.#tree = parts.tree;
    this.#slots = parts.slots;
    this.#turn = parts.turn;
    this.#commits = parts.commits;
    this.#owners = parts.owners;
    this.#answerAttributes = parts.answerAttributes;
  }

  /** As `OpenInodes.resize`. */
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
    const { slot } = request;
    const grows = size >= this.#slots.sizeOf(open.slot);
    this.#slots.setSize(open.slot, size);
    if (patch.mtime !== undefined) this.#slots.setMtime(open.slot, patch.mtime);
    open.committedWrites = -1;
    if (grows) this.#commit(open, slot, patch);
    else this.#discard(open, discard, () => this.#commit(open, slot, patch));
    return PENDING;
  }

  /** As `OpenInodes.allocate`. */
  allocate(request: Request, ino: number, range: Allocation): Outcome {
    const open = this.#slots.byIno(ino);
    if (open === undefined) return -constants.errno.EBADF;
    const { offset, length, discards, keepsSize } = range;
    const size = this.#slots.sizeOf(open.slot);
    const grows = !keepsSize && offset + length > size;
    if (!discards && !grows) return 0;
    // More holes than a list of extents should have: zeros can be written, and then it becomes shorter.
    if (discards && this.#isCrowded(open, offset, offset + length)) {
      return -constants.errno.EOPNOTSUPP;
    }
    const { slot } = request;
    const finish = (): void => {
      if (grows) this.#slots.setSize(open.slot, offset + length);
      this.#slots.setMtime(open.slot, systemTime());
      open.committedWrites = -1;
      this.#commits.commit(open, (errno) => this.#turn.finish(slot, -errno));
    };
    if (discards) this.#discard(open, { kind: 'discard', offset, length }, finish);
    else finish();
    return PENDING;
  }

  /** Whether a region of which the range takes a part has so many extents that no hole may split one more. */
  #isCrowded(open: OpenInode, offset: number, end: number): boolean {
    return [offset, end].some((border) => {
      if (border % REGION_BYTES === 0) return false;
      const index = Math.floor(border / REGION_BYTES);
      const stored = this.#tree.region(open.ino, index);
      let extents = typeof stored === 'object' && 'extents' in stored ? stored.extents.length : 0;
      for (const change of open.pending) {
        const isElsewhere =
          change.kind === 'extent' && Math.floor(change.extent.offset / REGION_BYTES) !== index;
        if (!isElsewhere) extents += 1;
      }
      return extents >= REGION_EXTENTS_MAX;
    });
  }

  /** Commits the new size, changes the other attributes and answers. */
  #commit(open: OpenInode, request: number, patch: AttributesPatch): void {
    const turn = this.#turn;
    this.#commits.commit(open, (errno) => {
      if (errno !== 0) return turn.finish(request, -errno);
      turn.finish(request, this.#changeAttributes(open.ino, patch, turn.answer()));
    });
  }

  #changeAttributes(ino: number, patch: AttributesPatch, answer: Answer): Outcome {
    const errno = errnoOf(this.#tree.setattr(ino, patch));
    return errno !== 0 ? -errno : this.#answerAttributes(ino, answer);
  }

  /** Has all workers discard a range; `done` runs in the turn in which the last one has. */
  #discard(open: OpenInode, discard: Discard, done: () => void): void {
    // Pending at once, so that nobody is told of the old bytes; and again behind what workers had on its way.
    open.pending.push(discard);
    open.underWay += 1;
    const token = this.#owners.expect(1, () => {
      open.underWay -= 1;
      open.pending.push(discard);
      done();
    });
    const message = this.#message.begin(kind.DISCARD, open.slot, discard.offset, 0);
    this.#owners.tell(message.a(token).double(discard.length));
  }
}

function errnoOf(result: object | number): number {
  return typeof result === 'number' ? result : 0;
}
