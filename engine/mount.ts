/**
 * The life of one mount: open the store, start the pool, mount, serve, drain, let go.
 *
 *     opening ──► serving ──► draining ──┬──────────────► closed
 *        │           │                  └► journaling ──┘
 *        │           │  the mount is gone, or close()
 *        └──► (throws)└──► failed: a thread died; the connection is aborted, exit status 1
 */
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { getSystemErrorName } from 'node:util';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import type { CollectionOutcome, TreeOrder, TreeReport, WorkerTask } from '../workers/task.ts';
import { makeDurableDirectory } from './durable-directory.ts';
import { fromOtherThread, MillraceError } from './errors.ts';
import type { Front, FrontKind } from './front/front.ts';
import { FuseNativeFront } from './front/fuse-native/fuse-native-front.ts';
import { KernelFront } from './front/kernel-front.ts';
import { type JournalTask, journalTask } from './journal/owner.ts';
import type { ReplayNotice } from './journal/replay.ts';
import { DATA_WORKERS_MAX, FRAME_BYTES, header, TREE_WORKER } from './layout.ts';
import { OPEN_FILES_MAX } from './limits.ts';
import { DEFAULT_NAMESPACE } from './namespace-name.ts';
import { native, type SweepReport } from './native.ts';
import { allocateBuffers, SharedMemory } from './shared-memory.ts';
import { type Snapshot, takeSnapshot } from './snapshot.ts';
import {
  checkKey,
  confirmKeys,
  createSuperblock,
  keyRingOf,
  readSuperblock,
  type Superblock,
} from './store/superblock.ts';
import { VERSION } from './version.ts';

export type { Snapshot } from './snapshot.ts';

/** What a mount writes its log to; pino's loggers fit. */
export interface Logger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What to mount, and with which means. Paths are absolute. */
export interface MountOptions {
  /** Mount point: an empty directory. */
  directory: string;
  /** Directory of the store; it must exist. */
  store: string;
  keyFile: string;
  /** Directory outside of the store for its recovery journals, below one of its own. */
  journals: string;
  /** Threads that decide about data; each brings one that hashes and seals. Default: one per core. */
  dataWorkers?: number;
  /** Who speaks with the kernel. Default: 'kernel', threads of our own. */
  front?: FrontKind;
  /** Threads that read /dev/fuse, of the front 'kernel'. */
  fuseThreads?: number;
  /** Memory for data on its way, a multiple of FRAME_BYTES. */
  slabBytes?: number;
  /**
   * Namespaces to show, each valid and named once: one as the mount's root, several as directories
   * in it. The default one unless given.
   */
  namespaces?: readonly string[];
  /** Mount options by name (-o). */
  options: Readonly<Record<string, string | true>>;
  log: Logger;
  /** Whether the store is new: it gets a superblock then. */
  createStore: boolean;
  /** Milliseconds between two collections of garbage that nobody asks for; 0: there are none. Default: an hour. */
  collectIntervalMs?: number;
}

/** How a mount ended. */
export interface MountEnd {
  /** 0: everything is durable. 3: what is not lies in a journal. 1: something is lost. */
  readonly exitStatus: number;
  /** The recovery journal with what the store refused. */
  readonly journal?: string;
}

/** Exit status of a mount whose store refused data that is sealed in a recovery journal. */
const JOURNALED_STATUS = 3;

/** A mount that is being served. */
export interface Mount {
  /** Resolves when the mount is gone and everything is drained, or that has failed. */
  readonly done: Promise<MountEnd>;
  /** What became of the recovery journals that waited for this mount. */
  readonly replayed: readonly ReplayNotice[];
  /** Unmounts, drains, commits and stops; idempotent. */
  close(): Promise<MountEnd>;
  snapshot(): Snapshot;
  /**
   * Deletes the chunks that nothing refers to, but for those written in the last so many seconds; after other such
   * calls. Programs may go on. Throws MillraceError COLLECTION_FAILED, with what was deleted until then gone.
   */
  collectGarbage(options: { graceSeconds: number; dryRun: boolean }): Promise<SweepReport>;
}

/** Memory for data on its way, unless told. */
export const SLAB_BYTES: number = 256 * 2 ** 20;
/** Two front threads keep two cores busy; four gain nothing, one costs 12 %. */
export const FUSE_THREADS = 2;
const META_TTL_MS = 5000;
const COMMIT_INTERVAL_MS = 5000;
const COLLECT_INTERVAL_MS = 3_600_000;
/** How often and how long a drain is tried again while the store fails. */
const DRAIN_PAUSE_MS = 500;
const DRAIN_ATTEMPTS = 10;
/** How long dirty data is waited for while a journal is sealed; memory is read and a local file written. */
const JOURNAL_MS = 120_000;
/** The same after a thread has died, which may be the one that has to answer. */
const SALVAGE_MS = 10_000;
/** How long fronts may take to notice that the connection is aborted, once nothing more can be saved. */
const LEAVE_MS = 5000;
/** How long programs that still hold files are waited for after the mount was detached. */
const DETACH_MS = 2000;

/** Mounts and serves; resolves when the mount stands. Throws MillraceError when it cannot. */
export async function mount(options: MountOptions): Promise<Mount> {
  native().harden();
  const superblock = await openSuperblock(options);
  const journal = journalTask(options.journals, superblock);
  const served = new ServedMount(options, superblock, journal);
  try {
    await served.start();
  } catch (error) {
    await served.abandon();
    throw error;
  }
  return served;
}

async function openSuperblock(options: MountOptions): Promise<Superblock> {
  const { store, keyFile, createStore } = options;
  const keyCheck = native().keyCheck(keyFile).toString('hex');
  if (createStore) await createSuperblock(store, { keyCheck, version: VERSION });
  const superblock = await readSuperblock(store);
  checkKey(superblock, keyCheck);
  return superblock;
}

class ServedMount implements Mount {
  readonly done: Promise<MountEnd>;
  replayed: readonly ReplayNotice[] = [];
  readonly #options: MountOptions;
  readonly #superblock: Superblock;
  readonly #journal: JournalTask;
  readonly #memory: SharedMemory;
  readonly #engine: number;
  readonly #pool: Piscina<WorkerTask, unknown>;
  readonly #front: Front;
  readonly #port: MessagePort;
  readonly #treePort: MessagePort;
  readonly #tasks: Promise<unknown>[] = [];
  /** Who waits for which report, in the order in which they asked. */
  readonly #reports: { type: TreeReport['type']; resolve: (report: TreeReport) => void }[] = [];
  /** Who waits for which collection of garbage. */
  readonly #collections = new Map<number, (outcome: CollectionOutcome) => void>();
  #collected = 0;
  readonly #frontEnded: Promise<void>;
  /** Rejects when a thread dies. */
  readonly #failure: Promise<never>;
  #sayFailure: (error: unknown) => void = () => {};
  #sayFrontEnded: () => void = () => {};
  #finish: (result: MountEnd) => void = () => {};
  #mounted = false;
  /** Whether the last front has ended: place and number of the mount may be somebody else's from then on. */
  #isFrontGone = false;
  #failed = false;
  #treeDied = false;
  /** How the mount ends after a thread died. */
  #salvaged: Promise<MountEnd> = Promise.resolve({ exitStatus: 1 });
  #ending = false;

  constructor(options: MountOptions, superblock: Superblock, journal: JournalTask) {
    this.#options = options;
    this.#superblock = superblock;
    this.#journal = journal;
    const dataWorkers = clamp(options.dataWorkers ?? availableParallelism(), 1, DATA_WORKERS_MAX);
    const frames = Math.floor((options.slabBytes ?? SLAB_BYTES) / FRAME_BYTES);
    const addon = native();
    const buffers = allocateBuffers({ frames, dataWorkers, skip: addon.skip });
    this.#memory = new SharedMemory(buffers);
    this.#engine = this.#openEngine(frames, dataWorkers);
    this.#front = this.#makeFront();
    const threads = dataWorkers + 1;
    this.#pool = new Piscina({
      filename: fileURLToPath(new URL('../workers/main.js', import.meta.url)),
      minThreads: threads,
      maxThreads: threads,
      idleTimeout: Number.POSITIVE_INFINITY,
      // A worker that waits by Atomics.wait for its next task would have no event loop.
      atomics: 'disabled',
    });
    const channel = new MessageChannel();
    this.#port = channel.port1;
    this.#treePort = channel.port2;
    this.#port.on('message', (report: TreeReport) => this.#onReport(report));
    this.done = new Promise((resolve) => {
      this.#finish = resolve;
    });
    this.#failure = new Promise((_, reject) => {
      this.#sayFailure = reject;
    });
    this.#failure.catch(() => {});
    this.#frontEnded = new Promise((resolve) => {
      this.#sayFrontEnded = () => {
        this.#isFrontGone = true;
        resolve();
      };
    });
  }

  #makeFront(): Front {
    const { directory, store, options, front, fuseThreads, log } = this.#options;
    const shared = {
      engine: this.#engine,
      directory,
      source: typeof options['fsname'] === 'string' ? options['fsname'] : store,
      allowOther: options['allow_other'] === true,
      sharedMmap: options['shared_mmap'] === 'allow',
      ttlMs: count(options['meta_ttl_ms'], META_TTL_MS),
    };
    if (front === 'fuse-native') {
      return new FuseNativeFront(shared, (error) => log.error({ err: error }, 'a call failed'));
    }
    return new KernelFront(shared, fuseThreads ?? FUSE_THREADS);
  }

  #openEngine(frames: number, dataWorkers: number): number {
    const { keyFile, store } = this.#options;
    const keyRing = keyRingOf(this.#superblock);
    const parts = { frames, dataWorkers, movers: dataWorkers, keyFile, keyRing, store };
    try {
      return native().open({ ...this.#memory.views(), ...parts }, (message) =>
        this.#onNativeReport(message),
      );
    } catch (cause) {
      throw storeRefused(store, cause);
    }
  }

  async start(): Promise<void> {
    const { directory, store, log } = this.#options;
    // What was read before the store was ours may be over.
    confirmKeys(this.#superblock, await readSuperblock(store));
    const ready = this.#report('ready');
    this.#startWorkers();
    await Promise.race([ready, this.#firstFailure()]).catch((cause: unknown) => {
      throw this.#blocked(cause);
    });
    const opened = this.#front.open(() => this.#sayFrontEnded());
    opened.catch(() => {}); // When a thread dies first, that is the reason to tell.
    await Promise.race([opened, this.#firstFailure()]);
    this.#mounted = true;
    this.#frontEnded.then(() => this.#end()).catch((error: unknown) => this.#onFailure(error));
    for (const [worker, task] of this.#tasks.entries()) {
      const who = worker === TREE_WORKER ? 'the tree worker' : `data worker ${worker}`;
      task.catch((cause: unknown) => {
        if (worker === TREE_WORKER) this.#treeDied = true;
        this.#onFailure(new Error(`${who} died: the mount ends`, { cause }));
      });
    }
    log.info({ directory, store }, 'mounted');
    if (this.#options.options['shared_mmap'] !== 'allow') {
      const why = 'shared mappings of files that are open for writing are refused (ENODEV)';
      log.info({}, `${why}; programs that need them want -o shared_mmap=allow`);
    }
  }

  #startWorkers(): void {
    const { store, options } = this.#options;
    const buffers = this.#memory.buffers;
    const engine = this.#engine;
    const treeDirectory = path.join(store, 'tree');
    makeDurableDirectory(treeDirectory);
    const tree: WorkerTask = {
      role: 'tree',
      engine,
      buffers,
      port: this.#treePort,
      treeFile: path.join(treeDirectory, 'data.mdb'),
      ttlMs: count(options['meta_ttl_ms'], META_TTL_MS),
      commitIntervalMs: count(options['commit_interval'], COMMIT_INTERVAL_MS),
      storeNeedsSync: native().needsSync(engine),
      collectIntervalMs: this.#options.collectIntervalMs ?? COLLECT_INTERVAL_MS,
      openFilesMax: clamp(count(options['max_open_files'], OPEN_FILES_MAX), 1, OPEN_FILES_MAX),
      namespaces: this.#options.namespaces ?? [DEFAULT_NAMESPACE],
      owner: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
      journal: this.#journal,
    };
    this.#tasks.push(this.#pool.run(tree, { transferList: [this.#treePort] }));
    for (let worker = 1; worker <= buffers.dataWorkers; worker++) {
      this.#tasks.push(this.#pool.run({ role: 'data', engine, buffers, worker }));
    }
  }

  /** Rejects when a task does; never resolves. */
  async #firstFailure(): Promise<never> {
    await Promise.race(this.#tasks).catch((error: unknown) => {
      throw fromOtherThread(error);
    });
    throw new MillraceError('INVARIANT', 'a worker ended before the mount stood');
  }

  // ---- reports ----

  /** The next report of a kind; rejects when a thread dies, because then it may never come. */
  #report(type: TreeReport['type']): Promise<TreeReport> {
    const report = new Promise<TreeReport>((resolve) => {
      this.#reports.push({ type, resolve });
    });
    return Promise.race([report, this.#failure]);
  }

  #onReport(report: TreeReport): void {
    if (report.type === 'damaged') {
      this.#options.log.error({ what: report.what }, 'a record of the tree cannot be read');
      return;
    }
    if (report.type === 'collected') {
      this.#collections.get(report.number)?.(report.outcome);
      this.#collections.delete(report.number);
      return;
    }
    if (report.type === 'limit') {
      this.#options.log.warn({}, report.what);
      return;
    }
    if (report.type === 'replayed') return this.#onReplayed(report.notices);
    const index = this.#reports.findIndex((waiting) => waiting.type === report.type);
    if (index >= 0) this.#reports.splice(index, 1)[0]?.resolve(report);
  }

  #onReplayed(notices: readonly ReplayNotice[]): void {
    this.replayed = notices;
    const { log } = this.#options;
    for (const { outcome, file, message, hint } of notices) {
      const fields = { journal: file, ...(hint !== '' && { hint }) };
      if (outcome === 'replayed') log.info(fields, message);
      else log.warn(fields, message);
    }
  }

  /** Why the mount does not start: a journal that must be replayed before, or else the cause. */
  #blocked(cause: unknown): unknown {
    const blocked = this.replayed.find(({ outcome }) => outcome === 'blocked');
    if (blocked === undefined) return cause;
    const message = `${blocked.message} (${blocked.file})`;
    return new MillraceError('STORE_IO', message, { hint: blocked.hint, cause });
  }

  #order(order: TreeOrder): void {
    this.#port.postMessage(order);
  }

  #onNativeReport(message: string): void {
    this.#options.log.error({}, message);
    if (Atomics.load(this.#memory.words, header.FAILED >>> 2) === 1) {
      this.#onFailure(new Error(message));
    }
  }

  /** A thread died: nobody may hang, and nothing more can be promised. */
  #onFailure(error: unknown): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#options.log.error({ err: error }, 'a thread of the mount died, the mount ends');
    if (this.#mounted) this.#abort();
    this.#salvaged = this.#salvage(error).catch(() => ({ exitStatus: 1 }));
    const stop = (): void => {
      this.#sayFailure(error);
      // Fronts may wait for frames that nobody will free any more.
      native().stop(this.#engine);
    };
    this.#salvaged.then(stop, stop);
    if (this.#mounted) this.#salvaged.then((end) => this.#leaveEvenSo(end), stop);
  }

  /** Fronts that could not be ended: the process has to end, for the kernel aborts a connection that nobody has open. */
  async #leaveEvenSo(end: MountEnd): Promise<void> {
    await sleep(LEAVE_MS, undefined, { ref: false });
    if (this.#isFrontGone) return;
    const { log, directory } = this.#options;
    log.error({ directory }, 'the mount does not end: the process does, so that no program hangs');
    this.#finish({ ...end, exitStatus: end.exitStatus || 1 });
  }

  /** Seals what the threads that are left still know and the store does not. */
  async #salvage(error: unknown): Promise<MountEnd> {
    const { log } = this.#options;
    const lose = (fields: object): MountEnd => {
      log.error(fields, 'what was not committed is lost');
      return { exitStatus: 1 };
    };
    if (!this.#mounted) return { exitStatus: 1 };
    if (this.#treeDied) return lose({});
    const cause = error instanceof Error ? error.message : String(error);
    const journaled = this.#report('journaled');
    this.#order({ type: 'journal', errno: 0, cause, lost: [], limitMs: SALVAGE_MS });
    const report = await Promise.race([
      journaled,
      sleep(2 * SALVAGE_MS, undefined, { ref: false }),
    ]);
    if (report?.type !== 'journaled') return lose({});
    await Promise.race([this.#letGoOfTree(), sleep(SALVAGE_MS, undefined, { ref: false })]);
    const { file: journal, lost: inodes } = report;
    if (journal === undefined) {
      return report.error === undefined
        ? { exitStatus: 1 }
        : lose({ reason: report.error, inodes });
    }
    const what = 'what was not committed is sealed in a recovery journal';
    if (inodes.length === 0) log.warn({ journal }, `${what}: the next mount replays it`);
    else log.error({ journal, inodes }, `${what}, but for data of these inodes, which is lost`);
    return { exitStatus: 1, journal };
  }

  async collectGarbage(options: { graceSeconds: number; dryRun: boolean }): Promise<SweepReport> {
    const { graceSeconds, dryRun } = options;
    if (this.#ending || this.#failed) throw new MillraceError('CLOSED', 'the mount ends');
    this.#collected += 1;
    const number = this.#collected;
    const ended = new Promise<CollectionOutcome>((resolve) => {
      this.#collections.set(number, resolve);
    });
    this.#order({ type: 'collect', number, graceSeconds, dryRun });
    const outcome = await Promise.race([ended, this.#failure]);
    if ('swept' in outcome) return outcome.swept;
    throw new MillraceError('COLLECTION_FAILED', `garbage was not collected: ${outcome.failure}`, {
      hint: 'Nothing is lost. Unmount and run `millrace fsck`, or see the log of the mount.',
    });
  }

  // ---- the end ----

  async close(): Promise<MountEnd> {
    if (this.#ending || this.#failed || this.#isFrontGone) return this.done;
    const refusal = await this.#front.unmount(false);
    if (refusal !== null && !this.#isFrontGone) await this.#detach(refusal);
    return this.done;
  }

  /** Programs still use the mount: take it away from others, drain, then fail what they do next. */
  async #detach(refusal: string): Promise<void> {
    this.#options.log.warn(
      { refusal },
      'the mount is in use: it is detached, and drained meanwhile',
    );
    await this.#front.unmount(true);
    const gone = await Promise.race([
      this.#frontEnded.then(() => true),
      sleep(DETACH_MS, false, { ref: true }),
    ]);
    if (gone) return;
    await this.#drainOnce().catch(() => undefined);
    this.#abort();
  }

  #abort(): void {
    if (this.#isFrontGone) return;
    const refused = (reason: unknown): void => {
      this.#options.log.error({ reason }, 'the connection could not be aborted: programs may wait');
    };
    this.#front.abort().then(
      (reason) => {
        if (reason !== null) refused(reason);
      },
      (error: unknown) => refused(String(error)),
    );
  }

  /** The mount is gone: everything that programs wrote becomes durable, or somebody is told that it did not. */
  async #end(): Promise<void> {
    if (this.#ending) return;
    this.#ending = true;
    const end = this.#failed
      ? await this.#salvaged
      : await this.#drain().catch(() => this.#salvaged);
    await this.#stopEvenSo();
    this.#finish(end);
  }

  async #drain(): Promise<MountEnd> {
    const { log } = this.#options;
    for (let attempt = 1; ; attempt++) {
      const { errno, inodes } = await this.#drainOnce();
      if (errno === 0) break;
      const reason = getSystemErrorName(-errno);
      if (attempt === DRAIN_ATTEMPTS) return this.#seal(errno, inodes);
      log.warn({ reason, files: inodes.length }, 'the store refuses data; trying again');
      await sleep(DRAIN_PAUSE_MS);
      if (this.#failed) return { exitStatus: 1 };
    }
    return { exitStatus: (await this.#closeTree()) ? 0 : 1 };
  }

  /** The store does not take what is left: it goes into a journal, for the next mount. */
  async #seal(errno: number, inodes: readonly number[]): Promise<MountEnd> {
    const { log, store } = this.#options;
    const reason = getSystemErrorName(-errno);
    const journaled = this.#report('journaled');
    const cause = `unmount: ${reason}`;
    this.#order({ type: 'journal', errno, cause, lost: [], limitMs: JOURNAL_MS });
    const report = await journaled;
    await this.#letGoOfTree();
    if (report.type !== 'journaled') return { exitStatus: 1 };
    const { file, lost, error } = report;
    if (file === undefined && error === undefined) {
      log.error({ reason }, 'everything is in the store, but it could not be made durable');
      return { exitStatus: 1 };
    }
    if (file === undefined) {
      const hint = `make room in ${store} or repair it before the next mount`;
      const fields = { reason, journal: error, inodes: [...new Set([...inodes, ...lost])], hint };
      log.error(fields, 'not everything could be stored or sealed: data is lost');
      return { exitStatus: 1 };
    }
    const hint = `make room in ${store} or repair it, then mount it again or run millrace recover replay`;
    const sealed = { reason, journal: file, files: inodes.length, hint };
    if (lost.length > 0) {
      log.error(
        { ...sealed, inodes: lost },
        'not everything could be stored or sealed: data is lost',
      );
      return { exitStatus: 1, journal: file };
    }
    log.error(sealed, 'the store refused data: it is sealed in a recovery journal');
    return { exitStatus: JOURNALED_STATUS, journal: file };
  }

  /** As `#closeTree`, when it is known that it must fail. */
  async #letGoOfTree(): Promise<void> {
    const closed = this.#report('closed');
    this.#order({ type: 'close' });
    await closed;
  }

  async #drainOnce(): Promise<{ errno: number; inodes: number[] }> {
    const drained = this.#report('drained');
    this.#order({ type: 'drain' });
    const report = await drained;
    return report.type === 'drained' ? report : { errno: 0, inodes: [] };
  }

  async #closeTree(): Promise<boolean> {
    const closed = this.#report('closed');
    this.#order({ type: 'close' });
    const report = await closed;
    if (report.type !== 'closed' || report.error === undefined) return true;
    this.#options.log.error({ reason: report.error }, 'the tree could not be closed in good order');
    return false;
  }

  /** How the mount ended is known: what cannot be let go of goes with the process, and loses nothing. */
  async #stopEvenSo(): Promise<void> {
    try {
      await this.#stop();
    } catch (error) {
      this.#options.log.error({ err: error }, 'not everything of the mount could be let go of');
    }
  }

  async #stop(): Promise<void> {
    const addon = native();
    addon.stop(this.#engine);
    await Promise.allSettled(this.#tasks);
    for (const ended of this.#collections.values()) ended({ failure: 'the mount has ended' });
    this.#collections.clear();
    await this.#pool.destroy();
    this.#port.close();
    this.#front.close();
    addon.close(this.#engine);
  }

  /** Lets go of everything after a start that failed. */
  async abandon(): Promise<void> {
    this.#failed = true;
    // Nothing may be mounted yet; what is must not keep anybody waiting.
    if (!this.#isFrontGone) await this.#front.abort().catch(() => undefined);
    await this.#stopEvenSo();
  }

  snapshot(): Snapshot {
    return takeSnapshot(this.#memory);
  }
}

/** Why an engine could not be opened over a store, for people. */
export function storeRefused(store: string, cause: unknown): MillraceError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  if (!reason.includes('os error 16')) {
    return new MillraceError('STORE_IO', `the store cannot be opened: ${reason}`, { cause });
  }
  return new MillraceError('STORE_BUSY', `another process uses the store ${store}`, {
    hint: 'Unmount it there first (`millrace umount DIR`); one process at a time serves a store.',
    cause,
  });
}

/** The number that an option of -o has. */
function count(text: string | true | undefined, otherwise: number): number {
  const value = typeof text === 'string' ? Number(text) : otherwise;
  if (value >= 0) return value;
  throw new MillraceError('USAGE', `${String(text)} is no number from 0 on`);
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
