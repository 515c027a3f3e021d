/** The life of the tree worker's thread: turns while there is work, its event loop when there is none. */
import { Buffer } from 'node:buffer';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { setImmediate as immediate } from 'node:timers/promises';
import { MillraceError } from '../../engine/errors.ts';
import { replayJournals } from '../../engine/journal/replay.ts';
import type { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import { TREE_WORKER } from '../../engine/layout.ts';
import { native } from '../../engine/native.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import type { Namespace } from '../../engine/tree/namespaces.ts';
import { Tree } from '../../engine/tree/tree.ts';
import { openGatedTreeFile } from '../../engine/tree-file.ts';
import { refuseWhileKept } from '../../engine/tree-rebuild.ts';
import { beginCollection, type Collection } from '../collection.ts';
import { Commands } from '../commands.ts';
import { Meter } from '../meter.ts';
import { die, turnsToLive } from '../mortality.ts';
import type { TreeOrder, TreeReport, TreeTask } from '../task.ts';
import { readWaitingJournals, type WaitingJournals } from '../waiting-journals.ts';
import { sealJournal } from './journaling.ts';
import { rehearse } from './rehearsal.ts';
import { VaultSealer } from './sealer.ts';
import type { FileSystemStatistics } from './statistics.ts';
import { TreeWorker } from './tree-worker.ts';
import { VaultDigest } from './virtual/vault-digest.ts';

/**
 * How long a turn parks before the event loop gets its chance, in microseconds. A native park is woken faster than an
 * event loop; timers and orders of the main thread can wait as long.
 */
const LINGER_MICROS = 50_000;
/** How long the ring must be empty before collected changes are flushed: longer than a program's next call takes. */
const COLLECT_MICROS = 2000;
/** How long the mount may wait for the rehearsal, in milliseconds. */
const REHEARSAL_MS = 300;
/** Turns after which the event loop runs even though there is work. */
const TURNS_PER_BREATH = 64;
/** How long one step of marking may take in milliseconds, while nobody waits for it, and while somebody asks for other things. */
const MARK_MS = 2;
const MARK_BUSY_MS = 0.5;

/** A wake-up that is not lost when nobody sleeps. */
class Doorbell {
  #rung = false;
  #wake: (() => void) | undefined;

  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /** Resolves at the next ring, or at once when it has rung since the last wait. */
  async wait(): Promise<void> {
    if (!this.#rung) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#wake = undefined;
    this.#rung = false;
  }
}

/** Serves the tree worker's ring until the engine stops. */
export async function runTreeWorker(memory: SharedMemory, task: TreeTask): Promise<void> {
  const { engine, port } = task;
  const addon = native();
  const say = (report: TreeReport): void => port.postMessage(report);
  const sealer = new VaultSealer(engine);
  const { kv, gate } = await openGatedTreeFile(task.treeFile, sealer);
  const onDamage = (what: string): void => say({ type: 'damaged', what });
  await replayWaiting(kv, sealer, task, say);
  const journals = readWaitingJournals(task.journal, sealer);
  const commands = new Commands(engine, TREE_WORKER);
  const tree = new Tree({ kv, sealer, onDamage });
  tree.format(task.owner);
  const namespaces = openNamespaces(tree, task);
  kv.flush();
  const doorbell = new Doorbell();
  const worker = new TreeWorker({
    memory,
    commands,
    kv,
    tree,
    ttlMs: task.ttlMs,
    commitIntervalMs: task.commitIntervalMs,
    storeNeedsSync: task.storeNeedsSync,
    statfs: () => statistics(engine, tree),
    wake: () => doorbell.ring(),
    beginCollection: () => beginCollectionBeside(journals, task),
    collectIntervalMs: task.collectIntervalMs,
    freeBytes: () => addon.space(engine)[1],
    limits: { openMax: task.openFilesMax, onLimit: (what) => say({ type: 'limit', what }) },
    shows: { namespaces, owner: task.owner, digest: new VaultDigest(engine) },
  });
  rehearse({ memory, commands, sealer, worker, limitMs: REHEARSAL_MS });
  const close = async (): Promise<void> => {
    // The turns end first: nothing may touch the Kv once it is closed.
    worker.stop();
    doorbell.ring();
    await turns;
    await worker.endCollections();
    try {
      tree.saveCounters();
      await kv.close();
      say({ type: 'closed' });
    } catch (error) {
      say({ type: 'closed', error: error instanceof Error ? error.message : String(error) });
    }
  };
  let closed: Promise<void> | undefined;
  let sealing: Promise<TreeReport> | undefined;
  port.on('message', (order: TreeOrder) => {
    if (order.type === 'close') {
      closed = close();
    } else if (order.type === 'collect') {
      const { number } = order;
      worker.collect(order, (outcome) => say({ type: 'collected', number, outcome }));
    } else if (order.type === 'drain') {
      worker.commitAll((errno) => {
        // What the log alone has would be refused once more when the Kv is closed.
        const isBehind = errno === 0 && kv.isFailing && !worker.writeBack();
        const late = isBehind ? constants.errno.ENOSPC : errno;
        say({ type: 'drained', errno: late, inodes: worker.dirtyInodes() });
      });
    } else {
      // A thread may die while it is sealed already: that is one journal.
      sealing ??= sealJournal(
        { engine, worker, tree, kv, gate, sealer, task: task.journal, treeFile: task.treeFile },
        order,
      );
      sealing
        .then(say)
        .catch((error: unknown) => say({ type: 'journaled', error: String(error), lost: [] }));
    }
    doorbell.ring();
  });
  addon.setWake(engine, () => doorbell.ring());
  const turns = takeTurns(worker, engine, doorbell);
  say({ type: 'ready' });
  try {
    await turns;
    await closed;
  } finally {
    addon.setWake(engine, null);
    worker.stop();
    // No thread may hold on to the engine when it is closed.
    await worker.endCollections();
    port.close();
  }
}

/** Replays the journals that wait, before anybody is served; throws where one must be replayed and cannot. */
async function replayWaiting(
  kv: BufferedKv,
  sealer: VaultSealer,
  { engine, journal, owner }: TreeTask,
  say: (report: TreeReport) => void,
): Promise<void> {
  const notices = await replayJournals({ engine, kv, sealer, owner, ...journal });
  if (notices.length > 0) say({ type: 'replayed', notices });
  const blocked = notices.find(({ outcome }) => outcome === 'blocked');
  if (blocked !== undefined) throw new MillraceError('STORE_IO', blocked.message);
}

/** Begins a collection that keeps what journals need which were not replayed; throws where nobody knows what that is. */
function beginCollectionBeside(
  { needed, flawed }: WaitingJournals,
  { engine, treeFile }: TreeTask,
): Collection {
  refuseWhileKept(treeFile);
  const flawedStill = flawed.find((file) => existsSync(file));
  if (flawedStill !== undefined) {
    const why = `the recovery journal ${flawedStill} may need what would be deleted, and cannot be read`;
    throw new MillraceError('STORE_BUSY', `${why}: export it, then move it away`);
  }
  const collection = beginCollection(engine);
  for (const id of needed) collection.keep(id);
  return collection;
}

/** The namespaces that the mount shows, made where they are new. */
function openNamespaces(tree: Tree, task: TreeTask): Namespace[] {
  return task.namespaces.map((name) => {
    const namespace = tree.openNamespace(Buffer.from(name), task.owner);
    if (typeof namespace !== 'number') return namespace;
    throw new MillraceError('STORE_DAMAGED', `the namespace "${name}" cannot be opened`);
  });
}

async function takeTurns(worker: TreeWorker, engine: number, doorbell: Doorbell): Promise<void> {
  const addon = native();
  const { commands } = worker;
  let ticket = 0;
  let consumed = 0;
  let patience: number = LINGER_MICROS;
  const life = turnsToLive('tree');
  const meter = Meter.ofEnvironment('tree');
  for (let turns = 1; ; turns++) {
    if (turns > life) die();
    if (worker.wantsSync) await worker.renew();
    // A sync ends on the event loop: then it must not wait for a lingering turn.
    const isResting = !worker.isCollecting && !worker.isReclaiming;
    const pause = isResting ? LINGER_MICROS : COLLECT_MICROS;
    const isBusy = worker.isSyncing || worker.isHashing || worker.hasGarbageWork;
    const linger = isBusy ? 0 : Math.min(pause, patience);
    const ready = commands.turn(consumed, linger);
    consumed = 0;
    if (ready < 0 || worker.isStopped) return meter?.report();
    if (ready > 0) {
      meter?.begin(ready);
      consumed = worker.serve(ticket, ready);
      meter?.end();
      ticket = (ticket + consumed) >>> 0;
      if (turns % TURNS_PER_BREATH === 0) {
        worker.hashSome();
        worker.garbageStep(MARK_BUSY_MS);
        await immediate();
      }
      continue;
    }
    patience = worker.rest();
    if (worker.isCollecting && worker.writeBack()) {
      // Nothing came for a moment: what was collected is where it belongs.
    } else if (worker.hashSome() || worker.garbageStep(MARK_MS) || worker.reclaimSome()) {
      await immediate();
    } else if (patience >= LINGER_MICROS && addon.arm(engine, TREE_WORKER)) {
      await doorbell.wait();
    } else {
      // Also while settles fail and are tried again soon: orders of the main thread and ends of syncs must come through.
      await immediate();
    }
  }
}

const BLOCK_BYTES = 4096;
const PREFERRED_BYTES = 1 << 20;
const NAME_BYTES = 255;
/** Inodes are bounded by the space only: what a program sees as free is a large round number. */
const INODES_FREE = 2 ** 40;

function statistics(engine: number, tree: Tree): FileSystemStatistics {
  const [total, free] = native().space(engine);
  const { inodes } = tree.statistics();
  return {
    blocks: Math.floor(total / BLOCK_BYTES),
    bfree: Math.floor(free / BLOCK_BYTES),
    bavail: Math.floor(free / BLOCK_BYTES),
    files: inodes + INODES_FREE,
    ffree: INODES_FREE,
    bsize: PREFERRED_BYTES,
    namelen: NAME_BYTES,
    frsize: BLOCK_BYTES,
  };
}
