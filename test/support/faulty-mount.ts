/** A mount whose store refuses chunks when a test says so, and whose recovery journals can be looked at. */
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type CommandResult,
  type Mount,
  runMillrace,
  temporaryDirectory,
  withMount,
} from './mount.ts';
import { Syscalls } from './syscalls.ts';

/** The mount, and what the test decides about it. */
export class FaultyMount {
  readonly mount: Mount;
  /** Read whenever a mount process starts. */
  readonly #environment: Record<string, string>;
  readonly #faults: string;

  constructor(mount: Mount, environment: Record<string, string>, faults: string) {
    this.mount = mount;
    this.#environment = environment;
    this.#faults = faults;
  }

  /** Puts fail from now on, or no more. */
  refuse(isRefusing: boolean): void {
    writeFileSync(this.#faults, isRefusing ? 'put-errno=28' : '');
  }

  /** The next mount process is killed when it passes a point for the nth time; none without one. */
  killAt(point?: string): void {
    if (point === undefined) delete this.#environment['MILLRACE_TEST_KILL'];
    else this.#environment['MILLRACE_TEST_KILL'] = point;
  }

  /** The next mount process has threads of a role die, see `workers/mortality.ts`; none without one. */
  dieAt(life?: string): void {
    if (life === undefined) delete this.#environment['MILLRACE_TEST_DIE'];
    else this.#environment['MILLRACE_TEST_DIE'] = life;
  }

  /** Journals in all states, as paths. */
  journals(directory: string = this.mount.journalDir): string[] {
    const names = readdirSync(directory, { recursive: true, encoding: 'utf8' });
    return names
      .filter((name) => /\.(journal|aside|part)$/.test(name))
      .sort()
      .map((name) => join(directory, name));
  }

  /** `millrace recover` with these words. */
  recover(...words: string[]): Promise<CommandResult> {
    const { storeDir, keyFile, journalDir } = this.mount;
    const places = ['--store', storeDir, '--key-file', keyFile, '--journal-dir', journalDir];
    return runMillrace(['recover', ...words, ...places], this.#environment);
  }

  /** Another command on the store. */
  command(...words: string[]): Promise<CommandResult> {
    const { storeDir, keyFile } = this.mount;
    return runMillrace([...words, '--store', storeDir, '--key-file', keyFile], this.#environment);
  }

  /** System calls on the mount, while `body` runs. */
  async calls<T>(body: (calls: Syscalls, dir: string) => Promise<T>): Promise<T> {
    const calls = new Syscalls({ onStuck: () => this.mount.abort() });
    try {
      return await body(calls, this.mount.dir);
    } finally {
      await calls.close();
    }
  }
}

/** Runs the body with such a mount. Nothing is committed without being asked, unless `flags` say so. */
export async function withFaultyMount(
  body: (faulty: FaultyMount) => Promise<void>,
  options: { storeDir?: string; flags?: readonly string[] } = {},
): Promise<void> {
  const control = temporaryDirectory('faults');
  const faults = join(control, 'faults');
  writeFileSync(faults, '');
  const environment: Record<string, string> = { MILLRACE_STORE_FAULTS: `file=${faults}` };
  try {
    const all = { flags: ['-o', 'commit_interval=0'], ...options, environment };
    await withMount(all, (mount) => body(new FaultyMount(mount, environment, faults)));
  } finally {
    rmSync(control, { recursive: true, force: true });
  }
}
