/** Lets a test end a worker's thread in the middle of its work, to see that nobody hangs then. */

/**
 * `MILLRACE_TEST_DIE=role:turns` (role is data or tree) makes workers of that role throw after so many turns.
 * Yields the turn for a role: Infinity, that is never, without the variable. Native threads have roles of their own:
 * `native/core/src/mortality.rs`.
 */
export function turnsToLive(role: 'data' | 'tree'): number {
  const [which, turns] = (process.env['MILLRACE_TEST_DIE'] ?? '').split(':');
  return which === role ? Number(turns) : Number.POSITIVE_INFINITY;
}

/** Throws what a test asked for. */
export function die(): never {
  throw new Error('this thread was told to die by MILLRACE_TEST_DIE');
}
