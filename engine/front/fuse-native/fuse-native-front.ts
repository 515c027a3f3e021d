/**
 * The front for hosts where only libfuse 2 works: the npm binding `fuse-native` calls this thread, which queues on the
 * same rings as the kernel front. What it cannot do is listed in engine/front/README.md.
 */
import { MillraceError } from '../../errors.ts';
import { native } from '../../native.ts';
import type { Front, FrontOptions } from '../front.ts';
import { refused } from '../kernel-front.ts';
import { type Binding, loadBinding } from './binding.ts';
import { Lanes } from './lanes.ts';
import { Names } from './names.ts';
import { Operations } from './operations.ts';

/** Largest request of libfuse 2.9, in bytes. */
const REQUEST_BYTES = 131_072;
/**
 * Requests that the kernel may have in flight in the background, and where it begins to hold back. libfuse keeps ten
 * threads; the binding leaks a little memory with every further one that comes and goes.
 */
const BACKGROUND = { MAX: 10, CONGESTION: 8 } as const;
/** How far a buffered reader is run ahead of: four requests. More of them would need more threads than libfuse keeps. */
const READAHEAD_KIB = 512;
/** The binding keeps options and mount point in buffers of 1024 bytes. */
const TEXT_BYTES_MAX = 1023;

/** Serves a mount through libfuse 2. Threads: the main thread, whose loop the binding uses, alone. */
export class FuseNativeFront implements Front {
  readonly #options: FrontOptions;
  readonly #onError: (error: unknown) => void;
  /** Records of calls: libfuse's threads point into them until the process ends. */
  readonly #records: Buffer[] = [];
  #binding: Binding | undefined;
  #mount: Buffer | undefined;
  #lanes: Lanes | undefined;

  constructor(options: FrontOptions, onError: (error: unknown) => void) {
    this.#options = options;
    this.#onError = onError;
  }

  async open(ended: () => void): Promise<void> {
    const { engine, directory, allowOther } = this.#options;
    if (allowOther) {
      throw new MillraceError('USAGE', 'the front fuse-native cannot tell users apart', {
        hint: 'Leave -o allow_other out, or mount with --front kernel.',
      });
    }
    const options = this.#libfuseOptions();
    if (Buffer.byteLength(directory) > TEXT_BYTES_MAX || options.length > TEXT_BYTES_MAX) {
      throw refused(directory, 'its path is too long for the front fuse-native');
    }
    const binding = loadBinding();
    const initiated = new Promise<void>((resolve) => {
      this.#attach(binding, options, resolve);
    });
    native().bridgeMounted(engine, directory, this.#mount as Buffer, ended);
    await initiated;
  }

  #attach(binding: Binding, options: string, onInit: () => void): void {
    const { engine, directory } = this.#options;
    const lanes = new Lanes(engine, {
      uid: process.geteuid?.() ?? 0,
      gid: process.getegid?.() ?? 0,
    });
    const forget = (node: number, lookups: number): void => lanes.forget(node, lookups);
    const names = new Names({ forget, now: () => performance.now() });
    const onError = this.#onError;
    // The answer to INIT sets the read-ahead; the first request comes behind it.
    const onServing = (): void => native().widenReadahead(engine, READAHEAD_KIB);
    const operations = new Operations({ binding, lanes, names, onInit, onServing, onError });
    const { handlers, implemented } = operations;
    const record = Buffer.alloc(binding.sizeof_fuse_thread_t);
    const allocate = (bytes: number): Buffer => {
      const made = Buffer.alloc(bytes);
      this.#records.push(made);
      return made;
    };
    try {
      binding.fuse_native_mount(directory, options, record, this, allocate, handlers, implemented);
    } catch (cause) {
      throw refused(directory, cause);
    }
    this.#binding = binding;
    this.#mount = record;
    this.#lanes = lanes;
  }

  #libfuseOptions(): string {
    const { source, ttlMs } = this.#options;
    const seconds = ttlMs / 1000;
    return `-o${[
      'default_permissions',
      'subtype=millrace',
      `fsname=${source.replaceAll('\\', '\\\\').replaceAll(',', '\\,')}`,
      'use_ino',
      'big_writes',
      // The cache survives an open only while size and mtime are what they were.
      'auto_cache',
      'ac_attr_timeout=0',
      `max_write=${REQUEST_BYTES}`,
      `max_background=${BACKGROUND.MAX}`,
      `congestion_threshold=${BACKGROUND.CONGESTION}`,
      `entry_timeout=${seconds}`,
      `negative_timeout=${seconds}`,
      `attr_timeout=${seconds}`,
    ].join(',')}`;
  }

  async unmount(lazy: boolean): Promise<string | null> {
    return native().unmount(this.#options.engine, lazy);
  }

  async abort(): Promise<string | null> {
    this.#lanes?.fail();
    return native().abort(this.#options.engine);
  }

  close(): void {
    if (this.#binding === undefined || this.#mount === undefined) return;
    this.#binding.fuse_native_unmount(this.#options.directory, this.#mount);
    this.#binding = undefined;
  }
}
