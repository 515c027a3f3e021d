/**
 * Every code that a {@link MillraceError} may carry, and the exit status of a command that ends with it. Codes are
 * permanent: programs match them, never messages.
 */
export const ERRORS = {
  /** The command line or an option has no meaning. */
  USAGE: 2,
  /** A bound was reached; the same call may succeed later. */
  LIMIT: 1,
  /** The directory holds no store. */
  STORE_MISSING: 1,
  /** The directory holds a store already. */
  STORE_EXISTS: 2,
  /** A later version of Millrace wrote the store. */
  STORE_NEWER: 1,
  /** The store's own files cannot be understood. */
  STORE_DAMAGED: 1,
  /** Another process uses the store. */
  STORE_BUSY: 1,
  /** The disk or the operating system refused what the store needs. */
  STORE_IO: 1,
  /** The key is not the one that the store was made with. */
  KEY_WRONG: 1,
  /** The key was the store's until it was rotated. */
  KEY_ROTATED: 1,
  /** The store's key was destroyed on purpose: nothing can open it. */
  KEY_SHREDDED: 1,
  /** The native addon is not built, or does not load on this host. */
  ADDON_MISSING: 1,
  /** What the chosen front needs is not there: a package, a library. */
  FRONT_MISSING: 1,
  /** The kernel or its helper refused the mount. */
  MOUNT_REFUSED: 1,
  /** Garbage could not be collected, or not all of it. */
  COLLECTION_FAILED: 1,
  /** The object was closed before the call. */
  CLOSED: 1,
  /** A bug in Millrace. */
  INVARIANT: 1,
} as const;

/** A code of {@link ERRORS}. */
export type ErrorCode = keyof typeof ERRORS;

/** What a {@link MillraceError} may say beyond its code and message. */
export interface MillraceErrorOptions {
  /** The next step for the person who reads it: one sentence. */
  hint?: string;
  /** Exit status of the command, when it is not the code's own. */
  exitStatus?: number;
  /** What this error was caused by. */
  cause?: unknown;
}

/** An error that a person can act on: a permanent code, what happened, and the next step. */
export class MillraceError extends Error {
  /** Permanent name of what went wrong. */
  readonly code: ErrorCode;
  /** The next step, one sentence; empty when there is none. */
  readonly hint: string;
  /** Exit status of a command that ends with this error. */
  readonly exitStatus: number;

  constructor(code: ErrorCode, message: string, options: MillraceErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'MillraceError';
    this.code = code;
    this.hint = options.hint ?? '';
    this.exitStatus = options.exitStatus ?? ERRORS[code];
  }
}

/** An error as another thread can be told of it: its code and next step travel in the cause. */
export function forOtherThread(error: unknown): unknown {
  if (!(error instanceof MillraceError)) return error;
  const { code, hint, message } = error;
  return new Error(message, { cause: { code, hint } });
}

/** What another thread threw, as it was before `forOtherThread`. */
export function fromOtherThread(error: unknown): unknown {
  if (!(error instanceof Error) || typeof error.cause !== 'object') return error;
  const { code, hint } = (error.cause ?? {}) as Partial<MillraceError>;
  if (code === undefined || !(code in ERRORS)) return error;
  return new MillraceError(code, error.message, { hint: hint ?? '' });
}
