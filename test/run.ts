/**
 * Runs the compiled tests: those of units first, those that mount afterwards and one at a time.
 * Arguments are parts of paths; only tests whose path holds one of them run. `--front NAME` before them has every mount
 * served by that front, and leaves out what mounts nothing.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bindingProblem } from './support/front.ts';
import { mountProblem } from './support/mount.ts';

/** Milliseconds that one file may take; above every time limit inside the files. */
const FILE_LIMIT_MS = 600_000;

const root = dirname(fileURLToPath(import.meta.url));

function compiledTests(wanted: readonly string[]): string[] {
  const paths = readdirSync(root, { recursive: true, encoding: 'utf8' });
  return paths
    .filter((path) => path.endsWith('.test.js'))
    .filter((path) => wanted.length === 0 || wanted.some((part) => path.includes(part)))
    .sort();
}

/** Whether a test mounts: what uses the support of mounts must not run beside another. */
function isMountTest(path: string): boolean {
  const code = readFileSync(join(root, path), 'utf8');
  return /from '[./]*support\/(family|mount)\.js'/.test(code);
}

/** Runs a group of files, each in a process of its own; yields the exit status. */
function runGroup(files: readonly string[], extra: readonly string[]): number {
  if (files.length === 0) return 0;
  const paths = files.map((file) => relative(process.cwd(), join(root, file)));
  const command = ['--test', '--test-reporter=spec', ...extra, ...paths];
  const { status } = spawnSync(process.execPath, command, { stdio: 'inherit' });
  return status ?? 1;
}

const words = process.argv.slice(2);
const otherFront = words[0] === '--front' ? words.splice(0, 2)[1] : undefined;
if (otherFront !== undefined) process.env['MILLRACE_TEST_FRONT'] = otherFront;
const missing = otherFront === 'fuse-native' ? bindingProblem() : undefined;
if (missing !== undefined) {
  process.stderr.write(`the tests over ${otherFront} cannot run: ${missing}\n`);
  // The package brings a build for x64 alone; elsewhere it may be missing.
  process.exit(process.arch === 'x64' ? 1 : 0);
}
const files = compiledTests(words);
if (files.length === 0) {
  process.stderr.write('no test has such a name\n');
  process.exit(2);
}
const mountFiles = files.filter(isMountTest);
const problem = process.env['MILLRACE_TEST_DIR'] === undefined ? mountProblem() : undefined;
if (mountFiles.length > 0 && problem !== undefined) {
  process.stderr.write(`the tests of mounts cannot run, which proves nothing: ${problem}\n`);
  process.exit(1);
}
const limit = `--test-timeout=${FILE_LIMIT_MS}`;
const units = runGroup(otherFront === undefined ? files.filter((file) => !isMountTest(file)) : [], [
  limit,
]);
const mounts = runGroup(mountFiles, [limit, '--test-concurrency=1']);
process.exit(units === 0 ? mounts : units);
