/**
 * Collects garbage while the mount is used: deletes chunks that nothing refers to.
 *
 *     files without a name that nobody holds are deleted
 *       ─► begin: the store keeps what is put or found present from now on
 *       ─► movers have done what they had ─► workers have told of it      all of before is pending, or in the tree
 *       ─► mark: what is pending, then the tree, in steps                 all that is needed is kept
 *       ─► sync of the tree                    no loss of power brings back what refers to something else
 *       ─► workers know what the tree knows ─► movers have done their READs         nobody reads anything else
 *       ─► sweep, on another thread ─► end
 *
 * Why what is needed is kept, at any time between mark and end: a reference in the tree or on its way there was made by
 * a put or a dedup hit since the beginning, which the store keeps; or by a copy, which keeps it here; or it was there
 * when the mark began, and it is in the same place since (no operation but a copy moves one), where the mark has seen
 * it. `test/tree/collection-model.test.ts` goes through all orders, and shows what each step is for.
 */
import { getSystemErrorName } from 'node:util';
import { pass } from '../../engine/kill-points.ts';
import type { Kv } from '../../engine/kv/kv.ts';
import { kind, NONE } from '../../engine/layout.ts';
import type { ReferenceScan } from '../../engine/tree/references.ts';
import type { Tree } from '../../engine/tree/tree.ts';
import type { ContentChange } from '../../engine/tree/types.ts';
import type { Collection } from '../collection.ts';
import { type Commands, Message } from '../commands.ts';
import type { CollectionOutcome } from '../task.ts';
import type { Barriers } from './barrier.ts';
import type { Owners } from './owners.ts';
import type { Slots } from './slots.ts';

/** How a collection is asked for. */
export interface CollectionOrder {
  /** Chunks that were written in the last so many seconds stay. */
  readonly graceSeconds: number;
  /** Deletes nothing, only counts. */
  readonly dryRun: boolean;
}

/** What a {@link GarbageCollector} is made of. */
export interface GarbageCollectorParts {
  commands: Pick<Commands, 'quiesce'>;
  kv: Pick<Kv, 'sync'>;
  tree: Tree;
  slots: Pick<Slots, 'all'>;
  owners: Pick<Owners, 'expect' | 'tell'>;
  barriers: Pick<Barriers, 'open'>;
  /** Has files that have no name and that nobody holds deleted, soon. Not within a turn. */
  dropForgotten(): void;
  /** Deletes a bounded part of what such files leave; true: there is more to do. */
  reclaimSome(): boolean;
  /** Calls back when no copy runs that runs now. */
  afterCopies(done: () => void): void;
  begin(): Collection;
  /** Asks for a turn soon. */
  wake(): void;
}

type Phase = 'clearing' | 'beginning' | 'marking' | 'syncing' | 'waiting' | 'sweeping';

/** A collection that was asked for. */
interface Wanted {
  readonly order: CollectionOrder;
  readonly done: (outcome: CollectionOutcome) => void;
}

/** The collection that runs. */
interface Run extends Wanted {
  /** Undefined until it has begun. */
  collection: Collection | undefined;
  released: number;
  phase: Phase;
  /** Steps in which files without a name were deleted. */
  reclaims: number;
  scan: ReferenceScan | undefined;
  /** What another thread does of it. */
  elsewhere: Promise<unknown>;
  isCancelled: boolean;
}

/** Steps of deleting such files that a collection waits for at most: while they come faster, it goes on without. */
const RECLAIMS_MAX = 4096;

/** The last collection that ended, as it is shown. */
interface Last {
  readonly endedAt: string;
  readonly outcome: CollectionOutcome;
  readonly order: CollectionOrder;
}

/** Collections of one mount, one at a time. Threads: the tree worker's own. */
export class GarbageCollector {
  readonly #parts: GarbageCollectorParts;
  readonly #message = new Message();
  readonly #queue: Wanted[] = [];
  #run: Run | undefined;
  #last: Last | undefined;
  /** The tree's count of what lost references, as the last collection that deleted began. */
  #released = -1;
  #isClosed = false;

  constructor(parts: GarbageCollectorParts) {
    this.#parts = parts;
  }

  /** Whether there may be garbage: content has lost references since the last collection, or there was none. */
  get mayBeUseful(): boolean {
    return this.#parts.tree.released !== this.#released;
  }

  /** Whether there is something to do now, by `step`. */
  get hasWork(): boolean {
    const phase = this.#run?.phase;
    return phase === 'marking' || phase === 'clearing';
  }

  /** Whether a sync runs, which ends on the event loop. */
  get isSyncing(): boolean {
    return this.#run?.phase === 'syncing';
  }

  /** The collection that runs, and how the last one ended, for people. */
  status(): object {
    const { phase, scan } = this.#run ?? {};
    return {
      phase: phase ?? 'idle',
      regionsMarked: scan?.regions ?? 0,
      last: this.#last === undefined ? null : { endedAt: this.#last.endedAt, ...told(this.#last) },
    };
  }

  /** Collects, once those that were asked for before have ended; `done` is called outside of turns as well. */
  collect(order: CollectionOrder, done: (outcome: CollectionOutcome) => void): void {
    if (this.#isClosed) return done({ failure: 'the mount ends' });
    this.#queue.push({ order, done });
    if (this.#run === undefined) this.#next();
  }

  /** Content that is on its way into the tree refers to chunks that are needed, wherever it was copied from. */
  keep(changes: readonly ContentChange[]): void {
    const { collection } = this.#run ?? {};
    if (collection === undefined) return;
    for (const change of changes) {
      if (change.kind === 'extent') collection.keep(change.extent.id);
    }
  }

  // ---- its course ----

  #next(): void {
    const wanted = this.#queue.shift();
    if (wanted === undefined) return;
    const run: Run = {
      ...wanted,
      collection: undefined,
      released: -1,
      phase: 'beginning',
      reclaims: 0,
      scan: undefined,
      elsewhere: Promise.resolve(),
      isCancelled: false,
    };
    this.#run = run;
    this.#parts.dropForgotten();
    this.#fence(run, () => {
      run.phase = 'clearing';
      this.#parts.wake();
    });
  }

  #begin(run: Run): void {
    run.phase = 'beginning';
    run.released = this.#parts.tree.released;
    try {
      run.collection = this.#parts.begin();
    } catch (error) {
      return this.#end(run, { failure: messageOf(error) });
    }
    // What movers looked up before the beginning is reported to workers, and by them to us.
    this.#quiesce(run, () => this.#fence(run, () => this.#mark(run)));
  }

  /** Goes on when movers have done every job that they have now. */
  #quiesce(run: Run, then: () => void): void {
    const { barriers, commands, wake } = this.#parts;
    commands.quiesce(barriers.open(1, () => this.#goOn(run, then)));
    wake();
  }

  /** Goes on when every worker has done what was sent to it, and we what it has sent. */
  #fence(run: Run, then: () => void): void {
    const { owners, wake } = this.#parts;
    const token = owners.expect(1, () => this.#goOn(run, then));
    owners.tell(this.#message.begin(kind.FENCE, NONE, 0, 0).a(token));
    wake();
  }

  /** Takes the next step, unless the collection has ended meanwhile. */
  #goOn(run: Run, step: () => void): void {
    if (this.#run === run && !run.isCancelled) step();
  }

  #mark(run: Run): void {
    const { slots, tree, wake } = this.#parts;
    for (const open of slots.all()) this.keep(open.pending);
    run.scan = tree.newReferenceScan((extent) => run.collection?.keep(extent.id));
    run.phase = 'marking';
    wake();
  }

  /** Goes on for about so many milliseconds; true: there is more to do now. */
  step(limitMs: number): boolean {
    const run = this.#run;
    if (run?.phase === 'clearing') return this.#clear(run);
    if (run?.scan === undefined || run.phase !== 'marking') return false;
    const errno = run.scan.work(limitMs);
    if (errno !== 0) {
      const why = 'a record of the tree cannot be read, so nobody knows what is needed';
      this.#end(run, { failure: `${why} (${getSystemErrorName(-errno)}): nothing was deleted` });
      return false;
    }
    if (!run.scan.isDone) return true;
    pass('chunks-marked');
    this.#sync(run);
    return false;
  }

  #clear(run: Run): boolean {
    run.reclaims += 1;
    if (this.#parts.reclaimSome() && run.reclaims < RECLAIMS_MAX) return true;
    this.#begin(run);
    return false;
  }

  #sync(run: Run): void {
    run.phase = 'syncing';
    const synced = this.#parts.kv.sync();
    run.elsewhere = synced.catch(() => {});
    synced.then(
      () => {
        pass('marks-durable');
        this.#goOn(run, () => this.#drainReaders(run));
      },
      (error: unknown) => this.#end(run, { failure: messageOf(error) }),
    );
  }

  /** Until nobody reads what was there before the mark. */
  #drainReaders(run: Run): void {
    run.phase = 'waiting';
    // Workers learn what a copy has replaced when it ends.
    this.#parts.afterCopies(() => {
      this.#goOn(run, () => {
        this.#fence(run, () => this.#quiesce(run, () => this.#sweep(run)));
      });
    });
  }

  #sweep(run: Run): void {
    run.phase = 'sweeping';
    const { graceSeconds, dryRun } = run.order;
    const { collection } = run;
    if (collection === undefined) return;
    const swept = collection.sweep(graceSeconds, dryRun);
    run.elsewhere = swept.catch(() => {});
    swept.then(
      (report) => {
        // What was too young is garbage still.
        if (!dryRun && report.young === 0) this.#released = run.released;
        this.#end(run, { swept: report });
      },
      (error: unknown) => this.#end(run, { failure: messageOf(error) }),
    );
  }

  #end(run: Run, outcome: CollectionOutcome): void {
    if (this.#run !== run) return;
    this.#run = undefined;
    run.collection?.end();
    this.#last = { endedAt: new Date().toISOString(), outcome, order: run.order };
    run.done(outcome);
    this.#next();
  }

  /** Ends the collection that runs, and begins no other; resolves when no other thread works on it. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const { done } of this.#queue.splice(0)) done({ failure: 'the mount ends' });
    const run = this.#run;
    if (run === undefined) return;
    run.isCancelled = true;
    run.collection?.cancel();
    await run.elsewhere;
    this.#end(run, { failure: 'the mount ends' });
  }
}

function told({ outcome, order }: Last): object {
  const { graceSeconds, dryRun } = order;
  return { graceSeconds, dryRun, ...('swept' in outcome ? outcome.swept : outcome) };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
