/**
 * `npm run demo`: real checkpoints through a real mount, read back after a remount, and a search of the
 * store for a single byte sequence of theirs. The exit status tells whether all of it held.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { freemem, tmpdir } from 'node:os';
import path from 'node:path';
import { Command, Option } from 'commander';
import { type Mounted, mountMillrace, type Progress } from '../bench/mounted.ts';
import { MILLRACE } from '../bench/places.ts';
import {
  type CheckpointLibrary,
  checkpointLibraries,
  saveCheckpoint,
  tensorSlices,
  verifyCheckpoint,
} from './demo/checkpoint.ts';
import { type Needle, scanForPlaintext } from './demo/plaintext-scan.ts';
import { Failure, failureParts, failureText } from './failure.ts';
import { formatSize, sizeIn } from './flags.ts';

const MIB = 2 ** 20;
const SMALL_BYTES = 160 * MIB;
const SLICES_SOUGHT = 6;

interface DemoArguments {
  size: number;
  small?: boolean;
  clean?: boolean;
}

interface Demo {
  base: string;
  mountPoint: string;
  store: string;
  keyFile: string;
  bytes: number;
  libraries: CheckpointLibrary[];
  /** A file whose name and content are easy to search for. */
  canary: { name: string; text: string };
}

const say = (text: string): void => void process.stdout.write(`${text}\n`);
const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(2)} GB`;

async function plan(flags: DemoArguments): Promise<Demo> {
  const bytes = flags.small ? SMALL_BYTES : flags.size;
  const libraries = await checkpointLibraries();
  const { bavail, bsize } = statfsSync(tmpdir());
  const room = Math.min((bavail * bsize) / (libraries.length * 1.1), freemem() / 3);
  if (bytes > room) {
    throw new Failure({
      message: `there is not enough room in ${tmpdir()} or in memory for checkpoints of ${formatSize(bytes)}`,
      hint: 'npm run demo -- --small, or another --size',
    });
  }
  const base = mkdtempSync(path.join(tmpdir(), 'millrace-demo-'));
  const word = randomBytes(12).toString('hex');
  return {
    base,
    mountPoint: path.join(base, 'mount'),
    store: path.join(base, 'store'),
    keyFile: path.join(base, 'key'),
    bytes,
    libraries,
    canary: { name: `canary-${word}.txt`, text: `the song of ${word} must not be heard outside\n` },
  };
}

/** Prints a line a second: what flowed since the line before. */
function progressPrinter(): (now: Progress) => void {
  let before: Progress | undefined;
  return (now) => {
    const since = before;
    before = now;
    if (since === undefined) return;
    const seconds = ((now['atMs'] ?? 0) - (since['atMs'] ?? 0)) / 1000;
    const rate = (name: string): number => ((now[name] ?? 0) - (since[name] ?? 0)) / seconds / 1e9;
    const [taken, sealed, stored, out] = ['bytesIn', 'bytesSealed', 'bytesStored', 'bytesOut'].map(
      rate,
    );
    if (!taken && !sealed && !stored && !out) return;
    const used = (now['framesTotal'] ?? 0) - (now['framesFree'] ?? 0);
    const figures = [taken, sealed, stored, out].map((value) => (value ?? 0).toFixed(2));
    say(
      `    ${figures[0]} GB/s in, ${figures[1]} sealed, ${figures[2]} stored, ${figures[3]} out; ` +
        `${used} of ${now['framesTotal']} frames in use`,
    );
  };
}

/** Mounts, runs the body, unmounts whatever happens; throws unless the unmount drained everything. */
async function withMount(demo: Demo, body: () => Promise<void>): Promise<void> {
  const mounted: Mounted = await mountMillrace({ ...demo, onProgress: progressPrinter() });
  let status = 1;
  try {
    await body();
  } finally {
    status = await mounted.unmount();
  }
  if (status !== 0) {
    throw new Failure({
      message: `unmounting ended with status ${status}`,
      hint: `look at ${demo.base}`,
    });
  }
}

function writeCanary(demo: Demo): void {
  const fd = openSync(path.join(demo.mountPoint, demo.canary.name), 'wx');
  try {
    writeSync(fd, demo.canary.text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

async function writeEverything(demo: Demo): Promise<void> {
  writeCanary(demo);
  for (const library of demo.libraries) {
    say(`  ${library.name} saves ${formatSize(demo.bytes)} of random tensors ...`);
    const saved = await saveCheckpoint(library, { directory: demo.mountPoint, bytes: demo.bytes });
    const rate = saved.bytes / saved.seconds / 1e9;
    say(
      `  ${path.basename(saved.path)}: ${gigabytes(saved.bytes)}, durable after ${saved.seconds.toFixed(2)} s (${rate.toFixed(2)} GB/s)`,
    );
  }
}

async function readEverything(demo: Demo): Promise<void> {
  const text = readFileSync(path.join(demo.mountPoint, demo.canary.name), 'utf8');
  if (text !== demo.canary.text) throw new Failure({ message: 'the canary came back changed' });
  for (const library of demo.libraries) {
    const loaded = await verifyCheckpoint(library, {
      directory: demo.mountPoint,
      bytes: demo.bytes,
    });
    say(
      `  ${library.name} loaded ${gigabytes(loaded.bytes)} in ${loaded.seconds.toFixed(2)} s; every tensor is equal`,
    );
  }
}

async function needles(demo: Demo): Promise<Needle[]> {
  const sought: Needle[] = [
    { name: 'the text of the canary', bytes: Buffer.from(demo.canary.text.trim()) },
    { name: 'the name of the canary', bytes: Buffer.from(demo.canary.name) },
    { name: 'the name of a tensor', bytes: Buffer.from('layers.0.weight') },
    { name: 'the name of a checkpoint', bytes: Buffer.from('model.safetensors') },
  ];
  for (const library of demo.libraries) {
    const slices = await tensorSlices(library, demo.bytes);
    const step = Math.max(1, Math.floor(slices.length / SLICES_SOUGHT));
    for (const bytes of slices.filter((_, i) => i % step === 0)) {
      sought.push({ name: `bytes of a tensor that ${library.name} saved`, bytes });
    }
  }
  return sought;
}

/** The search must find what it looks for in plain text, or its silence about the store means nothing. */
function checkSearch(demo: Demo, sought: Needle[]): void {
  const control = path.join(demo.base, 'control');
  mkdirSync(control);
  const fd = openSync(path.join(control, 'plain'), 'wx');
  for (const { bytes } of sought) writeSync(fd, bytes);
  closeSync(fd);
  const { found } = scanForPlaintext(control, sought);
  rmSync(control, { recursive: true });
  if (found.length !== sought.length)
    throw new Failure({ message: 'the search of the store is blind' });
}

async function searchStore(demo: Demo): Promise<void> {
  const sought = await needles(demo);
  checkSearch(demo, sought);
  const { files, bytes, found } = scanForPlaintext(demo.store, sought);
  if (found.length > 0) {
    throw new Failure({
      message: `plaintext in the store: ${found.join('; ')}`,
      hint: 'please report this',
    });
  }
  const expected = demo.bytes * demo.libraries.length;
  if (bytes < expected) {
    throw new Failure({ message: `the store holds ${gigabytes(bytes)} of ${gigabytes(expected)}` });
  }
  say(
    `  ${sought.length} pieces of plaintext sought in ${gigabytes(bytes)} in ${files} files: none found`,
  );
}

function sayWhatNext({ base, mountPoint, store, keyFile }: Demo): void {
  say(`
Everything held. What was made:
  store  ${store}   (as the storage side sees it)
  key    ${keyFile}   (without it the store is noise)

Try next:
  ${MILLRACE} mount ${mountPoint} --store ${store} --key-file ${keyFile}
  ls -l ${mountPoint}
  ${MILLRACE} umount ${mountPoint}
  ${MILLRACE} doctor
  rm -r ${base}`);
}

async function run(flags: DemoArguments): Promise<void> {
  const demo = await plan(flags);
  mkdirSync(demo.mountPoint);
  say(`1. Mount ${demo.store} on ${demo.mountPoint} and save checkpoints`);
  await withMount(demo, () => writeEverything(demo));
  say('2. Unmounted: everything is in the store. Mount again and load through the libraries');
  await withMount(demo, () => readEverything(demo));
  say('3. Search the store for plaintext');
  await searchStore(demo);
  if (flags.clean) rmSync(demo.base, { recursive: true });
  else sayWhatNext(demo);
}

try {
  await new Command('demo')
    .description(
      'Saves real checkpoints into a Millrace mount, loads them after a remount, searches the store.',
    )
    .addOption(
      new Option('--size <size>', 'bytes of each checkpoint')
        .argParser(sizeIn({ min: 16 * MIB, max: 2 ** 40, step: MIB }))
        .default(2 * 2 ** 30, '2G'),
    )
    .option('--small', `checkpoints of ${formatSize(SMALL_BYTES)}`)
    .option('--clean', 'remove everything afterwards, unless something failed')
    .exitOverride()
    .configureOutput({ outputError: () => undefined })
    .action(run)
    .parseAsync();
} catch (error) {
  const parts = failureParts(error);
  process.exitCode = parts.exitStatus;
  if (parts.exitStatus !== 0) process.stderr.write(failureText(parts));
}
