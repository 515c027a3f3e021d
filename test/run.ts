/**
 * Runs the compiled tests: those of units first, those that mount afterwards and one at a time.
 * Arguments are parts of paths; only tests whose path holds one of them run.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

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

function isMountTest(path: string): boolean {
  return path.startsWith(`mount${sep}`);
}

/** Runs a group of files, each in a process of its own; yields the exit status. */
function runGroup(files: readonly string[], extra: readonly string[]): number {
  if (files.length === 0) return 0;
  const paths = files.map((file) => relative(process.cwd(), `${root}${sep}${file}`));
  const command = ['--test', '--test-reporter=spec', ...extra, ...paths];
  const { status } = spawnSync(process.execPath, command, { stdio: 'inherit' });
  return status ?? 1;
}

const files = compiledTests(process.argv.slice(2));
if (files.length === 0) {
  process.stderr.write('no test has such a name\n');
  process.exit(2);
}
const limit = `--test-timeout=${FILE_LIMIT_MS}`;
const units = runGroup(
  files.filter((file) => !isMountTest(file)),
  [limit],
);
const mounts = runGroup(files.filter(isMountTest), [limit, '--test-concurrency=1']);
process.exit(units === 0 ? mounts : units);
