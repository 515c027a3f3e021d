/**
 * Bounds that programs can run into, with what they get then. Those of names, links and attributes are POSIX's or the
 * kernel's and stand where they are checked (`tree/names.ts`, `tree/xattrs.ts`); README.md lists all.
 */
import { INODE_SLOTS } from './layout.ts';

/**
 * Slots that are kept for inodes which nobody has open any more: 2048 that may be opened again soon, and those that workers
 * are just forgetting.
 */
const CLOSED_SLOTS = 4096;

/** The most files that one mount can have open at once, however often each: ENFILE beyond. */
export const OPEN_FILES_MAX: number = INODE_SLOTS - CLOSED_SLOTS;

/**
 * Extents that a region comes to have by what is not written as a whole: holes and copies. Beyond it a hole that takes a
 * part of the region, and a copy into it, get EOPNOTSUPP: programs then write. Written content stays far below, because
 * its owner joins extents (`workers/data/settler.ts`). A record of the tree can hold some 21,000 of them (1 MiB, sealed).
 */
export const REGION_EXTENTS_MAX: 8192 = 8192;

/** Handles of control files that are open at once: ENFILE beyond. */
export const CONTROL_HANDLES_MAX: 4096 = 4096;

/**
 * Seconds since 1970 that no time reaches, in either direction: the years 1697 to 2242. What the shared memory has room
 * for; other times become the nearest.
 */
export const SECONDS_END: number = 2 ** 33;
