/** The only importer of the addon: what native code does for TypeScript, typed, with a next step when it is missing. */
import { createRequire } from 'node:module';
import { MillraceError } from './errors.ts';

/** Everything that the addon exports: see native/binding/src/lib.rs. Engines are numbers that every thread may use. */
export interface Native {
  /** Keeps keys out of core dumps and away from other processes of the user. Main thread only. */
  harden(): void;
  /** Bytes that a view lies before the next multiple of `alignment`. */
  skip(view: Uint8Array, alignment: number): number;
  keyCheck(keyFile: string): Buffer;
  open(options: OpenOptions, report: (message: string) => void): number;
  stop(engine: number): void;
  close(engine: number): void;
  attach(engine: number, worker: number, commands: Uint8Array, out: Uint8Array): void;
  setWake(engine: number, wake: (() => void) | null): void;
  poll(
    engine: number,
    worker: number,
    consumed: number,
    words: number,
    timeoutMicros: number,
  ): number;
  arm(engine: number, worker: number): boolean;
  /** Memory of the calling thread for the three below: equal parts for the key, what goes in, and what comes out. */
  setScratch(view: Uint8Array): void;
  seal(engine: number, keyBytes: number, plainBytes: number): number;
  /** Bytes, or -1 when the value is not authentic. */
  unseal(engine: number, keyBytes: number, sealedBytes: number): number;
  nameHash(engine: number, ino: number, nameBytes: number): void;
  space(engine: number): number[];
  needsSync(engine: number): boolean;
  mount(engine: number, options: FrontOptions, ended: () => void): void;
  unmount(engine: number, lazy: boolean): string | null;
  abort(engine: number): void;
}

/** What an engine is opened with. The views stay referenced by the addon until `close`. */
export interface OpenOptions {
  control: Uint8Array;
  shards: Uint8Array[];
  inline: Uint8Array;
  frames: number;
  dataWorkers: number;
  movers: number;
  keyFile: string;
  store: string;
}

/** What the kernel front mounts. */
export interface FrontOptions {
  directory: string;
  source: string;
  allowOther: boolean;
  threads: number;
}

/** What `poll` yields instead of a count of descriptors. */
export const POLL = { STOPPED: -1, MALFORMED: -2 } as const;

let loaded: Native | undefined;

/** The addon. Throws MillraceError ADDON_MISSING when it is not built or does not load here. */
export function native(): Native {
  loaded ??= load();
  return loaded;
}

function load(): Native {
  const libc = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  const flavour = libc.header?.glibcVersionRuntime === undefined ? 'musl' : 'gnu';
  const file = `native/addon/index.${process.platform}-${process.arch}-${flavour}.node`;
  try {
    return createRequire(import.meta.url)(`../../${file}`) as Native;
  } catch (cause) {
    throw new MillraceError('ADDON_MISSING', `the native addon ${file} cannot be loaded`, {
      hint: 'Run `npm run setup` in the checkout to build it.',
      cause,
    });
  }
}
