/** One store in use for hours: programs, checks, kills, unmounts, fsck and gc in turn. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Actor } from '../crash/actor.ts';
import { destroyMount, type Mount, runMillrace, startMount } from '../support/mount.ts';
import { Draws } from '../support/random.ts';
import { type Footprint, footprintOf, growth } from './footprint.ts';
import { Streamer } from './streamer.ts';

/** How a cycle ends. */
export type SoakEnding = 'goes on' | 'kill -9' | 'umount';

/** One line of the table. */
export interface SoakRow {
  readonly cycle: number;
  readonly ending: SoakEnding;
  /** Cycles that this process has served. */
  readonly age: number;
  readonly footprint: Footprint;
  readonly writtenMib: number;
  /** What was done to the store besides, in words. */
  readonly notes: string;
}

const ACTORS = 2;
/** Steps of an actor between two looks at the clock. */
const STEPS = 15;
/** Cycles that a process lives, at least and at most. */
const LIFE_MIN = 3;
const LIFE_MAX = 12;
/** Of ends of processes, this many in ten are kills. */
const KILLS_OF_TEN = 5;
/** Milliseconds after which frames and inodes must be free again: longer than closed inodes keep their slots. */
const REST_MS = 30_000;
/** Frames that fronts hold for what comes next: two for each that there is, the tree worker's included. */
const FRONT_FRAMES = 6;
const FLAGS = ['--slab', '128M', '--data-workers', '2', '-o', 'commit_interval=500'];
const COMPLAINTS = /damaged|not authentic|cannot be read|died|panicked/;

/** The numbers of `.millrace/status` that tell whether a mount is at rest. */
interface MountStatus {
  readonly frames: { readonly used: number };
  readonly openInodes: number;
  readonly dirtyInodes: number;
}

/** A store, the mount that serves it, and the programs on it. */
export class Soak {
  readonly #draws: Draws;
  readonly #base: string;
  readonly #store: string;
  readonly #actors: readonly Actor[];
  readonly #streamer: Streamer;
  #mount: Mount | undefined;
  #cycle = 0;
  #age = 0;
  #life = 0;
  /** What the process took when it was warm. */
  #warm: Footprint | undefined;
  #complaintsAt = 0;

  constructor(seed: number) {
    this.#draws = new Draws(seed);
    this.#base = mkdtempSync(join(tmpdir(), 'millrace-soak-'));
    this.#store = join(this.#base, 'store');
    mkdirSync(this.#store);
    this.#actors = Array.from({ length: ACTORS }, (_, number) => {
      const draws = new Draws(seed * 31 + number);
      return new Actor({ name: `a${number}`, draws, level: 'kill' });
    });
    this.#streamer = new Streamer(new Draws(seed * 31 + ACTORS));
  }

  async begin(): Promise<void> {
    this.#mount = await startMount({ storeDir: this.#store, flags: FLAGS });
    this.#enter();
    for (const actor of this.#actors) await actor.begin();
    await this.#streamer.begin();
    this.#life = this.#newLife();
  }

  /** Works for a while, checks everything, and ends as chance has it. Throws what is wrong. */
  async cycle(seconds: number): Promise<SoakRow> {
    this.#cycle += 1;
    this.#age += 1;
    const notes: string[] = [];
    const work = this.#work(Date.now() + seconds * 1000);
    await pause(this.#draws.below(seconds * 1000));
    notes.push(await this.#collect());
    assert.ok(await work, 'the mount has ended');
    for (const actor of this.#actors) assert.ok(await actor.settle(), 'the mount has ended');
    await this.#verify();
    const footprint = await this.#rest();
    this.#warm ??= footprint;
    const grown = growth(this.#warm, footprint);
    if (grown !== undefined) throw new Error(`the process has grown by ${grown}`);
    const ending = this.#ending();
    const age = this.#age;
    if (ending === 'kill -9') await this.#kill();
    if (ending === 'umount') notes.push(`unmounted: ${await this.#unmount()}`);
    const writtenMib = Math.round(this.#streamer.written / 2 ** 20);
    return { cycle: this.#cycle, ending, age, footprint, writtenMib, notes: notes.join('; ') };
  }

  #newLife(): number {
    return LIFE_MIN + this.#draws.below(LIFE_MAX - LIFE_MIN + 1);
  }

  #ending(): SoakEnding {
    if (this.#age < this.#life) return 'goes on';
    return this.#draws.below(10) < KILLS_OF_TEN ? 'kill -9' : 'umount';
  }

  #running(): Mount {
    assert.ok(this.#mount !== undefined, 'nothing is mounted');
    return this.#mount;
  }

  #enter(): void {
    const mount = this.#running();
    const onStuck = (): void => mount.abort();
    for (const program of [...this.#actors, this.#streamer]) program.enter(mount.dir, onStuck);
  }

  async #leave(): Promise<void> {
    for (const program of [...this.#actors, this.#streamer]) await program.leave();
  }

  /** Has all programs work side by side until then; what they say of the mount being there. */
  async #work(until: number): Promise<boolean> {
    const actors = this.#actors.map(async (actor) => {
      while (Date.now() < until) if (!(await actor.work(STEPS))) return false;
      return true;
    });
    const stream = async (): Promise<boolean> => {
      while (Date.now() < until) if (!(await this.#streamer.step())) return false;
      return true;
    };
    return (await Promise.all([...actors, stream()])).every(Boolean);
  }

  async #verify(): Promise<void> {
    const scratch = join(this.#base, 'scratch');
    for (const actor of this.#actors) {
      const isWhole = await actor.verify(scratch).catch((error: Error) => {
        throw new Error(`${error.message}\n${actor.trace}`);
      });
      assert.ok(isWhole, 'the mount has ended');
    }
    assert.ok(await this.#streamer.verify(), 'the mount has ended');
    const told = this.#running().stderr().slice(this.#complaintsAt);
    if (COMPLAINTS.test(told)) throw new Error(`the mount complains: ${told.slice(-2000)}`);
    this.#complaintsAt += told.length;
  }

  // ---- rest ----

  async #status(): Promise<MountStatus> {
    const text = await readFile(join(this.#running().dir, '.millrace', 'status'), 'utf8');
    const status = JSON.parse(text) as MountStatus;
    for (const number of [status.openInodes, status.dirtyInodes, status.frames.used]) {
      assert.ok(Number.isInteger(number), `.millrace/status: ${text}`);
    }
    return status;
  }

  /** What the process takes once nothing is under way: all frames and inodes must be free again. */
  async #rest(): Promise<Footprint> {
    const deadline = Date.now() + REST_MS;
    for (;;) {
      const { frames, openInodes, dirtyInodes } = await this.#status();
      if (frames.used <= FRONT_FRAMES && openInodes === 0 && dirtyInodes === 0) break;
      if (Date.now() > deadline) {
        const inodes = `${openInodes} open and ${dirtyInodes} dirty inodes`;
        throw new Error(`${frames.used} frames, ${inodes} are kept at rest`);
      }
      await pause(100);
    }
    return footprintOf(this.#running().pid);
  }

  // ---- upkeep ----

  #upkeep(command: 'fsck' | 'gc', ...words: string[]): ReturnType<typeof runMillrace> {
    const where = ['--store', this.#store, '--key-file', this.#running().keyFile, '--json'];
    return runMillrace([command, ...where, ...words]);
  }

  /** Deletes what no file needs while programs work. */
  async #collect(): Promise<string> {
    const { status, stdout, stderr } = await this.#upkeep('gc');
    assert.equal(status, 0, `gc: ${stderr}`);
    return `gc deleted ${deletedOf(stdout)}`;
  }

  // ---- ends ----

  /** Ends the process while programs work, and compares what the next one finds. */
  async #kill(): Promise<void> {
    const work = this.#work(Date.now() + 60_000);
    await Promise.race([work, pause(200 + this.#draws.below(3000))]);
    this.#running().child.kill('SIGKILL');
    assert.ok(!(await work), 'programs went on without a mount');
    await this.#running().kill9();
    await this.#leave();
    await this.#again();
    await this.#verify();
  }

  /** Unmounts, checks every chunk, deletes what no file needs, and checks again. */
  async #unmount(): Promise<string> {
    await this.#leave();
    const mount = this.#running();
    const status = await mount.umount();
    assert.equal(status, 0, `umount: ${mount.stderr().slice(-2000)}`);
    for (const actor of this.#actors) actor.unmounted();
    await this.#check();
    const { status: swept, stdout, stderr } = await this.#upkeep('gc', '--grace', '0');
    assert.equal(swept, 0, `gc: ${stderr}`);
    await this.#check();
    await this.#again();
    await this.#verify();
    return `fsck --deep, gc deleted ${deletedOf(stdout)}, fsck --deep`;
  }

  async #check(): Promise<void> {
    const { status, stdout, stderr } = await this.#upkeep('fsck', '--deep');
    assert.equal(status, 0, `fsck --deep: ${stdout}${stderr}`);
  }

  /** Another process on the same store. */
  async #again(): Promise<void> {
    await this.#running().remount();
    this.#enter();
    this.#age = 0;
    this.#life = this.#newLife();
    this.#warm = undefined;
  }

  /** Ends what runs; `keep` leaves the store, and says where it is. */
  async end(keep: boolean): Promise<string> {
    await this.#leave();
    if (this.#mount !== undefined) {
      await this.#mount.kill9();
      destroyMount(this.#mount);
    }
    if (!keep) rmSync(this.#base, { recursive: true, force: true });
    return this.#base;
  }
}

function deletedOf(report: string): string {
  const { deleted } = JSON.parse(report) as { deleted: number };
  return `${deleted} chunks`;
}
