/** Who must act on an error, and so what a program does with it. */
export type ErrorFamily = 'usage' | 'limit' | 'io' | 'lifecycle' | 'invariant';

/** One row of the table of errors. */
export interface ErrorRow {
  /** usage: the caller; limit: wait and retry; io: the operator; lifecycle: nobody; invariant: us. */
  readonly family: ErrorFamily;
  /** Exit status of a command that ends with this error, 1 to 125. */
  readonly exitStatus: number;
}

/** Every code that a {@link MillraceError} may carry. Codes are permanent: programs match them, never messages. */
export const ERRORS = {
  /** The command line or an option has no meaning. */
  USAGE: { family: 'usage', exitStatus: 2 },
  /** A bound was reached; the same call may succeed later. */
  LIMIT: { family: 'limit', exitStatus: 1 },
  /** The directory holds no store. */
  STORE_MISSING: { family: 'io', exitStatus: 1 },
  /** The directory holds a store already. */
  STORE_EXISTS: { family: 'usage', exitStatus: 2 },
  /** A later version of Millrace wrote the store. */
  STORE_NEWER: { family: 'io', exitStatus: 1 },
  /** The store's own files cannot be understood. */
  STORE_DAMAGED: { family: 'io', exitStatus: 1 },
  /** Another process uses the store. */
  STORE_BUSY: { family: 'limit', exitStatus: 1 },
  /** The disk or the operating system refused what the store needs. */
  STORE_IO: { family: 'io', exitStatus: 1 },
  /** There is no key where the store expects it. */
  KEY_MISSING: { family: 'io', exitStatus: 1 },
  /** The key is not the one that the store was made with. */
  KEY_WRONG: { family: 'io', exitStatus: 1 },
  /** The key was the store's until it was rotated. */
  KEY_ROTATED: { family: 'io', exitStatus: 1 },
  /** The store's key was destroyed on purpose: nothing can open it. */
  KEY_SHREDDED: { family: 'io', exitStatus: 1 },
  /** The key's source cannot be understood or is readable by others. */
  KEY_UNSAFE: { family: 'io', exitStatus: 1 },
  /** The native addon is not built, or does not load on this host. */
  ADDON_MISSING: { family: 'io', exitStatus: 1 },
  /** What the chosen front needs is not there: a package, a library. */
  FRONT_MISSING: { family: 'io', exitStatus: 1 },
  /** The kernel or its helper refused the mount. */
  MOUNT_REFUSED: { family: 'io', exitStatus: 1 },
  /** Garbage could not be collected, or not all of it. */
  COLLECTION_FAILED: { family: 'io', exitStatus: 1 },
  /** The object was closed before the call. */
  CLOSED: { family: 'lifecycle', exitStatus: 1 },
  /** A bug in Millrace. */
  INVARIANT: { family: 'invariant', exitStatus: 1 },
} as const;

/** A code of {@link ERRORS}. */
export type ErrorCode = keyof typeof ERRORS;

/** The same table, row by row; the compiler checks each row here. */
const ROWS: Readonly<Record<ErrorCode, ErrorRow>> = ERRORS;

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
    this.exitStatus = options.exitStatus ?? ROWS[code].exitStatus;
  }

  /** Who must act. */
  get family(): ErrorFamily {
    return ROWS[this.code].family;
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
