/** `millrace mount DIR`. */
import { totalmem } from 'node:os';
import { type Command, Option } from 'commander';
import pino from 'pino';
import { makeDurableDirectory } from '../../engine/durable-directory.ts';
import { MillraceError } from '../../engine/errors.ts';
import { FRONTS } from '../../engine/front/front.ts';
import { DATA_WORKERS_MAX, FRAME_BYTES } from '../../engine/layout.ts';
import { FUSE_THREADS, type Mount, SLAB_BYTES } from '../../engine/mount.ts';
import type { ReplayNotice } from '../../engine/journal/replay.ts';
import { readSuperblock } from '../../engine/store/superblock.ts';
import { startDaemon } from '../daemon.ts';
import { EXIT, errnoName, Failure } from '../failure.ts';
import {
  countIn,
  durationSeconds,
  formatSize,
  type MountFlags,
  mountFlags,
  mountOptionsHelp,
  namespacesWith,
  sizeIn,
} from '../flags.ts';
import { ensureKeyFile, storeExists } from '../key-file.ts';
import { type MountArguments, type MountSettings, mountSettings } from '../mount-settings.ts';
import { noticeText } from '../notice.ts';
import { preflight } from '../preflight.ts';
import { serve } from '../server.ts';

const SLAB_BYTES_MIN = 64 * FRAME_BYTES;
const FUSE_THREADS_MAX = 64;
/** A thread that reads /dev/fuse keeps two frames for itself; as many again are for the data that it brings. */
const FRAMES_PER_FUSE_THREAD = 4;
const PROGRESS_PERIOD_MS = 1000;

const CONTROL_HELP = `
At the root of each namespace, hidden from listings:
  .millrace/commit   write to it or touch it: returns when everything is durable
  .millrace/dirty    1 while something is not durable, else 0
  .millrace/hash     what the tree is: equal for equal names, permissions and bytes
  .millrace/status   counters of the mount, as JSON`;

/** Prints one line for people, or one JSON object for programs. */
function say(flags: MountArguments, text: string, fields: Record<string, unknown>): void {
  process.stdout.write(flags.json ? `${JSON.stringify(fields)}\n` : `${text}\n`);
}

/** Leaves a directory behind, before a key is made: nobody should keep the key of a store that cannot be. */
function makeStoreDirectory(store: string): void {
  if (storeExists(store)) return;
  try {
    makeDurableDirectory(store);
  } catch (error) {
    throw new Failure(
      {
        message: `the store ${store} cannot be made (${errnoName(error) || String(error)})`,
        hint: 'check the permissions of the directories above it, or name another with --store',
      },
      error,
    );
  }
}

/** Throws where a key would be asked for that was destroyed on purpose. */
async function refuseShredded(store: string): Promise<void> {
  try {
    await readSuperblock(store);
  } catch (error) {
    if (error instanceof MillraceError && error.code === 'KEY_SHREDDED') throw error;
    // Whatever else is wrong is told by who needs it.
  }
}

/** Throws where the threads that read /dev/fuse, and the tree worker beside them, would leave too little for data. */
function refuseHungryThreads({ front, fuseThreads, slabBytes }: MountSettings): void {
  if (front !== 'kernel') return;
  const threads = fuseThreads ?? FUSE_THREADS;
  const slab = slabBytes ?? SLAB_BYTES;
  const needed = FRAMES_PER_FUSE_THREAD * (threads + 1) * FRAME_BYTES;
  if (slab >= needed) return;
  throw new Failure({
    message: `--fuse-threads ${threads} needs --slab ${formatSize(needed)} or more, not ${formatSize(slab)}`,
    hint: 'give a larger --slab, or fewer --fuse-threads',
    exitStatus: EXIT.usage,
  });
}

/** Makes what a first use needs; throws when something of an earlier use is missing. */
async function prepare(settings: MountSettings, flags: MountArguments): Promise<void> {
  preflight(settings);
  await refuseShredded(settings.store);
  makeStoreDirectory(settings.store);
  const { created } = ensureKeyFile(settings);
  if (!created) return;
  const warning =
    `new key in ${settings.keyFile}: keep a copy of it in a safe place; ` +
    'whoever loses it loses the data, nobody can restore it';
  say(flags, warning, { event: 'key-created', keyFile: settings.keyFile });
}

function sayMounted(
  settings: MountSettings,
  flags: MountArguments,
  { pid, replayed }: { pid: number; replayed: readonly ReplayNotice[] },
): void {
  const { store, mountPoint } = settings;
  for (const notice of replayed) say(flags, noticeText(notice), { event: 'journal', ...notice });
  say(flags, `mounted ${store} on ${mountPoint} (pid ${pid})`, {
    event: 'mounted',
    store,
    mountPoint,
    pid,
  });
}

/** One JSON line a second until the mount is gone. */
function printProgress(served: Mount): void {
  const print = (): void => {
    const line = { event: 'progress', atMs: Math.round(performance.now()), ...served.snapshot() };
    process.stdout.write(`${JSON.stringify(line)}\n`);
  };
  const timer = setInterval(print, PROGRESS_PERIOD_MS);
  const stop = (): void => {
    clearInterval(timer);
  };
  served.done.then(stop, stop);
}

async function run(directory: string, flags: MountArguments): Promise<void> {
  const settings = mountSettings(directory, flags);
  refuseHungryThreads(settings);
  await prepare(settings, flags);
  if (!flags.foreground) {
    sayMounted(settings, flags, await startDaemon(settings));
    return;
  }
  process.exitCode = await serve({
    settings,
    log: pino(
      { base: null, timestamp: pino.stdTimeFunctions.isoTime },
      pino.destination({ fd: 2, sync: true }),
    ),
    readyFd: flags.readyFd,
    onMounted: (served) => {
      sayMounted(settings, flags, { pid: process.pid, replayed: served.replayed });
      if (flags.progress) printProgress(served);
    },
  });
}

/** Adds the command to the program. */
export function addMountCommand(program: Command): void {
  const collect = (text: string, before: MountFlags): MountFlags => mountFlags(text, before);
  const slab = sizeIn({ min: SLAB_BYTES_MIN, max: totalmem(), step: FRAME_BYTES });
  program
    .command('mount')
    .summary('mount an encrypted store on a directory')
    .description(
      'Mounts an encrypted store on an empty directory. Returns once the mount stands; the file system ' +
        'then runs in the background until `millrace umount DIR`. The first use makes a key and a store.',
    )
    .argument('<directory>', 'mount point: an empty directory')
    .option(
      '--store <dir>',
      'encrypted store (env MILLRACE_STORE, else ~/.local/share/millrace/store)',
    )
    .option(
      '--key-file <file>',
      'key, 64 hex digits, mode 0600 (env MILLRACE_KEY_FILE, else ~/.config/millrace/key)',
    )
    .option(
      '--journal-dir <dir>',
      'where what the store refuses at unmount is sealed (env MILLRACE_JOURNAL_DIR, else ~/.local/state/millrace)',
    )
    .option(
      '--data-workers <n>',
      'threads that decide about data, each with one that hashes and seals (default: one per core)',
      countIn({ min: 1, max: DATA_WORKERS_MAX }),
    )
    .addOption(
      new Option(
        '--front <name>',
        'who speaks with the kernel: fuse-native needs libfuse 2, see doctor',
      )
        .choices(FRONTS)
        .default('kernel'),
    )
    .option(
      '--fuse-threads <n>',
      'threads that read /dev/fuse, of the front kernel; the slab must have 4M for each, and 4M more (default: 2)',
      countIn({ min: 1, max: FUSE_THREADS_MAX }),
    )
    .option(
      '--slab <size>',
      'memory for data on its way, such as 512M or 1G; it never takes more (default: 256M)',
      slab,
    )
    .addOption(
      new Option(
        '--namespace <name>',
        'namespace to show, made on first use (default: the one called default); may be repeated: ' +
          'several are shown as directories of the mount',
      ).argParser(namespacesWith),
    )
    .option(
      '--gc-interval <duration>',
      'how often garbage is collected: 10m, 12h, 7d; 0: only by millrace gc (default: 1h)',
      durationSeconds,
    )
    .addOption(
      new Option('-o, --option <name[=value],...>', 'mount options, see below; may be repeated')
        .argParser(collect)
        .default({}, 'none'),
    )
    .option('--foreground', 'stay in the foreground and log to stderr; Ctrl-C unmounts')
    .option('--progress', 'with --foreground: one JSON line of counters a second on stdout')
    .option('--json', 'print JSON lines instead of sentences')
    .addOption(new Option('--ready-fd <n>').argParser(countIn({ min: 3, max: 9 })).hideHelp())
    .addHelpText('after', mountOptionsHelp())
    .addHelpText('after', CONTROL_HELP)
    .addHelpText('after', '\nThe log of a background mount is in ~/.local/state/millrace.\n')
    .action(run);
}
