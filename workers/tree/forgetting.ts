/**
 * Ends the life of what nobody needs: slots of closed inodes, and all records of inodes without a name.
 *
 *     last close ─► closed ─► drop: workers forget ─► the slot is free ─┬► (has a name: it stays in the tree)
 *     FORGET of an orphan, not open ────────────────────────────────────┴► doomed ─► reclaimed when there is time
 */
import { kind } from '../../engine/layout.ts';
import type { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import type { Tree } from '../../engine/tree/tree.ts';
import { Message } from '../commands.ts';
import type { Clock } from './clock.ts';
import type { Commits } from './commits.ts';
import type { Orphans } from './orphans.ts';
import type { Owners } from './owners.ts';
import type { OpenInode, Slots } from './slots.ts';
import { REMOVED_KEYS_MAX } from './turn.ts';

/** Inodes that are deleted in one transaction: small commits keep LMDB's list of free pages short. */
const RECLAIM_INODES = 16;

/** What a {@link Forgetting} is made of. */
interface Parts {
  kv: Pick<BufferedKv, 'isFull' | 'isFailing' | 'size'>;
  tree: Tree;
  slots: Slots;
  orphans: Orphans;
  commits: Commits;
  owners: Owners;
  clock: Clock;
  /** Asks for a turn soon. */
  wake(): void;
}

/** Inodes on their way out. Threads: the tree worker's own. */
export class Forgetting {
  readonly #kv: Parts['kv'];
  readonly #tree: Tree;
  readonly #slots: Slots;
  readonly #orphans: Orphans;
  readonly #commits: Commits;
  readonly #owners: Owners;
  readonly #clock: Clock;
  readonly #wake: () => void;
  readonly #message = new Message();
  /** Inodes without a name and a holder whose records are deleted bit by bit. */
  readonly #doomed: number[] = [];
  /** Inodes without a name or a holder that still have a slot. */
  readonly #forgotten = new Set<OpenInode>();

  /** Begins with the orphans that the last mount left. */
  constructor(parts: Parts) {
    this.#kv = parts.kv;
    this.#tree = parts.tree;
    this.#slots = parts.slots;
    this.#orphans = parts.orphans;
    this.#commits = parts.commits;
    this.#owners = parts.owners;
    this.#clock = parts.clock;
    this.#wake = parts.wake;
    this.#tree.orphans((ino) => {
      this.#doomed.push(ino);
      return true;
    });
  }

  // ---- who lets go ----

  /** Nobody has the inode open any more. */
  closed(open: OpenInode): void {
    // A closed inode keeps its slot until many are dropped at once, unless nobody can open it again.
    if (open.forgotten) this.#drop([open]);
    else this.#clock.arm();
  }

  /** The kernel holds the inode no longer; means nothing for an inode that has a name. */
  forgotten(ino: number): void {
    if (!this.#orphans.remove(ino)) return;
    const open = this.#slots.byIno(ino);
    if (open === undefined) {
      this.#doomed.push(ino);
      this.#wake();
      return;
    }
    open.forgotten = true;
    this.#forgotten.add(open);
    if (open.openers === 0) this.#clock.arm();
  }

  /** Whether what the inode contains does not matter to anybody who comes later. */
  hasNoName(open: OpenInode): boolean {
    return open.forgotten || this.#orphans.has(open.ino);
  }

  // ---- slots ----

  /** Gives up closed inodes: the oldest when there are too many, or all of them. */
  dropClosed(all: boolean): void {
    const drop = this.#slots.closedToDrop(all);
    if (drop.length > 0) this.#drop(drop);
  }

  /** Gives up closed inodes that nobody can open again. */
  dropForgotten(): void {
    this.#drop([...this.#forgotten].filter(({ openers }) => openers === 0));
  }

  /** Has the data workers forget inodes that nobody has open, then gives their slots back. */
  #drop(inodes: readonly OpenInode[]): void {
    for (const open of inodes) {
      if (open.dropping) continue;
      open.dropping = true;
      this.#slots.forgetStored(open.slot);
      const { opens } = open;
      const token = this.#owners.expect(1, () => this.#dropped(open, opens));
      const message = this.#message.begin(kind.DROP, open.slot, 0, 0);
      this.#owners.tell(message.a(token).b(open.forgotten ? 1 : 0));
    }
  }

  /** All workers have forgotten the inode: the slot is free, unless somebody opened it again meanwhile. */
  #dropped(open: OpenInode, opens: number): void {
    if (open.forgotten && open.opens === opens) open.pending = [];
    this.#commits.commit(open, (errno) => {
      open.dropping = false;
      if (open.opens !== opens || errno !== 0) return;
      if (!this.#slots.free(open)) this.#clock.arm();
      else if (this.#forgotten.delete(open)) this.#doomed.push(open.ino);
    });
  }

  // ---- records ----

  /** Whether unlinked inodes wait to be deleted. */
  get isReclaiming(): boolean {
    return this.#doomed.length > 0;
  }

  /** Whether anything is on its way out, whose content is garbage soon. */
  get isUnderWay(): boolean {
    return this.isReclaiming || this.#forgotten.size > 0;
  }

  /** Deletes a bounded part of what unlinked inodes leave behind. True: there is more to do. */
  reclaimSome(): boolean {
    if (this.#doomed.length === 0) return false;
    // What the tree's file does not take waits in memory and in the log, both of which are bounded.
    if (this.#kv.isFailing && this.#kv.size >= REMOVED_KEYS_MAX) return false;
    this.#tree.transact(() => {
      for (let i = 0; i < RECLAIM_INODES; i++) {
        const next = this.#doomed.at(-1);
        if (next === undefined) break;
        if (this.#tree.reclaim(next)) this.#doomed.pop();
        // What is changed more would be part of the same commit, for which there must be room.
        if (this.#kv.isFull) break;
      }
    });
    return this.#doomed.length > 0;
  }
}
