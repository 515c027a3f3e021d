/**
 * What a core dump of a mount would hold: nothing, because none is written; and no key and no content
 * of a frame even where somebody forces one.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Keys } from '../format/keys.ts';
import { mountTest } from '../support/family.ts';
import {
  eventually,
  type Mount,
  mountProblem,
  rootProblem,
  TEST_KEY,
  withMount,
} from '../support/mount.ts';
import { type Mapping, mappingsOf, secretsInMemory } from '../support/process-memory.ts';
import { type Secret, secretsInFile, spellings } from '../support/secret-search.ts';

const REGION_BYTES = 4 << 20;
/** More than gcore takes for a mount. */
const CORE_BYTES = 8 * 2 ** 30;
const keys = new Keys(TEST_KEY);

/** Content that a mount gets; no two parts of it alike. */
interface Planted {
  /** A chunk that is sealed and stored while the file is still written. */
  whole: Buffer;
  /** The rest of the file: settled by fsync, its plaintext still in frames. */
  rest: Buffer;
}

/** Pieces of the content, each so many bytes long. */
function contentOf({ whole, rest }: Planted, length: number): Secret[] {
  return [whole, rest].flatMap((bytes, part) =>
    [0, 70_001, bytes.length - length].map((at) => ({
      name: `content ${part} at ${at}`,
      bytes: bytes.subarray(at, at + length),
    })),
  );
}

/** The tenant's key and everything that is derived from it. */
function keySecrets({ whole }: Planted): Secret[] {
  const derived = { ...keys.secrets(), 'first chunk': keys.chunkKey(keys.chunkId(whole)) };
  return [
    ...spellings('the key', TEST_KEY),
    ...Object.entries(derived).flatMap(([name, key]) => spellings(`the ${name} key`, key)),
  ];
}

/** Writes a file and leaves it open, its last part in frames. */
async function plant(mount: Mount): Promise<{ planted: Planted; file: FileHandle }> {
  const planted = { whole: randomBytes(REGION_BYTES), rest: randomBytes(700_000) };
  const file = await open(join(mount.dir, 'file'), 'w');
  await file.write(planted.whole);
  await file.write(planted.rest);
  await file.sync();
  await file.write(planted.rest);
  return { planted, file };
}

/** Whether the stacks of main thread, fronts and movers are left out; only of one that sleeps can it be told. */
function stacksAreHidden(pid: number, mappings: readonly Mapping[]): boolean {
  const tasks = readdirSync(`/proc/${pid}/task`).map((task) => `/proc/${pid}/task/${task}`);
  const native = tasks.filter((task) =>
    /^(front|mover)-\d+$/m.test(readFileSync(`${task}/comm`, 'latin1')),
  );
  const pointers = native.map((task) => {
    // In a system call: its number, six arguments, stack pointer, program counter.
    const [pointer] = readFileSync(`${task}/syscall`, 'latin1').trimEnd().split(' ').slice(-2);
    return Number(pointer);
  });
  const hidden = mappings.filter((mapping) => !mapping.dumped);
  return (
    native.length >= 3 &&
    hidden.some(({ name }) => name === '[stack]') &&
    pointers.every((at) => hidden.some(({ start, end }) => start <= at && at < end))
  );
}

mountTest(
  'a mount writes no core dump, and what one would take holds no key and no content of frames',
  () =>
    withMount({}, async (mount) => {
      const limits = readFileSync(`/proc/${mount.pid}/limits`, 'latin1');
      assert.match(limits, /^Max core file size +0 +0 +bytes/m);
      const { planted, file } = await plant(mount);
      try {
        const secrets = [...contentOf(planted, 24), ...keySecrets(planted)];
        const mappings = mappingsOf(mount.pid);
        const control = { name: 'the path of the store', bytes: Buffer.from(mount.storeDir) };
        assert.ok(await eventually(() => stacksAreHidden(mount.pid, mappings), 10_000), 'stacks');
        const dumped = mappings.filter((mapping) => mapping.dumped);
        const { found, bytes } = secretsInMemory(mount.pid, dumped, [control, ...secrets]);
        const others = found.filter((each) => !each.startsWith(control.name));
        assert.deepEqual(others, [], `${bytes} bytes of ${dumped.length} mappings`);
        assert.ok(found.length > 0, 'the search finds what is there');
        // What it did not find is in memory all the same: where no dump takes it.
        const kept = mappings.filter((mapping) => !mapping.dumped);
        const hidden = secretsInMemory(mount.pid, kept, secrets).found.join('\n');
        for (const name of ['content 1 at 0 ', 'the id key ', 'the value key ']) {
          assert.ok(hidden.includes(name), `${name}is not where it should be:\n${hidden}`);
        }
      } finally {
        await file.close();
      }
      assert.equal(await mount.umount(), 0, mount.stderr());
    }),
  { root: true, needs: 'front threads' },
);

/** Why no core dump can be forced here. */
function forceProblem(): string | undefined {
  if (process.env['MILLRACE_TEST_DIR'] !== undefined) return 'MILLRACE_TEST_DIR is set';
  const problem = mountProblem() ?? rootProblem();
  if (problem !== undefined) return problem;
  const folders = (process.env['PATH'] ?? '').split(':');
  if (!folders.some((folder) => existsSync(join(folder, 'gcore')))) {
    return 'gcore is not installed (package gdb): nothing else dumps a process that forbids it';
  }
  const { bavail, bsize } = statfsSync(tmpdir());
  if (bavail * bsize >= CORE_BYTES) return undefined;
  return `${tmpdir()} has no room for a core dump of ${CORE_BYTES} bytes`;
}

test('a core dump that root forces holds no key and no content of frames', {
  skip: forceProblem() ?? false,
  timeout: 180_000,
}, async () => {
  // On a disk: V8's reserved address space is in it, as gigabytes of zeros.
  const directory = mkdtempSync(join(tmpdir(), 'millrace-core-'));
  try {
    await withMount({}, async (mount) => {
      const { planted, file } = await plant(mount);
      const arguments_ = ['-o', join(directory, 'core'), `${mount.pid}`];
      execFileSync('gcore', arguments_, { timeout: 120_000, stdio: 'pipe' });
      await file.close();
      // Registers are dumped as well, and vector registers keep what a thread hashed or copied last: at most 2 KiB.
      const secrets = [...contentOf(planted, 4096), ...spellings('the key', TEST_KEY)];
      const control = { name: 'control', bytes: Buffer.from(mount.storeDir) };
      const core = join(directory, `core.${mount.pid}`);
      assert.deepEqual([...secretsInFile(core, [control, ...secrets])], ['control']);
      assert.equal(await mount.umount(), 0, mount.stderr());
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
});
