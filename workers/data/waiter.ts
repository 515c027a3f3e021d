/** Who waits until dirty data has been settled: a SYNC, an autocommit, the end of an inode. */

/** Someone who waits for some regions. */
export interface Waiter {
  /** Counts regions that are not done. */
  remaining: number;
  /** The first errno of a settle. */
  errno: number;
  /** Keep waiting when a settle fails. */
  readonly patient: boolean;
  done(errno: number): void;
}

/** A waiter at one of its regions. */
export interface Waiting {
  readonly waiter: Waiter;
  /** The region is done when so many of its settles have ended. */
  target: number;
}

/** A waiter for nothing yet. */
export function newWaiter(patient: boolean, done: (errno: number) => void): Waiter {
  return { remaining: 0, errno: 0, patient, done };
}

/** Tells a waiter that one of the things that it counts is done; the last one ends its waiting. */
export function release(waiter: Waiter, errno: number): void {
  waiter.errno ||= errno;
  waiter.remaining -= 1;
  if (waiter.remaining === 0) waiter.done(waiter.errno);
}
