/** Ends of processes and machines at random: what was flushed, or synced, must be found, and nothing else than a state that was. */
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, test } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { MillraceError } from '../../engine/errors.ts';
import { BufferedKv } from '../../engine/kv/buffered-kv.ts';
import type { Transaction } from '../../engine/kv/kv.ts';
import { MemoryKv } from '../../engine/kv/memory-kv.ts';
import { WriteAheadLog } from '../../engine/kv/write-ahead-log.ts';
import { temporaryDirectory } from '../support/mount.ts';
import { Draws, testSeed } from '../support/random.ts';

const SECTOR_BYTES = 512;
const KEYS = 12;
const RUNS = 8;
/** Seeds that found something once. */
const FOUND = [273784300, 275969451, 20401, 21900];
const STEPS = 120;
type State = ReadonlyMap<string, string>;
type Entries = [Buffer, Buffer][];

const directory = temporaryDirectory('log');
after(() => rmSync(directory, { recursive: true }));

/** A Kv below: what was committed survives a process, what was synced a machine. */
class Below extends MemoryKv {
  refuses = false;
  synced: Entries = [];

  constructor(entries: Entries) {
    super();
    super.transact((transaction) => {
      for (const [key, value] of entries) transaction.put(key, value);
    });
    this.synced = entries;
  }

  entries(): Entries {
    const found: Entries = [];
    this.read((snapshot) =>
      snapshot.scan(Uint8Array.of(0), Uint8Array.of(255), (key, value) => {
        found.push([Buffer.from(key), Buffer.from(value)]);
        return true;
      }),
    );
    return found;
  }

  override transact<T>(body: (transaction: Transaction) => T): T {
    return super.transact((transaction) => {
      const result = body(transaction);
      if (this.refuses) throw new MillraceError('STORE_IO', 'no space');
      return result;
    });
  }

  override async sync(): Promise<void> {
    if (this.refuses) throw new MillraceError('STORE_IO', 'no space');
    const now = this.entries();
    // It takes a while, and others go on meanwhile.
    for (let turn = 0; turn < 3; turn++) await immediate();
    this.synced = now;
  }
}

/** A log that knows what its files hold on the disk. */
class Log extends WriteAheadLog {
  readonly #synced: () => void;

  constructor(paths: readonly [string, string], bootId: string, synced: () => void) {
    super({ paths, bootId, isVolatile: false });
    this.#synced = synced;
  }

  override sync(): Promise<void> {
    return super.sync().then(this.#synced);
  }
}

class Machine {
  readonly #draws: Draws;
  readonly #paths: readonly [string, string];
  readonly #onDisk = new Map<string, Buffer>();
  #boot = 1;
  #below = new Below([]);
  #kv: BufferedKv | undefined;
  #log: Log | undefined;
  /** Every state since the last one that is promised, which is the first. */
  #states: State[] = [new Map()];
  /** The newest state that would survive the end of the process, by its place in `states`. */
  #flushed = 0;
  #counter = 0;

  constructor(draws: Draws, name: string) {
    this.#draws = draws;
    this.#paths = [path.join(directory, `${name}-log0`), path.join(directory, `${name}-log1`)];
  }

  get #now(): State {
    return this.#states.at(-1) as State;
  }

  /** A process starts, and must find one of the states from `promised` on; its place. */
  async #start(promised: number): Promise<number> {
    this.#log = new Log(this.#paths, `boot ${this.#boot}`, () => this.#keep());
    this.#kv = await BufferedKv.open(this.#below, this.#log);
    const found = textOf(this.#contents());
    const at = this.#states.map(textOf).lastIndexOf(found);
    assert.ok(at >= promised, `found ${found}, which is state ${at}, and not ${promised} or later`);
    return at;
  }

  async begin(): Promise<void> {
    await this.#start(0);
  }

  /** What the files hold is on the disk. */
  #keep(): void {
    for (const file of this.#paths) {
      if (existsSync(file)) this.#onDisk.set(file, readFileSync(file));
    }
  }

  #contents(): State {
    const found = new Map<string, string>();
    this.#kv?.read((snapshot) =>
      snapshot.scan(Uint8Array.of(1), Uint8Array.of(255), (key, value) => {
        found.set(Buffer.from(key).toString('latin1'), Buffer.from(value).toString('latin1'));
        return true;
      }),
    );
    return found;
  }

  async step(): Promise<void> {
    const kv = this.#kv as BufferedKv;
    switch (this.#draws.below(12)) {
      case 0:
        this.#below.refuses = this.#draws.below(4) === 0;
        return;
      case 1:
        if (succeeds(() => kv.writeBack())) this.#flushed = this.#states.length - 1;
        return;
      case 2:
      case 3:
        if (succeeds(() => kv.flush())) this.#flushed = this.#states.length - 1;
        return;
      case 4:
        return this.#sync();
      case 5:
        await immediate();
        return;
      default:
        this.#change();
    }
  }

  #change(): void {
    const next = new Map(this.#now);
    const length = this.#draws.pick([3, 30, 30, 3000, 400_000, 1_200_000]);
    (this.#kv as BufferedKv).transact((transaction) => {
      for (let count = 1 + this.#draws.below(3); count > 0; count--) {
        const key = `k${this.#draws.below(KEYS)}`;
        this.#counter += 1;
        if (this.#draws.below(4) === 0) {
          next.delete(key);
          transaction.remove(Buffer.from(key));
        } else {
          const value = `${this.#counter}:`.padEnd(length, 'x');
          next.set(key, value);
          transaction.put(Buffer.from(key), Buffer.from(value));
        }
      }
    });
    this.#states.push(next);
  }

  async #sync(): Promise<void> {
    const before = this.#states.length - 1;
    try {
      await (this.#kv as BufferedKv).sync();
    } catch (error) {
      assert.ok(error instanceof MillraceError && error.code === 'STORE_IO');
      return;
    }
    this.#states = this.#states.slice(before);
    this.#flushed = 0;
  }

  async kill(): Promise<void> {
    this.#log?.close(false);
    const { synced } = this.#below;
    this.#below = new Below(this.#below.entries());
    this.#below.synced = synced;
    const at = await this.#start(this.#flushed);
    this.#states = this.#states.slice(0, at + 1);
    this.#flushed = at;
  }

  async powerLoss(): Promise<void> {
    this.#log?.close(false);
    this.#boot += 1;
    this.#below = new Below(this.#below.synced);
    for (const file of this.#paths) this.#tear(file);
    const at = await this.#start(0);
    this.#states = this.#states.slice(at, at + 1);
    this.#flushed = 0;
  }

  async end(): Promise<void> {
    this.#below.refuses = false;
    await this.#kv?.close();
  }

  /** Of what was not synced, any sectors may be there. */
  #tear(file: string): void {
    if (!existsSync(file)) return;
    const now = readFileSync(file);
    const before = this.#onDisk.get(file);
    if (before === undefined && this.#draws.below(2) === 0) return rmSync(file);
    const bytes = Buffer.alloc(now.length);
    before?.copy(bytes);
    const keeps = this.#draws.pick([0, 1, 2, 3]);
    for (let at = 0; at < now.length; at += SECTOR_BYTES) {
      if (this.#draws.below(3) < keeps) now.copy(bytes, at, at, at + SECTOR_BYTES);
    }
    writeFileSync(file, bytes);
    this.#onDisk.set(file, bytes);
  }
}

function succeeds(write: () => void): boolean {
  try {
    write();
    return true;
  } catch (error) {
    assert.ok(error instanceof MillraceError && error.code === 'STORE_IO');
    return false;
  }
}

function textOf(state: State): string {
  const entries = [...state].sort(([a], [b]) => (a < b ? -1 : 1));
  return entries.map(([key, value]) => `${key}=${value.slice(0, 8)}/${value.length}`).join(' ');
}

test('whatever ends, each state that is found was one, and none is older than what was promised', async () => {
  const first = testSeed();
  const drawn = Array.from({ length: RUNS }, (_, run) => first + run);
  for (const seed of [...FOUND, ...drawn]) {
    const draws = new Draws(seed);
    const machine = new Machine(draws, `${seed}`);
    try {
      await machine.begin();
      for (let step = 0; step < STEPS; step++) {
        if (draws.below(15) > 0) await machine.step();
        else if (draws.below(2) === 0) await machine.kill();
        else await machine.powerLoss();
      }
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
    await machine.end();
  }
});
