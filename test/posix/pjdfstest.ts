/**
 * The stage `pjdfstest` of `npm test`: every case of that suite on a mount, as root.
 * MILLRACE_TEST_DIR puts a mount point of another file system in the place of the mount.
 *
 * A case that fails and is not excluded fails the stage; one that is excluded and passes is told.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mountProblem, rootProblem, temporaryDirectory, withMount } from '../support/mount.ts';
import { repositoryRoot } from '../support/repository.ts';
import { EXCLUSIONS } from './exclusions.ts';
import { runSuite, secondsSince, suitePath } from './suite.ts';

/** Milliseconds that one run of the suite may take. */
const LIMIT_MS = 300_000;

/** Cases that the suite has, at least: fewer mean that it was not understood. */
const CASES_MIN = 390;

/** Bytes that the suite puts behind its directory: two temporary names, each with its slash. */
const SUITE_PATH_BYTES = 22;
/** Half of the longest name: the length that the suite gives to the parts of its longest path. */
const PART_BYTES = 127;
const PATH_BYTES_MAX = 4095;

type Verdict = 'ok' | 'FAILED' | 'skipped';

interface Case {
  verdict: Verdict;
  /** What the suite says about a failure or a skip. */
  told: string;
}

/** Two users that Debian has without being asked, so that none must be made. */
function configuration(allowRemount: boolean): string {
  const features = ['posix_fallocate', 'rename_ctime', 'stat_st_birthtime', 'utime_now'];
  return [
    '[features]',
    ...[...features, 'utimensat'].map((feature) => `${feature} = {}`),
    '[settings]',
    'naptime = 0.02',
    `allow_remount = ${allowRemount}`,
    '[dummy_auth]',
    'entries = [["nobody", "nogroup"], ["daemon", "daemon"]]',
    '',
  ].join('\n');
}

/** The verdicts by name of the case. */
function casesOf(output: string): Map<string, Case> {
  const cases = new Map<string, Case>();
  let last: Case | undefined;
  for (const line of output.split('\n')) {
    const match = /^([a-z0-9_]+(?:::[a-z0-9_]+)+) +(ok|FAILED|skipped)$/.exec(line);
    if (match !== null) {
      last = { verdict: match[2] as Verdict, told: '' };
      cases.set(match[1], last);
    } else if (last !== undefined && line.startsWith('\t')) {
      last.told += `${line.trim()} `;
    } else if (line.trim() !== '') {
      last = undefined;
    }
  }
  return cases;
}

/**
 * A directory in the mount whose path is not of the one length, modulo that of a path's parts, at
 * which the suite's own arithmetic for the longest path fails.
 */
function directoryIn(mount: string): string {
  const bytes = (name: string): number => join(mount, name).length + SUITE_PATH_BYTES;
  const name = ['cases', 'all-cases'].find((n) => (PATH_BYTES_MAX - bytes(n)) % PART_BYTES > 1);
  const path = join(mount, name ?? 'cases');
  mkdirSync(path, { recursive: true });
  return path;
}

/**
 * A folder with a `mount` that has no helper: that of FUSE would mount anew where only the kernel's
 * flag is to change.
 */
function mountShim(scratch: string): string {
  const folders = (process.env['PATH'] ?? '').split(':');
  const real = folders.map((folder) => join(folder, 'mount')).find((path) => existsSync(path));
  if (real === undefined) throw new Error('mount(8) is not there');
  const folder = join(scratch, 'shim');
  mkdirSync(folder);
  writeFileSync(join(folder, 'mount'), `#!/bin/sh\nexec ${real} -i "$@"\n`, { mode: 0o755 });
  return folder;
}

/**
 * Runs the suite twice: the cases that make the mount read-only have a process of their own, since
 * others leave files open for writing, upon which the kernel refuses to.
 */
async function runOn(mount: string, scratch: string): Promise<Map<string, Case>> {
  const program = suitePath('pjdfstest');
  const second = join(scratch, 'second');
  mkdirSync(second);
  const environment = { PATH: `${mountShim(scratch)}:${process.env['PATH'] ?? ''}` };
  const all = new Map<string, Case>();
  for (const [remounts, pattern] of [
    [false, []],
    [true, ['erofs']],
  ] as const) {
    const file = join(scratch, 'pjdfstest.toml');
    writeFileSync(file, configuration(remounts));
    const words = ['-c', file, '-p', directoryIn(mount), '-s', second, ...pattern];
    const { status, output } = await runSuite(program, words, { limitMs: LIMIT_MS, environment });
    const cases = casesOf(output);
    const finished = /Summary: .* (\d+) total/.exec(output);
    if (finished === null || Number(finished[1]) !== cases.size) {
      throw new Error(`pjdfstest did not end well (status ${status}):\n${output.slice(-2000)}`);
    }
    for (const [name, each] of cases) all.set(name, each);
  }
  return all;
}

/** Prints what came out; yields the exit status. */
function judge(cases: ReadonlyMap<string, Case>): number {
  const readme = readFileSync(join(repositoryRoot(), 'test', 'posix', 'README.md'), 'utf8');
  const faults: string[] = [];
  let passed = 0;
  for (const [name, { verdict, told }] of cases) {
    const excluded = EXCLUSIONS.get(name);
    if (verdict === 'ok') {
      passed += 1;
      if (excluded !== undefined) process.stdout.write(`passes though excluded: ${name}\n`);
    } else if (excluded === undefined) {
      faults.push(`${name}: ${verdict}: ${told}`);
    }
  }
  for (const name of EXCLUSIONS.keys()) {
    if (!cases.has(name)) faults.push(`${name} is excluded, but there is no such case`);
    if (!readme.includes(`\`${name}\``)) faults.push(`${name} is missing in test/posix/README.md`);
  }
  if (cases.size < CASES_MIN) faults.push(`only ${cases.size} cases were found`);
  const left = [...EXCLUSIONS.keys()].filter((name) => cases.get(name)?.verdict !== 'ok').length;
  process.stdout.write(`pjdfstest: ${cases.size} cases, ${passed} passed, ${left} left out\n`);
  for (const fault of faults) process.stderr.write(`${fault}\n`);
  return faults.length === 0 ? 0 : 1;
}

async function main(): Promise<number> {
  const start = performance.now();
  const plain = process.env['MILLRACE_TEST_DIR'];
  const user = rootProblem();
  if (user !== undefined) throw new Error(`pjdfstest changes users and remounts: ${user}`);
  const problem = plain === undefined ? mountProblem() : undefined;
  if (problem !== undefined) throw new Error(problem);
  const scratch = temporaryDirectory('pjdfstest');
  try {
    const cases =
      plain === undefined
        ? await withMount({ flags: ['-o', 'allow_other'] }, async (mount) => {
            const found = await runOn(mount.dir, scratch);
            const status = await mount.umount();
            if (status !== 0) throw new Error(`the mount ended with ${status}`);
            return found;
          })
        : await runOn(plain, scratch);
    return judge(cases);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
    process.stdout.write(`pjdfstest: ${secondsSince(start)}\n`);
  }
}

process.exitCode = await main().catch((error: unknown) => {
  process.stderr.write(`pjdfstest: ${(error as Error).message}\n`);
  return 1;
});
