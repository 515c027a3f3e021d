import type { Time } from './types.ts';

/** Less than, equal to or greater than zero as `a` lies before, at or after `b`. */
export function compareTimes(a: Time, b: Time): number {
  return a.seconds - b.seconds || a.nanoseconds - b.nanoseconds;
}
