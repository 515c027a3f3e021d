/** The front of Rust threads that read /dev/fuse themselves: native/fuse/src/session.rs. */
import { MillraceError } from '../errors.ts';
import { native } from '../native.ts';
import type { Front, FrontOptions } from './front.ts';

/** Serves a mount by so many native threads. */
export class KernelFront implements Front {
  readonly #options: FrontOptions;
  readonly #threads: number;

  constructor(options: FrontOptions, threads: number) {
    this.#options = options;
    this.#threads = threads;
  }

  async open(ended: () => void): Promise<void> {
    const { engine, directory, source, allowOther, sharedMmap } = this.#options;
    const threads = this.#threads;
    try {
      native().mount(engine, { directory, source, allowOther, sharedMmap, threads }, ended);
    } catch (cause) {
      throw refused(directory, cause);
    }
  }

  async unmount(lazy: boolean): Promise<string | null> {
    return native().unmount(this.#options.engine, lazy);
  }

  async abort(): Promise<string | null> {
    return native().abort(this.#options.engine);
  }

  close(): void {
    // The engine owns the session and lets go of it.
  }
}

/** Why a mount point could not be mounted, with the next step. */
export function refused(directory: string, cause: unknown): MillraceError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new MillraceError('MOUNT_REFUSED', `${directory} cannot be mounted: ${reason}`, {
    hint: 'Run `millrace doctor`: it says what this host lacks.',
    cause,
  });
}
