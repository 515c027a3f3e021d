/** One store through many mounts, each of which ends badly: what was promised must be in the next. */
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { KillPoint } from '../../engine/kill-points.ts';
import {
  destroyMount,
  type Mount,
  type MountOptions,
  startMount,
  temporaryDirectory,
} from '../support/mount.ts';
import { Draws } from '../support/random.ts';
import { Actor } from './actor.ts';
import { PowerLoss } from './power-loss.ts';
import { compileShim } from './shim.ts';

/** Where a chain's store lies, and what ends its mounts. */
export type ChainKind = 'disk' | 'memory' | 'power' | 'faults' | 'tree-faults';

/** How one mount is to end: at a point, or at any time. */
export type Ending = { point: string; passage: number } | 'any time';

/** Where the process that makes a store may be killed, among others. */
export const FIRST_POINTS: readonly KillPoint[] = [
  'superblock-written',
  'superblock-named',
  'tree-made',
  'tree-named',
  'tree-sync',
  'anchor-written',
  'anchor-flushed',
  'anchor-saved',
  'log-emptied',
];
const IN_MEMORY: ReadonlySet<ChainKind> = new Set(['memory', 'faults']);
const STEPS = 60;
const ACTORS = 2;
/** Milliseconds of work before a kill from outside, at most. */
const WORK_MS = 900;
/** Milliseconds within which a mount that serves nobody any more has ended. */
const ENDED_MS = 5_000;
/** Of so many rounds, one ends by umount(8), with everything there afterwards. */
const CLEAN_EVERY = 6;
const FLAGS = ['--slab', '128M', '--data-workers', '1', '-o', 'commit_interval=300'];
const FAULTS = [
  'put-errno=28',
  'put-errno=5',
  'put-errno=30',
  'put-delay-ms=15',
  'put-errno=28,after=3,count=4',
];
/** What files of the tree and its log refuse (failing.c). */
const TREE_FAULTS = [
  'space 28 1',
  'space 28 1',
  'write 28 1',
  'write 5 1',
  'write 28 7',
  'write 5 31',
  'flush 5 1',
  'flush 28 1',
  'flush 5 2',
  'space 30 1',
  'write 30 3',
  'slow 15 1',
  'slow 200 5',
] as const;
const COMPLAINTS = /damaged|not authentic|cannot be read|panicked/;
/** What a mount may say that ends because LMDB has given its file up. */
const GIVEN_UP = /metadata \w+ failed|Write error: /;

/** One chain. Its store is left behind when something is lost. */
export class Chain {
  readonly kind: ChainKind;
  readonly seed: number;
  /** Kills that happened, by what was to cause them. */
  readonly kills: Map<string, number> = new Map();
  readonly #draws: Draws;
  readonly #base: string;
  readonly #store: string;
  readonly #faults: string;
  readonly #environment: Record<string, string> = {};
  readonly #actors: Actor[];
  readonly #power: PowerLoss | undefined;
  readonly #shim: string | undefined;
  #mount: Mount | undefined;
  #rounds = 0;
  #checks = 0;
  #complaintsAt = 0;

  constructor(kind: ChainKind, seed: number) {
    this.kind = kind;
    this.seed = seed;
    this.#draws = new Draws(seed);
    this.#base = IN_MEMORY.has(kind)
      ? temporaryDirectory('crash')
      : mkdtempSync(join(tmpdir(), 'millrace-crash-'));
    this.#store = join(this.#base, 'store');
    this.#faults = join(this.#base, 'faults');
    mkdirSync(this.#store);
    writeFileSync(this.#faults, '');
    if (kind === 'power' || kind === 'tree-faults') {
      this.#power = new PowerLoss(this.#store, this.#base, this.#draws);
    }
    if (kind === 'tree-faults') this.#shim = compileShim('failing', this.#base);
    this.#actors = Array.from({ length: ACTORS }, (_, number) => this.#actor(number));
  }

  #actor(number: number): Actor {
    const draws = new Draws(this.seed * 31 + number);
    const level = this.#power === undefined ? 'kill' : 'power';
    const mayStayRefused = this.kind === 'tree-faults';
    const heal = this.#isFailing ? { heal: () => this.#setFaults(''), mayStayRefused } : {};
    return new Actor({ name: `a${number}`, draws, level, ...heal });
  }

  get #isFailing(): boolean {
    return this.kind === 'faults' || this.kind === 'tree-faults';
  }

  /** Comparisons that were made with the model so far. */
  get checks(): number {
    return this.#checks;
  }

  #setFaults(text: string): void {
    writeFileSync(this.#faults, text);
  }

  /** Mounts the empty store and makes the actors' directories. */
  async begin(): Promise<void> {
    const options = { storeDir: this.#store, flags: FLAGS, environment: this.#environment };
    const isWhole = this.kind === 'disk' || this.kind === 'power';
    for (const point of isWhole ? FIRST_POINTS : [this.#draws.pick(FIRST_POINTS)]) {
      this.#arm({ point, passage: 1 });
      await mustBeKilled(options, point);
      this.#count(point);
      this.#powerLoss();
    }
    this.#arm('any time');
    this.#mount = await startMount(options);
    this.#enter();
    for (const actor of this.#actors) await actor.begin();
    await this.#die('any time');
  }

  #arm(ending: Ending): void {
    const env = this.#environment;
    Object.assign(env, this.#power?.environment);
    if (this.kind === 'faults') env['MILLRACE_STORE_FAULTS'] = `file=${this.#faults}`;
    if (this.#shim !== undefined) {
      env['LD_PRELOAD'] = `${this.#shim}:${env['LD_PRELOAD']}`;
      env['MILLRACE_FAILING_PREFIX'] = join(this.#store, 'tree', 'data.mdb');
      env['MILLRACE_FAILING_FILE'] = this.#faults;
    }
    delete env['MILLRACE_TEST_KILL'];
    if (ending !== 'any time') env['MILLRACE_TEST_KILL'] = `${ending.point}:${ending.passage}`;
  }

  /** One mount on what the last one left: compared, worked on, and ended. Throws what is lost. */
  async round(ending: Ending): Promise<void> {
    this.#rounds += 1;
    this.#arm(ending);
    this.#setFaults('');
    const mount = this.#mount as Mount;
    try {
      await mount.remount();
    } catch (error) {
      if (mount.child.signalCode !== 'SIGKILL') throw error;
      return this.#die(ending);
    }
    this.#enter();
    let alive = await this.#verify();
    if (alive) alive = await this.#work(ending);
    if (alive && this.#isClean(ending)) return this.#unmount(ending);
    // Programs learn that the mount is gone before we do.
    if (!alive) await ended(mount);
    await this.#die(ending);
  }

  #enter(): void {
    const mount = this.#mount as Mount;
    for (const actor of this.#actors) actor.enter(mount.dir, () => mount.abort());
  }

  async #verify(): Promise<boolean> {
    const scratch = join(this.#base, 'scratch');
    for (const actor of this.#actors) {
      if (!(await traced(actor, actor.verify(scratch)))) return false;
      this.#checks += 1;
    }
    const told = (this.#mount as Mount).stderr().slice(this.#complaintsAt);
    if (told.split('\n').some((line) => this.#isComplaint(line)))
      throw new Error(`the mount complains: ${told.slice(-2000)}`);
    this.#complaintsAt += told.length;
    return true;
  }

  /** Whether the mount has ended because LMDB has given its file up, which glibc may do as well (see LmdbKv). */
  #hasGivenUp(): boolean {
    const told = (this.#mount as Mount).stderr().slice(this.#complaintsAt);
    return this.kind === 'tree-faults' && GIVEN_UP.test(told);
  }

  #isComplaint(line: string): boolean {
    const hasDied = /died/.test(line) && !(this.kind === 'tree-faults' && GIVEN_UP.test(line));
    return hasDied || COMPLAINTS.test(line);
  }

  /** False when the mount has ended meanwhile. */
  async #work(ending: Ending): Promise<boolean> {
    const steps = 1 + this.#draws.below(2 * STEPS);
    const work = Promise.all(this.#actors.map((actor) => traced(actor, actor.work(steps))));
    if (this.#isFailing) this.#failSometimes(work);
    if (ending === 'any time' && !this.#isClean(ending)) {
      await Promise.race([work, pause(this.#draws.below(WORK_MS))]);
      (this.#mount as Mount).child.kill('SIGKILL');
    }
    const alive = (await work).every(Boolean);
    if (!alive || !this.#isFailing) return alive;
    this.#setFaults('');
    return (await Promise.all(this.#actors.map((actor) => traced(actor, actor.settle())))).every(
      Boolean,
    );
  }

  /** Has the store fail and work in turn until the work is done. */
  #failSometimes(work: Promise<unknown>): void {
    let isDone = false;
    const done = (): void => {
      isDone = true;
    };
    work.then(done, done);
    const turn = async (): Promise<void> => {
      while (!isDone) {
        this.#setFaults(this.#draws.pick([...(this.kind === 'faults' ? FAULTS : TREE_FAULTS), '']));
        await pause(20 + this.#draws.below(150));
      }
    };
    void turn();
  }

  #isClean(ending: Ending): boolean {
    const isEnd = ending !== 'any time' && ['tree-closed', 'log-removed'].includes(ending.point);
    return isEnd || this.#rounds % CLEAN_EVERY === 0;
  }

  async #unmount(ending: Ending): Promise<void> {
    const mount = this.#mount as Mount;
    await Promise.all(this.#actors.map((actor) => actor.leave()));
    const status = await mount.umount();
    const { signalCode } = mount.child;
    if (signalCode === 'SIGKILL' || this.#hasGivenUp()) return this.#die(ending);
    if (status !== 0) throw new Error(`umount: status ${status}: ${mount.stderr().slice(-2000)}`);
    for (const actor of this.#actors) actor.unmounted();
    this.#powerLoss();
  }

  /** The mount is gone, or goes now. */
  async #die(ending: Ending): Promise<void> {
    const mount = this.#mount as Mount;
    const isDead = mount.child.signalCode === 'SIGKILL';
    const cause = ending !== 'any time' && isDead ? ending.point : 'any time';
    this.#count(cause);
    await mount.kill9();
    await Promise.all(this.#actors.map((actor) => actor.leave()));
    this.#powerLoss();
  }

  /** Most kills are a power loss as well: but what one process leaves, the next may rely on. */
  #powerLoss(): void {
    if (this.#draws.below(3) > 0) this.#power?.strike();
  }

  #count(cause: string): void {
    this.kills.set(cause, (this.kills.get(cause) ?? 0) + 1);
  }

  /** Ends what runs; `keep` leaves the store, and says where it is. */
  async end(keep: boolean): Promise<string> {
    await Promise.all(this.#actors.map((actor) => actor.leave()));
    if (this.#mount !== undefined) {
      await this.#mount.kill9();
      destroyMount(this.#mount);
    }
    if (!keep) rmSync(this.#base, { recursive: true, force: true });
    return this.#base;
  }
}

/** What an actor does, and its last calls where it throws. */
function traced<T>(actor: Actor, work: Promise<T>): Promise<T> {
  return work.catch((error: Error) => {
    throw new Error(`${error.message}\n${actor.trace}`);
  });
}

/** Waits for the end of a mount's process, for a while. */
async function ended({ child }: Mount): Promise<void> {
  if (child.signalCode !== null || child.exitCode !== null) return;
  await once(child, 'exit', { signal: AbortSignal.timeout(ENDED_MS) }).catch(() => {});
}

/** Starts a mount that must be killed before it stands. */
async function mustBeKilled(options: MountOptions, point: KillPoint): Promise<void> {
  let told = 'it stands';
  try {
    destroyMount(await startMount(options));
  } catch (error) {
    told = (error as Error).message;
  }
  if (!told.includes('ended with SIGKILL')) throw new Error(`not killed at ${point}: ${told}`);
}
