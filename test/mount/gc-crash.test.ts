import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ask } from '../../bin/order-socket.ts';
import { findServing } from '../../bin/serving-record.ts';
import { KILL_POINTS, type KillPoint } from '../../engine/kill-points.ts';
import { Actor, type Level } from '../crash/actor.ts';
import { PowerLoss } from '../crash/power-loss.ts';
import { mountTest } from '../support/family.ts';
import {
  destroyMount,
  eventually,
  type Mount,
  runMillrace,
  startMount,
  temporaryDirectory,
} from '../support/mount.ts';
import { Draws, testSeed } from '../support/random.ts';

/** What is done to a mount until its sentence strikes. */
const ROUNDS_MAX = 60;
const STEPS = 25;
const FLAGS = ['--slab', '64M', '-o', 'commit_interval=100'];
const POINTS = (Object.keys(KILL_POINTS) as KillPoint[]).filter(
  (point) => KILL_POINTS[point] === 'collection',
);
/** Where each kind of end is played; at the third chunk some are gone, and others are not. */
const SENTENCES: Readonly<Record<Level, readonly string[]>> = {
  kill: POINTS.map((point) => `${point}:1`),
  power: ['marks-durable:1', 'chunk-delete:1', 'chunk-deleted:3', 'sweep-ended:1'],
};

/** Steps of one program; what it did is told when a step fails. */
async function workOf(actor: Actor): Promise<void> {
  await actor.work(STEPS).catch((error: Error) => {
    throw new Error(`${error.message}\n${actor.trace}`);
  });
}

/** A store, and two programs that know what it must hold. */
class Ground {
  readonly base: string;
  readonly #store: string;
  readonly #environment: Record<string, string> = {};
  readonly #actors: Actor[];
  readonly #power: PowerLoss | undefined;
  #mount: Mount | undefined;

  constructor(level: Level, seed: number) {
    // A loss of power is played on files that can be linked, which the store's own file system does.
    this.base =
      level === 'power'
        ? mkdtempSync(join(tmpdir(), 'millrace-gc-crash-'))
        : temporaryDirectory('gc-crash');
    this.#store = join(this.base, 'store');
    mkdirSync(this.#store);
    const draws = new Draws(seed);
    if (level === 'power') this.#power = new PowerLoss(this.#store, this.base, draws);
    Object.assign(this.#environment, this.#power?.environment);
    this.#actors = [0, 1].map(
      (n) => new Actor({ name: `a${n}`, draws: new Draws(seed * 7 + n), level }),
    );
  }

  get mount(): Mount {
    assert.ok(this.#mount !== undefined);
    return this.#mount;
  }

  async begin(): Promise<void> {
    const options = { storeDir: this.#store, flags: FLAGS, environment: this.#environment };
    this.#mount = await startMount(options);
    this.#enter();
    for (const actor of this.#actors) await actor.begin();
    await this.#die();
  }

  /** Works and collects until the process has passed the point. */
  async killAt(sentence: string): Promise<void> {
    this.#environment['MILLRACE_TEST_KILL'] = sentence;
    await this.mount.remount();
    this.#enter();
    for (let round = 0; round < ROUNDS_MAX && this.#isAlive; round++) {
      const work = Promise.all(this.#actors.map((actor) => workOf(actor)));
      await Promise.all([work, this.#collect()]);
    }
    assert.equal(this.mount.child.signalCode, 'SIGKILL', `${sentence} was never passed`);
    await this.#die();
    delete this.#environment['MILLRACE_TEST_KILL'];
  }

  /** Mounts what is left, compares it with what was promised, and checks the store. */
  async verify(): Promise<void> {
    await this.mount.remount();
    this.#enter();
    for (const actor of this.#actors) {
      const isAlive = await actor.verify(join(this.base, 'scratch')).catch((error: Error) => {
        throw new Error(`${error.message}\n${actor.trace}`);
      });
      assert.ok(isAlive, this.mount.stderr());
    }
    await this.#collect();
    await Promise.all(this.#actors.map((actor) => actor.leave()));
    assert.equal(await this.mount.umount(), 0, this.mount.stderr());
    for (const actor of this.#actors) actor.unmounted();
    const { keyFile } = this.mount;
    const words = ['fsck', '--deep', '--json', '--store', this.#store, '--key-file', keyFile];
    const checked = await runMillrace(words);
    assert.equal(checked.status, 0, checked.stdout + checked.stderr);
    // The next loss of power begins here.
    this.#power?.strike();
  }

  async end(): Promise<void> {
    await Promise.all(this.#actors.map((actor) => actor.leave()));
    if (this.#mount !== undefined) destroyMount(this.#mount);
    rmSync(this.base, { recursive: true, force: true });
  }

  get #isAlive(): boolean {
    const { exitCode, signalCode } = this.mount.child;
    return exitCode === null && signalCode === null;
  }

  /** A mount that dies meanwhile answers nothing. */
  async #collect(): Promise<void> {
    const serving = findServing(this.#store);
    if (serving === undefined) return;
    const order = { order: 'gc', graceSeconds: 0, dryRun: false } as const;
    await ask(serving, order).catch((error: Error) => {
      assert.match(error.message, /does not answer/);
    });
  }

  #enter(): void {
    const { dir } = this.mount;
    for (const actor of this.#actors) actor.enter(dir, () => this.mount.abort());
  }

  async #die(): Promise<void> {
    await this.mount.kill9();
    await Promise.all(this.#actors.map((actor) => actor.leave()));
    this.#power?.strike();
  }
}

for (const level of ['kill', 'power'] as const) {
  const what = level === 'kill' ? 'kill' : 'loss of power';
  mountTest(
    `a ${what} at any point of a collection loses nothing`,
    async () => {
      const seed = testSeed();
      const ground = new Ground(level, seed);
      try {
        await ground.begin();
        for (const sentence of SENTENCES[level]) {
          try {
            await ground.killAt(sentence);
            await ground.verify();
          } catch (error) {
            throw new Error(`${sentence}, seed ${seed}`, { cause: error });
          }
        }
      } finally {
        await ground.end();
      }
    },
    { root: true, timeoutMs: 500_000 },
  );
}

mountTest(
  'no loss of power brings back a file whose content was deleted',
  async () => {
    const seed = testSeed();
    const base = mkdtempSync(join(tmpdir(), 'millrace-gc-power-'));
    const store = join(base, 'store');
    mkdirSync(store);
    const power = new PowerLoss(store, base, new Draws(seed));
    const environment = { ...power.environment };
    const options = { storeDir: store, flags: ['-o', 'commit_interval=0'], environment };
    const mount = await startMount(options);
    try {
      for (let round = 0; round < 4; round++) {
        const path = join(mount.dir, 'file');
        const content = randomBytes(9 << 20);
        const file = await open(path, 'w');
        await file.write(content);
        await file.sync();
        await file.close();
        // Nobody syncs that it is gone, but for the collection.
        await rm(path);
        await eventually(() => findServing(store) !== undefined, 30_000);
        const serving = findServing(store);
        assert.ok(serving !== undefined, 'nobody serves the store');
        const swept = await ask(serving, { order: 'gc', graceSeconds: 0, dryRun: false });
        assert.ok(swept.deleted >= 3);
        await mount.kill9();
        power.strike();
        Object.assign(environment, power.environment);
        await mount.remount();
        assert.deepEqual(await readdir(mount.dir), [], `seed ${seed}, round ${round}`);
      }
    } finally {
      destroyMount(mount);
      rmSync(base, { recursive: true, force: true });
    }
  },
  { root: true },
);
