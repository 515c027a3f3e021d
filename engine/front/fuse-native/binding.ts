/**
 * The one importer of the npm binding `fuse-native`: its native half, which calls JavaScript for what libfuse 2.9 is
 * asked. The binding's own JavaScript half is left out: it converts what the front can have as it is.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { MillraceError } from '../../errors.ts';
import { native } from '../../native.ts';

/** The version whose records native/fuse/src/libfuse2.rs can read; package.json pins it. */
export const BINDING_VERSION = '2.2.6';
/** Bytes of the binding's record of a mount. */
const MOUNT_BYTES = 2640;

/** Called for one operation: the record of the call, the operation's number, then what the binding converted. */
export type Handler = (call: Buffer, operation: number, ...converted: never[]) => void;

/** The calls of the binding that are used. */
export interface Binding {
  readonly sizeof_fuse_thread_t: number;
  /** Mounts at once; operations arrive through the main thread's event loop. `options` begin with `-o`. */
  fuse_native_mount(
    directory: string,
    options: string,
    record: Buffer,
    context: object,
    allocate: (bytes: number) => Buffer,
    handlers: readonly Handler[],
    implemented: Uint32Array,
  ): void;
  /** Takes the mount's handle off the event loop. */
  fuse_native_unmount(directory: string, record: Buffer): void;
  fuse_native_signal_init(call: Buffer, result: number): void;
  /** Ends a call: nothing but the result, whatever the operation. */
  fuse_native_signal_flush(call: Buffer, result: number): void;
  /** Ends a call that came with memory of libfuse's, which is taken away from JavaScript. */
  fuse_native_signal_read(
    call: Buffer,
    result: number,
    ignored: number,
    memory: ArrayBufferLike,
  ): void;
}

/** Numbers by which the binding knows operations. */
export const OPERATION = {
  init: 0,
  statfs: 3,
  fgetattr: 4,
  getattr: 5,
  flush: 6,
  fsync: 7,
  fsyncdir: 8,
  readdir: 9,
  truncate: 10,
  ftruncate: 11,
  utimens: 12,
  readlink: 13,
  chown: 14,
  chmod: 15,
  mknod: 16,
  setxattr: 17,
  getxattr: 18,
  listxattr: 19,
  removexattr: 20,
  open: 21,
  read: 23,
  write: 24,
  release: 25,
  create: 27,
  unlink: 28,
  rename: 29,
  link: 30,
  symlink: 31,
  mkdir: 32,
  rmdir: 33,
} as const;

/** How many numbers the binding's tables have. */
export const OPERATION_COUNT = 35;

/**
 * The binding as the module `from` would find it. Throws MillraceError FRONT_MISSING where it or libfuse 2 is not there.
 * Main thread only: its loop is used.
 */
export function loadBinding(from: string = import.meta.url): Binding {
  const require = createRequire(from);
  let manifest: string;
  try {
    manifest = require.resolve('fuse-native/package.json');
  } catch (cause) {
    throw missing('the package fuse-native is not installed', cause);
  }
  const { version } = require(manifest) as { version: string };
  if (version !== BINDING_VERSION) {
    throw missing(`fuse-native is ${version}, but ${BINDING_VERSION} is needed`);
  }
  const binding = loadBuild(path.dirname(manifest));
  if (binding.sizeof_fuse_thread_t !== MOUNT_BYTES) {
    throw missing(`this build of fuse-native ${version} has records of another size`);
  }
  return binding;
}

/** The system's libfuse 2 where there is one, else the one that the package brings. */
function loadBuild(directory: string): Binding {
  const load = createRequire(path.join(directory, 'index.js'));
  const build = load('node-gyp-build') as (directory: string) => Binding;
  try {
    return build(directory);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    if (!reason.includes('libfuse')) throw missing(firstLine(reason), cause);
    const brought = path.join(directory, 'prebuilds', `linux-${process.arch}`, 'libfuse.so');
    const refusal = existsSync(brought) ? native().loadLibrary(brought) : reason;
    if (refusal !== null) throw missing(firstLine(refusal), cause);
    return build(directory);
  }
}

function firstLine(text: string): string {
  return text.split('\n')[0] ?? text;
}

function missing(reason: string, cause?: unknown): MillraceError {
  return new MillraceError('FRONT_MISSING', `the front fuse-native cannot be used: ${reason}`, {
    hint: 'Run `npm run setup`, install libfuse 2 (Debian: apt-get install libfuse2), or use --front kernel.',
    ...(cause !== undefined && { cause }),
  });
}
