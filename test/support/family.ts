/**
 * A family of cases that all run twice: on a mount and on a plain tmpfs directory, with every
 * outcome and the resulting trees compared. MILLRACE_TEST_DIR puts a plain directory in the place
 * of the mount: so the cases themselves are proven against a file system that is right.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { frontProblem, type Need } from './front.ts';
import { destroyMount, type Mount, type MountOptions, mountProblem } from './mount.ts';
import { oracle, rootProblem, startMount } from './mount.ts';
import { type Outcome, type Request, Syscalls, type SyscallsOptions } from './syscalls.ts';

/** What compares by name in a trace: a call and its outcome. */
type TraceLine = [request: Request, outcome: Outcome];

/** One of the two directories that a case runs on. */
export interface Place {
  /** Absolute path of a fresh directory for this case. */
  readonly root: string;
  /** False on the oracle. */
  readonly underTest: boolean;
  /** A path below the root. */
  at(path: string): string;
  /** One call whose outcome both places must share. */
  call(...request: Request): Promise<Outcome>;
  /** A call that must succeed, and whose value both places must share. */
  ok(...request: Request): Promise<unknown>;
  /** A call that must fail with the errno named. */
  fails(errno: string, ...request: Request): Promise<void>;
  /** A call that must succeed and whose value is this place's own affair. */
  own(...request: Request): Promise<unknown>;
  /** A further process on the same place; it ends with the case. */
  process(): Syscalls;
  /** Unmounts and mounts again: nothing may be open. On a plain directory it changes nothing. */
  remount(): Promise<void>;
  /** Kills the mount process and mounts again. On a plain directory it changes nothing. */
  crash(): Promise<void>;
}

/** How one case runs. */
export interface CaseOptions {
  /** Milliseconds for both places together; 120,000 unless given. */
  timeoutMs?: number;
  /** True when the case needs root; it is skipped with the reason otherwise. */
  root?: true;
  /** What not every front can; the case is skipped with the reason on those. */
  needs?: Need;
  /** 'times' compares mtimes of the trees too; 'none' leaves the trees alone. */
  trees?: 'times' | 'none';
}

/** Defines the cases of a family. */
export interface Family {
  /** A case that runs on both places and is compared. */
  both(title: string, body: (place: Place) => Promise<void>, options?: CaseOptions): void;
  /** A case of the mount alone; skipped where a plain directory stands in its place. */
  mountOnly(title: string, body: (mount: Mount, place: Place) => Promise<void>, needs?: Need): void;
}

class CasePlace implements Place {
  readonly root: string;
  readonly underTest: boolean;
  readonly trace: TraceLine[] = [];
  readonly #mount: Mount | undefined;
  readonly #processes: Syscalls[] = [];
  #main: Syscalls | undefined;

  constructor(options: { root: string; mount: Mount | undefined; underTest: boolean }) {
    this.root = options.root;
    this.underTest = options.underTest;
    this.#mount = options.mount;
  }

  at(path: string): string {
    return `${this.root}/${path}`;
  }

  async call(...request: Request): Promise<Outcome> {
    const outcome = await this.#first().call(...request);
    this.trace.push([this.#relative(request), outcome]);
    return outcome;
  }

  async ok(...request: Request): Promise<unknown> {
    const outcome = await this.call(...request);
    if ('value' in outcome) return outcome.value;
    assert.fail(`${this.#told(request)} failed with ${outcome.errno}`);
  }

  async fails(errno: string, ...request: Request): Promise<void> {
    const outcome = await this.call(...request);
    assert.deepEqual(outcome, { errno }, this.#told(request));
  }

  async own(...request: Request): Promise<unknown> {
    const outcome = await this.#first().call(...request);
    if ('value' in outcome) return outcome.value;
    assert.fail(`${this.#told(request)} failed with ${outcome.errno}`);
  }

  process(): Syscalls {
    const made = new Syscalls(this.#processOptions());
    this.#processes.push(made);
    return made;
  }

  async remount(): Promise<void> {
    if (this.#mount === undefined) return;
    await this.closeProcesses();
    assert.equal(await this.#mount.umount(), 0, 'exit status of the mount process');
    await this.#mount.remount();
  }

  async crash(): Promise<void> {
    if (this.#mount === undefined) return;
    await this.#mount.kill9();
    await this.closeProcesses();
    await this.#mount.remount();
  }

  async closeProcesses(): Promise<void> {
    this.#main = undefined;
    await Promise.all(this.#processes.splice(0).map((each) => each.close()));
  }

  #processOptions(): SyscallsOptions {
    const mount = this.#mount;
    return mount === undefined ? {} : { onStuck: () => mount.abort() };
  }

  #first(): Syscalls {
    this.#main ??= this.process();
    return this.#main;
  }

  #relative(request: Request): Request {
    return JSON.parse(JSON.stringify(request).replaceAll(this.root, '.')) as Request;
  }

  #told(request: Request): string {
    const where = this.underTest ? 'under test' : 'on the oracle';
    return `${where}: ${JSON.stringify(this.#relative(request)).slice(0, 300)}`;
  }
}

/** The two directories of a family, and the mount behind the first of them. */
class FamilyGround {
  mount: Mount | undefined;
  #directory = '';
  #oracle = '';
  #made: string | undefined;
  readonly #options: MountOptions;
  #opened: Promise<void> | undefined;

  constructor(options: MountOptions) {
    this.#options = options;
  }

  get oracle(): string {
    return this.#oracle;
  }

  get underTest(): string {
    return this.#directory;
  }

  /** Resolves once both directories are there; the first caller makes them. */
  ready(): Promise<void> {
    this.#opened ??= this.#open(this.#options);
    return this.#opened;
  }

  async #open(options: MountOptions): Promise<void> {
    this.#oracle = oracle();
    const plain = process.env['MILLRACE_TEST_DIR'];
    if (plain === undefined) {
      this.mount = await startMount(options);
      this.#directory = this.mount.dir;
      return;
    }
    mkdirSync(plain, { recursive: true });
    this.#made = mkdtempSync(join(plain, 'family-'));
    this.#directory = this.#made;
  }

  async close(): Promise<void> {
    try {
      if (this.mount !== undefined) {
        assert.equal(await this.mount.umount(), 0, this.mount.stderr().slice(-4_000));
      }
    } finally {
      if (this.mount !== undefined) destroyMount(this.mount);
      for (const directory of [this.#oracle, this.#made]) {
        if (directory !== undefined && directory !== '') {
          rmSync(directory, { recursive: true, force: true });
        }
      }
    }
  }
}

function place(ground: FamilyGround, name: string, underTest: boolean): CasePlace {
  const parent = underTest ? ground.underTest : ground.oracle;
  const mount = underTest ? ground.mount : undefined;
  return new CasePlace({ root: `${parent}/${name}`, mount, underTest });
}

async function onPlace(
  where: CasePlace,
  body: (place: Place) => Promise<void>,
  trees: CaseOptions['trees'],
): Promise<unknown> {
  try {
    await where.own('mkdir', where.root, 0o755);
    await body(where);
    const tree = trees === 'none' ? {} : await where.own('tree', where.root, trees === 'times');
    await where.own('remove_tree', where.root);
    return tree;
  } finally {
    await where.closeProcesses();
  }
}

async function compareBoth(
  first: CasePlace,
  second: CasePlace,
  body: (place: Place) => Promise<void>,
  trees: CaseOptions['trees'],
): Promise<void> {
  const expected = await onPlace(second, body, trees);
  const actual = await onPlace(first, body, trees);
  assert.deepEqual(first.trace, second.trace, 'the calls had other outcomes than on tmpfs');
  assert.deepEqual(actual, expected, 'the calls left another tree than on tmpfs');
}

function familyProblem(): string | undefined {
  return process.env['MILLRACE_TEST_DIR'] === undefined ? mountProblem() : undefined;
}

/** A plain directory in place of the mount has no front. */
function familyFrontProblem(need: Need | undefined): string | undefined {
  return process.env['MILLRACE_TEST_DIR'] === undefined ? frontProblem(need) : undefined;
}

const PLAIN = 'MILLRACE_TEST_DIR names a plain directory: nothing to control';

/** Closes the ground; a failure also fails the file, whatever the runner makes of its hooks. */
async function closeGround(ground: FamilyGround): Promise<void> {
  try {
    await ground.close();
  } catch (error) {
    process.exitCode = 1;
    process.stderr.write(`the family did not end well: ${(error as Error).message}\n`);
    throw error;
  }
}

/**
 * The cases of a file, which share one mount; each is skipped with the reason where none is
 * possible, or where the front lacks what all of them need. The mount comes up with the first case and goes behind the last one.
 */
export function family(options: MountOptions = {}, needed?: Need): Family {
  const problem = familyProblem();
  const ground = new FamilyGround(options);
  let number = 0;
  after(() => closeGround(ground));
  return {
    both(title, body, how = {}) {
      const skip =
        problem ??
        (how.root ? rootProblem() : undefined) ??
        familyFrontProblem(how.needs ?? needed) ??
        false;
      test(title, { skip, timeout: how.timeoutMs ?? 120_000 }, async () => {
        await ground.ready();
        number += 1;
        const name = `case-${number}`;
        const pair = [place(ground, name, true), place(ground, name, false)] as const;
        await compareBoth(...pair, body, how.trees);
      });
    },
    mountOnly(title, body, needs) {
      const plain = process.env['MILLRACE_TEST_DIR'] === undefined ? undefined : PLAIN;
      const skip = problem ?? plain ?? frontProblem(needs ?? needed) ?? false;
      test(title, { skip, timeout: 120_000 }, async () => {
        await ground.ready();
        number += 1;
        const where = place(ground, `case-${number}`, true);
        await onPlace(where, (each) => body(ground.mount as Mount, each), 'none');
      });
    },
  };
}

/** A test with its own mount; skipped with the reason where none is possible. */
export function mountTest(
  title: string,
  body: () => Promise<void>,
  options: { root?: true; timeoutMs?: number; needs?: Need | undefined } = {},
): void {
  const plain = process.env['MILLRACE_TEST_DIR'] === undefined ? undefined : PLAIN;
  const root = options.root ? rootProblem() : undefined;
  const skip = plain ?? mountProblem() ?? root ?? frontProblem(options.needs) ?? false;
  test(title, { skip, timeout: options.timeoutMs ?? 180_000 }, body);
}
