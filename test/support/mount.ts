/**
 * Mounts of the real command line for tests: started, watched, and cleared away whatever happens.
 * MILLRACE_CLI names another program to start in place of bin/millrace; MILLRACE_TEST_FRONT the front of every mount
 * that names none.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { testFront } from './front.ts';
import { abortConnection, detach, mountAt } from './mount-table.ts';
import { repositoryRoot } from './repository.ts';

/** The key that every test mount is given: 32 bytes that look like nothing else. */
export const TEST_KEY: Buffer = Buffer.from(
  'c3a5f10e9b7d2468ace013579bdf8642f0e1d2c3b4a5968778695a4b3c2d1e0f',
  'hex',
);

/** How long each step of a mount may take before the test fails. */
export const MOUNT_LIMITS_MS = { start: 30_000, stop: 120_000 } as const;

/** What a test mount is started with. */
export interface MountOptions {
  /** Further arguments of `millrace mount`. */
  flags?: readonly string[];
  /** Added to the environment of the mount process. */
  environment?: Readonly<Record<string, string>>;
  /** A store that exists already; it is not removed. A fresh one unless given. */
  storeDir?: string;
  /** 'absent' starts the first mount without a key file at the path that it is told. */
  key?: 'absent';
  /** Directory of recovery journals; beside the mount unless given. */
  journalDir?: string;
  /** Run the mount process as this user; needs root. */
  user?: { uid: number; gid: number };
}

/** A mount that is served by a process of its own. */
export interface Mount {
  readonly dir: string;
  readonly storeDir: string;
  readonly keyFile: string;
  readonly journalDir: string;
  /** The process that serves the mount now; another one after `remount`. */
  readonly pid: number;
  readonly child: ChildProcess;
  /** All that the processes of this mount have written to stderr. */
  stderr(): string;
  /** Unmounts as umount(8) does and yields the exit status of the process. */
  umount(): Promise<number>;
  /** Sends a signal and yields the exit status of the process. */
  signal(name: NodeJS.Signals): Promise<number>;
  /** Kills the process with SIGKILL and detaches what it leaves behind. */
  kill9(): Promise<void>;
  /** Starts a new process on the same store; the previous one must have ended. */
  remount(): Promise<void>;
  /** Aborts the connection, so that nothing that waits on the mount hangs. */
  abort(): void;
}

/** How a command of millrace ended. */
export interface CommandResult {
  status: number;
  stdout: string;
  stderr: string;
}

/** The program under test. */
export function millracePath(): string {
  return process.env['MILLRACE_CLI'] ?? join(repositoryRoot(), 'bin', 'millrace');
}

/** A new directory in memory (/dev/shm), or in the temporary directory where there is none. */
export function temporaryDirectory(purpose: string): string {
  const parent = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
  const made = mkdtempSync(join(parent, `millrace-${purpose}-`));
  chmodSync(made, 0o755);
  return made;
}

/** A plain directory on tmpfs: what every case is compared with. */
export function oracle(): string {
  return temporaryDirectory('oracle');
}

function fuseDeviceProblem(): string | undefined {
  if (!existsSync('/dev/fuse')) return '/dev/fuse does not exist (modprobe fuse)';
  try {
    closeSync(openSync('/dev/fuse', constants.O_RDWR));
    return undefined;
  } catch (error) {
    return `/dev/fuse cannot be opened: ${(error as Error).message}`;
  }
}

/** Whether this process holds CAP_SYS_ADMIN (bit 21). */
function mayMount(): boolean {
  const status = readFileSync('/proc/self/status', 'latin1');
  const effective = /^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0';
  return (BigInt(`0x${effective}`) & (1n << 21n)) !== 0n;
}

function programExists(name: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((folder) => existsSync(join(folder, name)));
}

/** Why no test can mount here; undefined when it can. */
export function mountProblem(): string | undefined {
  try {
    accessSync(millracePath(), constants.X_OK);
  } catch {
    return `${millracePath()} is not there or not executable: build first`;
  }
  const device = fuseDeviceProblem();
  if (device !== undefined) return device;
  if (mayMount() || programExists('fusermount3')) return undefined;
  return 'neither CAP_SYS_ADMIN nor fusermount3 is there to mount with';
}

/** Why what only root may do cannot be tested; undefined for root. */
export function rootProblem(): string | undefined {
  return process.getuid?.() === 0 ? undefined : 'only root may do this';
}

/** Runs millrace to its end; killed and told as status -1 after half a minute. */
export function runMillrace(
  arguments_: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  return new Promise((resolve) => {
    const options = {
      timeout: 30_000,
      killSignal: 'SIGKILL',
      env: { ...process.env, ...environment },
    } as const;
    const child = execFile(millracePath(), arguments_, options, (_, stdout, stderr) => {
      resolve({ status: child.exitCode ?? -1, stdout, stderr });
    });
  });
}

/** Writes the test key as `millrace mount --key-file` reads it: 64 hexadecimal digits, mode 0600. */
export function writeKey(path: string, key: Buffer = TEST_KEY): void {
  writeFileSync(path, `${key.toString('hex')}\n`, { mode: 0o600 });
}

/** Waits until a condition holds; yields whether it did within the time. */
export async function eventually(
  condition: () => boolean,
  limitMs: number,
  everyMs = 10,
): Promise<boolean> {
  const deadline = Date.now() + limitMs;
  while (!condition()) {
    if (Date.now() > deadline) return false;
    await pause(everyMs);
  }
  return true;
}

const live = new Set<MountProcess>();
let guarded = false;

/** A test process that ends early takes its mounts with it. */
function guardExit(): void {
  if (guarded) return;
  guarded = true;
  process.on('exit', () => {
    for (const each of live) each.destroy();
  });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => process.exit(1));
  }
}

class MountProcess implements Mount {
  readonly dir: string;
  readonly storeDir: string;
  readonly keyFile: string;
  readonly journalDir: string;
  readonly #base: string;
  readonly #options: MountOptions;
  #child: ChildProcess | undefined;
  #stdout = '';
  #stderr = '';

  constructor(options: MountOptions) {
    this.#options = options;
    this.#base = temporaryDirectory('mount');
    this.dir = join(this.#base, 'mnt');
    this.storeDir = options.storeDir ?? join(this.#base, 'store');
    this.keyFile = join(this.#base, 'key');
    this.journalDir = options.journalDir ?? join(this.#base, 'journals');
    mkdirSync(this.dir);
    mkdirSync(this.storeDir, { recursive: true });
    if (options.key !== 'absent') writeKey(this.keyFile);
    if (options.user !== undefined) {
      const { uid, gid } = options.user;
      for (const path of [this.dir, this.storeDir, this.keyFile]) {
        if (existsSync(path)) chownSync(path, uid, gid);
      }
    }
    live.add(this);
    guardExit();
  }

  get child(): ChildProcess {
    if (this.#child === undefined) throw new Error('this mount was never started');
    return this.#child;
  }

  get pid(): number {
    return this.child.pid as number;
  }

  stderr(): string {
    return this.#stderr;
  }

  async remount(): Promise<void> {
    this.#stdout = '';
    const [program, ...arguments_] = this.#commandLine();
    const child = spawn(program as string, arguments_, {
      detached: true,
      env: { ...process.env, ...this.#options.environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    child.on('error', (error) => {
      this.#stderr += `${error.message}\n`;
    });
    child.stdout?.on('data', (data: Buffer) => {
      this.#stdout += data.toString();
    });
    child.stderr?.on('data', (data: Buffer) => {
      this.#stderr += data.toString();
    });
    await eventually(() => this.#mounted() || this.#ended(), MOUNT_LIMITS_MS.start);
    if (this.#ended()) throw this.#failure(`the mount ended with ${this.#status()}`);
    if (!this.#mounted()) throw this.#failure('the mount did not come up in time');
  }

  async umount(): Promise<number> {
    const root = process.getuid?.() === 0;
    const [program, ...arguments_] = root ? ['umount'] : ['fusermount3', '-u'];
    await new Promise<void>((resolve, reject) => {
      execFile(program as string, [...arguments_, this.dir], (error, _, stderr) => {
        if (error === null) resolve();
        else reject(this.#failure(`unmounting failed: ${stderr}`));
      });
    });
    return this.#waitForEnd('unmounting');
  }

  async signal(name: NodeJS.Signals): Promise<number> {
    this.child.kill(name);
    const status = await this.#waitForEnd(name);
    if (mountAt(this.dir) !== undefined) throw this.#failure(`${name} left the mount behind`);
    return status;
  }

  async kill9(): Promise<void> {
    this.#killGroup();
    if (!(await eventually(() => this.#ended(), 10_000))) {
      this.abort();
      await eventually(() => this.#ended(), 10_000);
    }
    detach(this.dir);
    if (!this.#ended()) throw this.#failure('SIGKILL did not end the mount process');
  }

  abort(): void {
    abortConnection(this.dir);
  }

  /** Removes every trace; synchronous, so that it also runs while this process exits. */
  destroy(): void {
    live.delete(this);
    this.abort();
    this.#killGroup();
    detach(this.dir);
    if (mountAt(this.dir) === undefined) {
      rmSync(this.#base, { recursive: true, force: true, maxRetries: 3 });
    }
  }

  #commandLine(): string[] {
    const command = [millracePath(), 'mount', this.dir, '--store', this.storeDir];
    command.push('--key-file', this.keyFile, '--foreground', '--front', testFront());
    command.push('--journal-dir', this.journalDir);
    command.push(...(this.#options.flags ?? []));
    const user = this.#options.user;
    if (user === undefined) return command;
    const identity = ['--reuid', String(user.uid), '--regid', String(user.gid), '--clear-groups'];
    return ['setpriv', ...identity, ...command];
  }

  #mounted(): boolean {
    return mountAt(this.dir) !== undefined || /\bmounted\b/.test(this.#stdout);
  }

  #ended(): boolean {
    const child = this.child;
    return child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
  }

  #status(): string {
    return `${this.child.signalCode ?? this.child.exitCode ?? 'no start'}`;
  }

  #failure(reason: string): Error {
    return new Error(`${reason}; stderr of millrace:\n${this.#stderr.slice(-4_000)}`);
  }

  async #waitForEnd(what: string): Promise<number> {
    if (!(await eventually(() => this.#ended(), MOUNT_LIMITS_MS.stop))) {
      this.abort();
      this.#killGroup();
      throw this.#failure(`${what} did not end the mount process in time`);
    }
    return this.child.exitCode ?? -1;
  }

  #killGroup(): void {
    if (this.#child?.pid === undefined || this.#ended()) return;
    try {
      process.kill(-this.#child.pid, 'SIGKILL');
    } catch {
      // It has ended in the meantime.
    }
  }
}

/** Starts a mount; the caller must call `destroyMount` in the end. */
export async function startMount(options: MountOptions = {}): Promise<Mount> {
  const mount = new MountProcess(options);
  try {
    await mount.remount();
    return mount;
  } catch (error) {
    mount.destroy();
    throw error;
  }
}

/** Clears a mount away, whatever state it is in. */
export function destroyMount(mount: Mount): void {
  if (mount instanceof MountProcess) mount.destroy();
}

/** Runs the body with a mount, and clears the mount away however the body ends. */
export async function withMount<T>(
  options: MountOptions,
  body: (mount: Mount) => Promise<T>,
): Promise<T> {
  const mount = await startMount(options);
  try {
    return await body(mount);
  } finally {
    destroyMount(mount);
  }
}
