/**
 * Points at which a test can have the whole process killed, to see that the next one finds everything that was promised.
 */
import { kill, pid } from 'node:process';

/**
 * Every point, and when a process passes it: as the first one makes a store, while it works, as its mount starts on
 * what a killed one left (or on what a power loss left), when it ends, when garbage is collected, as a command changes
 * the keys of a store, or as it seals or replays a recovery journal. Those that native code passes are in
 * `native/store/src/kill.rs` as well.
 */
export const KILL_POINTS = {
  'superblock-written': 'first',
  'superblock-named': 'first',
  'tree-made': 'first',
  'tree-named': 'first',
  'object-created': 'work',
  'object-written': 'work',
  'object-flushed': 'work',
  'object-named': 'work',
  'barrier-begun': 'work',
  'barrier-directory': 'work',
  'barrier-ended': 'work',
  'write-answer': 'work',
  'write-answered': 'work',
  'flush-answer': 'work',
  'flush-answered': 'work',
  'fsync-answer': 'work',
  'fsync-answered': 'work',
  'rename-answer': 'work',
  'rename-answered': 'work',
  'log-append': 'work',
  'log-appended': 'work',
  'write-back': 'work',
  'write-back-commit': 'work',
  'written-back': 'work',
  'log-reset': 'work',
  'log-sync': 'work',
  'log-synced': 'work',
  'tree-sync': 'work',
  'tree-synced': 'work',
  'anchor-written': 'work',
  'anchor-flushed': 'work',
  'anchor-saved': 'work',
  'log-replayed': 'start',
  'log-emptied': 'start',
  'anchor-restored': 'power',
  'tree-closed': 'end',
  'log-removed': 'end',
  'chunks-marked': 'collection',
  'marks-durable': 'collection',
  'sweep-begun': 'collection',
  'chunk-delete': 'collection',
  'chunk-deleted': 'collection',
  'sweep-ended': 'collection',
  'superblock-rewritten': 'keys',
  'superblock-replaced': 'keys',
  'superblock-saved': 'keys',
  'object-replaced': 'keys',
  'tree-resealed': 'keys',
  'tree-unanchored': 'keys',
  'tree-replaced': 'keys',
  'shred-begun': 'keys',
  'shred-key-overwritten': 'keys',
  'shred-key-gone': 'keys',
  'journal-begun': 'journal',
  'journal-written': 'journal',
  'journal-named': 'journal',
  'replay-chunk': 'journal',
  'replay-chunks': 'journal',
  'replay-changes': 'journal',
  'replay-synced': 'journal',
  'replay-removed': 'journal',
  'replay-aside': 'journal',
} as const;

/** One of {@link KILL_POINTS}. */
export type KillPoint = keyof typeof KILL_POINTS;

const [chosen, passages] = (process.env['MILLRACE_TEST_KILL'] ?? '').split(':');
let left = Number(passages);
/** What is done now happens to nobody's data: its passages do not count. */
let isRehearsal = false;

/**
 * Passes a point. `MILLRACE_TEST_KILL=point:n` ends the process by SIGKILL when a thread passes that point for the nth
 * time; without it this is one comparison.
 */
export function pass(point: KillPoint): void {
  if (chosen !== point || isRehearsal) return;
  left -= 1;
  if (left === 0) kill(pid, 'SIGKILL');
}

/** Runs `body`, whose passages on this thread do not count, for it works on nobody's data. */
export function uncounted<T>(body: () => T): T {
  isRehearsal = true;
  try {
    return body();
  } finally {
    isRehearsal = false;
  }
}
