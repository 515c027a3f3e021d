/**
 * `npm run bench`: Millrace beside the bound and its peers, by the yardstick's load, all with their storage
 * on one tmpfs. Every job of every repetition finds fresh mounts; the systems take turns within it.
 */
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { freemem } from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import {
  type ComparisonLine,
  type ComparisonReport,
  comparisonPage,
  comparisonText,
} from './comparison.ts';
import { type MachineCard, machineCard, machineText } from './machine.ts';
import {
  boundPeer,
  GOCRYPTFS,
  isInstalled,
  millracePeer,
  type Peer,
  type PeerMount,
  RCLONE,
} from './peers.ts';
import { MILLRACE, ROOT } from './places.ts';
import { buildBound, copyYardstick, findYardstick, runYardstick } from './yardstick.ts';

const DISK = '/dev/shm';
const MIB = 2 ** 20;
/** Writers, and the spare copy that a peer may keep in its cache. */
const COPIES = 2;
const JOBS =
  'stream-write,stream-write:jobs=2,stream-write:jobs=4,stream-write-128k,stream-write-torch,' +
  'stream-read,stream-read:jobs=2,stream-read:jobs=4,stream-read-mmap,' +
  'randread-4k:direct,randwrite-4k,small-files,small-files-fsync';
const QUICK_JOBS =
  'stream-write,stream-write:jobs=2,stream-write-torch,stream-read,randread-4k:direct,small-files';

interface CompareArguments {
  reps: string;
  jobs?: string;
  peers: string;
  quick?: boolean;
  mount?: string;
  size: string;
  write?: boolean;
}

interface Comparison {
  peers: Peer[];
  jobs: string[];
  repetitions: number;
  /** The most bytes that one process of a job writes. */
  sizeBytes: number;
  yardstick: string;
  scratch: string;
}

const note = (text: string): void => void process.stderr.write(`bench: ${text}\n`);

function version(): string {
  return (JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8')) as { version: string }).version;
}

/** The peers that were named and are there, the bound first: it is the reference. */
function choosePeers(flags: CompareArguments, yardstick: string): Peer[] {
  const named = flags.peers.split(',');
  const makers: Record<string, () => Peer | undefined> = {
    bound: () => boundPeer(buildBound(yardstick)),
    millrace: () => millracePeer(version(), flags.mount?.split(' ') ?? []),
    gocryptfs: () => (isInstalled('gocryptfs') ? GOCRYPTFS : undefined),
    rclone: () => (isInstalled('rclone') ? RCLONE : undefined),
  };
  const unknown = named.filter((name) => !Object.hasOwn(makers, name));
  if (unknown.length > 0) {
    throw new Error(
      `unknown peer ${unknown.join(', ')}; known are ${Object.keys(makers).join(', ')}`,
    );
  }
  const peers: Peer[] = [];
  for (const [name, make] of Object.entries(makers)) {
    if (!named.includes(name)) continue;
    const peer = make();
    if (peer === undefined) note(`${name} is not installed: left out`);
    else peers.push(peer);
  }
  return peers;
}

/** The size that was asked for, or what memory has room for while all systems hold their data, in 64 MiB steps. */
function sizeFor(job: string, systems: number, wantedBytes: number): number {
  const processes = Number(/:jobs=(\d+)/.exec(job)?.[1] ?? 1);
  const { bavail, bsize } = statfsSync(DISK);
  const room = (Math.min(bavail * bsize, freemem()) * 0.8) / (systems + COPIES) / processes;
  const step = 64 * MIB;
  return Math.max(step, Math.min(wantedBytes, Math.floor(room / step) * step));
}

async function mountAll(peers: readonly Peer[], base: string, job: string) {
  const mounted: Array<{ name: string; directory: string; mount: PeerMount }> = [];
  try {
    for (const peer of peers) {
      const directory = path.join(base, peer.name);
      const storage = path.join(base, `${peer.name}.storage`);
      mkdirSync(directory);
      mkdirSync(storage);
      const mount = await peer.mount({ mountPoint: directory, storage }, job);
      mounted.push({ name: peer.name, directory, mount });
    }
    return mounted;
  } catch (error) {
    for (const { mount } of mounted) await mount.unmount();
    throw error;
  }
}

/** One job on fresh mounts of every system that can do it. */
async function measureOnce(comparison: Comparison, job: string): Promise<ComparisonLine[]> {
  const [name = job] = job.split(':');
  const peers = comparison.peers.filter((peer) => peer.can(name));
  const base = mkdtempSync(path.join(DISK, 'millrace-bench-'));
  const size = sizeFor(job, peers.length, comparison.sizeBytes) / MIB;
  const mounted = await mountAll(peers, base, name);
  try {
    const systems = mounted.map(({ name: system, directory, mount }) => ({
      name: system,
      directory,
      pid: mount.pid,
    }));
    const lines = await runYardstick({ ...comparison, jobSpec: `${job}:size=${size}M`, systems });
    return lines.map((line) => ({ ...line, asked: job }));
  } finally {
    for (const { mount } of mounted) await mount.unmount();
    rmSync(base, { recursive: true });
  }
}

async function measure(comparison: Comparison): Promise<ComparisonLine[]> {
  const lines: ComparisonLine[] = [];
  for (let turn = 1; turn <= comparison.repetitions; turn++) {
    for (const job of comparison.jobs) {
      note(`${turn}/${comparison.repetitions} ${job}`);
      const measured = await measureOnce(comparison, job);
      lines.push(...measured.map((line) => ({ ...line, rep: turn })));
    }
  }
  return lines;
}

function saveResults(
  machine: MachineCard,
  comparison: Comparison,
  lines: ComparisonLine[],
): string {
  const directory = `${ROOT}bench/results`;
  mkdirSync(directory, { recursive: true });
  const file = `${directory}/${new Date().toISOString().replace(/[:.]/g, '-')}.json`;
  const systems = Object.fromEntries(comparison.peers.map((peer) => [peer.name, peer.version()]));
  const sizes = { repetitions: comparison.repetitions, sizeBytes: comparison.sizeBytes };
  const result = { at: new Date().toISOString(), machine, systems, ...sizes, lines };
  writeFileSync(file, `${JSON.stringify(result, undefined, 1)}\n`);
  return file;
}

/** Writes what is to be kept with the sources: the page, and the lines that it was made from. */
function keepResults(report: ComparisonReport, file: string): void {
  writeFileSync(`${ROOT}bench/RESULTS.md`, comparisonPage(report));
  copyFileSync(file, `${ROOT}bench/RESULTS.json`);
  note('written: bench/RESULTS.md, bench/RESULTS.json');
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`${text} is no positive whole number`);
  return value;
}

async function run(flags: CompareArguments): Promise<void> {
  const found = findYardstick();
  if (found === undefined) {
    note(
      'no yardstick beside this checkout (MILLRACE_YARDSTICK names one): running millrace bench',
    );
    execFileSync(process.execPath, [MILLRACE, 'bench'], { stdio: 'inherit' });
    return;
  }
  const scratch = mkdtempSync('/tmp/millrace-compare-');
  try {
    const yardstick = copyYardstick(found, scratch);
    const comparison: Comparison = {
      peers: choosePeers(flags, yardstick),
      jobs: (flags.jobs ?? (flags.quick ? QUICK_JOBS : JOBS)).split(','),
      repetitions: flags.quick ? 1 : positive(flags.reps),
      sizeBytes: positive(flags.size) * MIB,
      yardstick,
      scratch,
    };
    const machine = machineCard();
    const lines = await measure(comparison);
    const report: ComparisonReport = {
      machine: machineText(machine),
      systems: comparison.peers.map((peer) => ({ name: peer.name, version: peer.version() })),
      repetitions: comparison.repetitions,
      sizeBytes: comparison.sizeBytes,
      command: ['npm run bench --', ...process.argv.slice(2)].join(' '),
      lines,
    };
    process.stdout.write(comparisonText(report));
    const file = saveResults(machine, comparison, lines);
    note(`results in ${file}`);
    if (flags.write) keepResults(report, file);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

await new Command('bench')
  .description(
    'Compares Millrace with the bound and with other encrypting file systems, all on /dev/shm.',
  )
  .option('--reps <n>', 'repetitions', '5')
  .option('--jobs <list>', 'jobs of the yardstick, options after colons (default: all)')
  .option('--peers <list>', 'what to compare', 'bound,millrace,gocryptfs,rclone')
  .option('--quick', 'a few jobs, once')
  .option('--size <MiB>', 'the most that one process writes, in MiB, a multiple of 64', '1024')
  .option('--write', 'keep the result as bench/RESULTS.md and bench/RESULTS.json')
  .option('--mount <words>', 'more words for millrace mount, such as "--data-workers 2"')
  .action(run)
  .parseAsync();
