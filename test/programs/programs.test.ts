/**
 * Real programs on a mount: each script of this folder works on a fresh file system (`run`), and looks at what is there
 * after it was mounted anew (`again`). A program that is not installed is named, and fails: it would prove nothing.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { frontProblem } from '../support/front.ts';
import { temporaryDirectory, withMount } from '../support/mount.ts';
import { repositoryRoot } from '../support/repository.ts';

const run = promisify(execFile);
/** Longest time that one phase of a script may take, in milliseconds. */
const LIMIT_MS = 240_000;
const OUTPUT_BYTES_MAX = 64 << 20;

/** The scripts, and the programs that each needs. */
const SCRIPTS: Readonly<Record<string, readonly string[]>> = {
  git: ['git'],
  sqlite: ['sqlite3'],
  archives: ['rsync', 'tar', 'getfattr', 'setfattr'],
  make: ['make', 'cc'],
  npm: ['npm'],
  fio: ['fio'],
  dbench: ['dbench'],
  'stress-ng': ['stress-ng'],
  editor: ['vi'],
  log: [],
  checkpoint: ['python3'],
};

async function isInstalled(program: string): Promise<boolean> {
  return run('sh', ['-c', 'command -v "$0"', program]).then(
    () => true,
    () => false,
  );
}

/** Runs one phase; what the script said is part of the error when it fails, or a note when it does not. */
async function play(name: string, words: readonly string[]): Promise<string> {
  const script = path.join(repositoryRoot(), 'test', 'programs', `${name}.sh`);
  const options = {
    timeout: LIMIT_MS,
    killSignal: 'SIGKILL',
    maxBuffer: OUTPUT_BYTES_MAX,
  } as const;
  try {
    const { stdout } = await run('bash', [script, ...words], options);
    return stdout.trim();
  } catch (error) {
    const { stdout, stderr, code } = error as { stdout: string; stderr: string; code: unknown };
    const said = `${stdout.slice(-4000)}${stderr.slice(-4000)}`;
    throw new Error(`${name}.sh ${words.at(-1)} ended with ${String(code)}:\n${said}`);
  }
}

for (const [name, programs] of Object.entries(SCRIPTS)) {
  // It compares the times of what it unpacks.
  const skip = (name === 'archives' ? frontProblem('nanoseconds') : undefined) ?? false;
  test(`${name} works on a mount, and finds everything after a remount`, { skip }, async (t) => {
    for (const program of programs) {
      assert.ok(
        await isInstalled(program),
        `${program} is not installed: npm run setup -- --tests`,
      );
    }
    const scratch = temporaryDirectory('programs');
    t.after(() => rmSync(scratch, { recursive: true, force: true }));
    await withMount({}, async (mount) => {
      for (const phase of ['run', 'again']) {
        if (phase === 'again') await mount.remount();
        const said = await play(name, [mount.dir, scratch, phase]);
        if (said !== '') t.diagnostic(said);
        assert.equal(await mount.umount(), 0, mount.stderr());
      }
    });
  });
}
