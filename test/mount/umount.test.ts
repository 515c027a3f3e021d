/** What `millrace umount` waits for and tells, whoever asks and whatever was mounted on the directory before. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { identify, isRunning, type ProcessIdentity } from '../../bin/server-process.ts';
import { mountTest } from '../support/family.ts';
import { detach, mountAt } from '../support/mount-table.ts';
import {
  type CommandResult,
  eventually,
  runMillrace,
  temporaryDirectory,
  writeKey,
} from '../support/mount.ts';

const BYTES = 100_000;
const LIMIT_MS = 30_000;

/** How many processes have a file of this name open. */
function holdersOf(name: string): number {
  const opened = (pid: string): string[] => {
    try {
      return readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
    } catch {
      return []; // It has ended.
    }
  };
  const pids = readdirSync('/proc').filter((each) => /^\d+$/.test(each));
  return pids.filter((pid) => opened(pid).some((file) => file.endsWith(name))).length;
}

/** A mount in the background whose store refuses a file, and then keeps the drain waiting. */
class Server {
  readonly pid: number;
  readonly #process: ProcessIdentity;
  readonly #faults: string;
  readonly #pipe: string;
  readonly #fd: number;

  constructor(pid: number, faults: string, pipe: string) {
    this.pid = pid;
    this.#process = identify(pid);
    this.#faults = faults;
    this.#pipe = pipe;
    this.#fd = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK);
  }

  /** A file that programs have closed and the store does not have; from now on puts wait. */
  async leaveUnstored(directory: string): Promise<void> {
    const written = writeFile(join(directory, 'file'), Buffer.alloc(BYTES, 1));
    await assert.rejects(written, { code: 'ENOSPC' });
    writeFileSync(this.#faults, `fifo=${this.#pipe}`);
  }

  /** Puts wait no more. */
  release(): void {
    writeFileSync(this.#faults, '');
    writeSync(this.#fd, Buffer.alloc(1000));
  }

  /** Not when it has ended and waits to be reaped. */
  isAlive(): boolean {
    return isRunning(this.#process);
  }

  kill(): void {
    if (this.isAlive()) process.kill(this.pid, 'SIGKILL');
  }

  close(): void {
    closeSync(this.#fd);
    this.kill();
  }
}

/** A directory to mount on, and the servers of its mounts. */
class Ground {
  readonly base: string = temporaryDirectory('umount');
  readonly dir: string = this.at('mnt');
  readonly #servers: Server[] = [];

  constructor() {
    for (const name of ['mnt', 'run-a', 'run-b']) mkdirSync(this.at(name), { mode: 0o700 });
    writeKey(this.at('key'));
  }

  at(name: string): string {
    return join(this.base, name);
  }

  /** What is in the caller's directory of records. */
  records(run: string): string[] {
    return readdirSync(join(this.at(run), `millrace-${process.getuid?.()}`));
  }

  #environment(run: string): Record<string, string> {
    return { XDG_RUNTIME_DIR: this.at(run), XDG_STATE_HOME: this.at('state') };
  }

  async mount(store: string, run: string, ...flags: string[]): Promise<Server> {
    const [faults, pipe] = [this.at(`${store}-faults`), this.at(`${store}-pipe`)];
    writeFileSync(faults, 'put-errno=28');
    execFileSync('mkfifo', [pipe]);
    const words = ['mount', this.dir, '--store', this.at(store), '--key-file', this.at('key')];
    words.push('--journal-dir', this.at('journals'), '-o', 'commit_interval=0', ...flags, '--json');
    const environment = {
      ...this.#environment(run),
      MILLRACE_STORE_FAULTS: `file=${faults}`,
    };
    const { status, stdout, stderr } = await runMillrace(words, environment);
    assert.equal(status, 0, stderr);
    const said = JSON.parse(stdout.trimEnd().split('\n').at(-1) as string) as { pid: number };
    const server = new Server(said.pid, faults, pipe);
    this.#servers.push(server);
    return server;
  }

  /** `millrace umount`, and the servers that still ran when it returned. */
  async umount(run: string): Promise<CommandResult & { left: number[] }> {
    const result = await runMillrace(['umount', this.dir], this.#environment(run));
    const left = this.#servers.filter((each) => each.isAlive()).map(({ pid }) => pid);
    return { ...result, left };
  }

  /** Waits until nothing is mounted any more. */
  async detached(): Promise<void> {
    assert.ok(await eventually(() => mountAt(this.dir) === undefined, LIMIT_MS));
  }

  /** What the servers wrote to their log. */
  log(): string {
    const directory = this.at('state/millrace');
    const [name] = readdirSync(directory).filter((each) => each.endsWith('.log'));
    return readFileSync(join(directory, name as string), 'utf8');
  }

  destroy(): void {
    detach(this.dir);
    for (const server of this.#servers) server.close();
    rmSync(this.base, { recursive: true, force: true, maxRetries: 3 });
  }
}

function umountTest(title: string, body: (ground: Ground) => Promise<void>): void {
  mountTest(
    title,
    async () => {
      const ground = new Ground();
      try {
        await body(ground);
      } finally {
        ground.destroy();
      }
    },
    { root: true },
  );
}

for (const flags of [[], ['-o', 'fsname=checkpoints']]) {
  umountTest(
    `without the record of the mount ${flags.join(' ')} umount waits for its server, and does not say that all is well`,
    async (ground) => {
      const server = await ground.mount('store', 'run-a', ...flags);
      await server.leaveUnstored(ground.dir);
      const unmounting = ground.umount('run-b');
      await ground.detached();
      assert.ok(server.isAlive(), 'it drains');
      server.release();
      const { status, stderr, left } = await unmounting;
      assert.deepEqual([status, left], [1, []], stderr);
      assert.match(stderr, /exit status is not known\n {2}next: \S/);
      assert.match(ground.log(), /"exitStatus":0/);
    },
  );
}

umountTest('a server whose directory of records is gone makes it again', async (ground) => {
  const server = await ground.mount('store', 'run-a');
  await server.leaveUnstored(ground.dir);
  const unmounting = ground.umount('run-a');
  await ground.detached();
  rmSync(ground.at('run-a'), { recursive: true });
  server.release();
  const { status, stderr, left } = await unmounting;
  assert.deepEqual([status, left], [0, []], stderr);
  assert.deepEqual(ground.records('run-a'), []);
});

umountTest(
  'an unmount waits for all that was mounted there, and each server keeps to its own record',
  async (ground) => {
    const first = await ground.mount('first', 'run-a');
    await first.leaveUnstored(ground.dir);
    execFileSync('umount', [ground.dir]);
    const second = await ground.mount('second', 'run-a');
    await second.leaveUnstored(ground.dir);
    const before = ground.records('run-a').filter((name) => name.includes(`${second.pid}-`));
    assert.equal(before.length, 2, 'a record and a socket');
    first.release();
    assert.ok(await eventually(() => !first.isAlive(), LIMIT_MS));
    const after = ground.records('run-a').filter((name) => name.includes(`${second.pid}-`));
    assert.deepEqual(after, before);
    const unmounting = ground.umount('run-a');
    await ground.detached();
    assert.ok(second.isAlive(), 'it drains');
    second.release();
    const { status, stderr, left } = await unmounting;
    assert.deepEqual([status, left], [0, []], stderr);
  },
);

umountTest('an unmount waits for a predecessor that still drains', async (ground) => {
  const first = await ground.mount('first', 'run-a');
  await first.leaveUnstored(ground.dir);
  execFileSync('umount', [ground.dir]);
  const second = await ground.mount('second', 'run-a');
  const unmounting = ground.umount('run-a');
  assert.ok(await eventually(() => !second.isAlive(), LIMIT_MS));
  assert.ok(first.isAlive(), 'it drains');
  first.release();
  const { status, stderr, left } = await unmounting;
  assert.deepEqual([status, left], [0, []], stderr);
  assert.deepEqual(ground.records('run-a'), []);
});

umountTest('two unmounts at once are told the same', async (ground) => {
  const server = await ground.mount('store', 'run-a');
  await server.leaveUnstored(ground.dir);
  const one = ground.umount('run-a');
  await ground.detached();
  const other = ground.umount('run-a');
  const record = ground.records('run-a').find((name) => name.endsWith('.json')) as string;
  assert.ok(await eventually(() => holdersOf(record) === 2, LIMIT_MS, 100));
  server.release();
  for (const { status, stderr, left } of [await one, await other]) {
    assert.deepEqual([status, left], [0, []], stderr);
  }
});

for (const [run, says] of [
  ['run-a', /had died before/],
  ['run-b', /which process served it is not known/],
] as const) {
  umountTest(`a mount whose server was killed, unmounted with ${run}`, async (ground) => {
    const server = await ground.mount('store', 'run-a');
    server.kill();
    assert.ok(await eventually(() => !server.isAlive(), LIMIT_MS));
    const { status, stderr } = await ground.umount(run);
    assert.equal(status, 1);
    assert.match(stderr, says);
    assert.equal(mountAt(ground.dir), undefined);
  });
}
