/**
 * File handles: what OPEN and CREATE give to the kernel, and every READ, WRITE and RELEASE brings
 * back.
 *
 * ```text
 * bits  0–31   inode slot, or NO_SLOT (a directory)
 * bit     32   HANDLE_WRITE
 * bit     33   HANDLE_APPEND
 * ```
 * A handle holds no index into a table of its own: fronts find the inode slot in it without a look-
 * up.
 */

import { NONE } from '../../engine/layout.ts';

/** The slot of a handle that has none. */
export const NO_SLOT: number = NONE;
/** High word: the file is open for writing. */
export const HANDLE_WRITE = 0x1;
/** High word: every WRITE goes to the end of the file (O_APPEND). */
export const HANDLE_APPEND = 0x2;
