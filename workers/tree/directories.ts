/** The operations on open directories: OPENDIR, READDIR, READDIRPLUS, RELEASEDIR, FSYNCDIR. */

import { IN_STRUCT_BYTES, OUT_STRUCT_BYTES } from '../../engine/fuse-protocol.ts';
import { S_IFDIR } from '../../engine/tree/mode.ts';
import { type Answer, direntBytes } from './answer.ts';
import type { DirectoryEntry } from '../../engine/tree/types.ts';
import { type Context, FAILURE } from './context.ts';
import { u32 } from './decode.ts';
import type { Outcome, Request } from './request.ts';

/** Cookies in front of the tree's: `.` and `..`. The kernel sees a tree's cookie plus this. */
const DOT_ENTRIES = 2;
const DOT: Uint8Array = Uint8Array.of(0x2e);
const DOT_DOT: Uint8Array = Uint8Array.of(0x2e, 0x2e);
const WORD = 0x1_0000_0000;

/**
 * Always succeeds without a look: the kernel knows that it is a directory, and READDIR says when it
 * is gone. The kernel may not keep the listing, so that each opendir(3) sees what other clients
 * changed.
 */
export function opendir(_context: Context, _request: Request, answer: Answer): Outcome {
  answer.openDirectory();
  return answer.length;
}

/** Nothing was taken by OPENDIR. */
export function releasedir(): Outcome {
  return 0;
}

/** Makes all names durable: the tree has one log, so that one directory cannot be synced alone. */
export function fsyncdir(context: Context, request: Request): Outcome {
  return context.inodes.syncTree(request);
}

/** Names with their types, behind the cookie that the request gives; no bytes mean the end. */
export function readdir(context: Context, request: Request, answer: Answer): Outcome {
  return list(context, request, new Listing(context, answer, 0));
}

/** Names with their types and attributes, as if each had been looked up. */
export function readdirplus(context: Context, request: Request, answer: Answer): Outcome {
  return list(context, request, new Listing(context, answer, OUT_STRUCT_BYTES.ENTRY));
}

function list(context: Context, request: Request, listing: Listing): Outcome {
  const { body, node } = request;
  if (body.length < IN_STRUCT_BYTES.READ) return FAILURE.EIO;
  const cookie = treeCookie(u32(body, 8), u32(body, 12));
  if (Number.isNaN(cookie)) return FAILURE.EINVAL;
  listing.limit(u32(body, 16));
  if (cookie < 0 && !listing.addDots(node, cookie)) return listing.outcome();
  const errno = context.tree.readdir(node, Math.max(cookie, 0), (entry) => listing.add(entry));
  return errno === 0 ? listing.outcome() : -errno;
}

/**
 * The tree's cookie for the kernel's (as two words): -2 at the start, -1 behind `.`, 0 behind `..`.
 * The words are subtracted before they become a double, since the sum may lie beyond 2^53; NaN for
 * what no listing ever gave out.
 */
function treeCookie(low: number, high: number): number {
  const cookie =
    low >= DOT_ENTRIES || high === 0
      ? high * WORD + (low - DOT_ENTRIES)
      : (high - 1) * WORD + (low + WORD - DOT_ENTRIES);
  return Number.isSafeInteger(cookie) ? cookie : Number.NaN;
}

/** A piece of a listing while it is written: records go to the answer until one does not fit. */
class Listing {
  readonly #context: Context;
  readonly #answer: Answer;
  /** Bytes in front of each record: those of fuse_entry_out, or 0. */
  readonly #entryBytes: number;
  #limit = 0;
  /** An entry was refused for want of room. */
  #full = false;

  constructor(context: Context, answer: Answer, entryBytes: number) {
    this.#context = context;
    this.#answer = answer;
    this.#entryBytes = entryBytes;
  }

  /** Sets how many bytes the reader takes. */
  limit(bytes: number): void {
    this.#limit = Math.min(bytes, this.#answer.room);
  }

  /**
   * Adds `.` and `..`, or only the latter when the tree's cookie would be -1; false when they do
   * not fit.
   */
  addDots(ino: number, cookie: number): boolean {
    const attributes = this.#context.tree.getattr(ino);
    // READDIR itself says what is wrong with the directory.
    if (typeof attributes === 'number') return true;
    const type = S_IFDIR;
    // `..` has the directory's own number too: programs follow `..` by its name, never by its
    // d_ino.
    const dot = cookie > -DOT_ENTRIES || this.#put({ name: DOT, ino, type, cookie: 1 }, 0);
    return dot && this.#put({ name: DOT_DOT, ino, type, cookie: 2 }, 0);
  }

  /** Adds an entry of the tree; false when it does not fit. */
  add(entry: DirectoryEntry): boolean {
    return this.#put(entry, DOT_ENTRIES);
  }

  /**
   * The bytes written. EINVAL when there is an entry and it alone does not fit, as getdents(2)
   * says.
   */
  outcome(): Outcome {
    const { length } = this.#answer;
    return this.#full && length === 0 ? FAILURE.EINVAL : length;
  }

  #put(entry: DirectoryEntry, shift: number): boolean {
    const bytes = this.#entryBytes + direntBytes(entry.name.length);
    this.#full = this.#answer.length + bytes > this.#limit;
    if (this.#full) return false;
    if (this.#entryBytes === 0) {
      this.#answer.dirent(entry, shift);
      return true;
    }
    const at = this.#answer.reserveEntry();
    // The name first: the tree may use its memory again when it is asked for the attributes.
    const { ino } = entry;
    this.#answer.dirent(entry, shift);
    this.#describe(at, shift === 0 ? 0 : ino);
    return true;
  }

  /**
   * Fills in the entry in front of a record; without attributes (`.`, `..`, a damaged inode) the
   * kernel looks it up.
   */
  #describe(at: number, ino: number): void {
    const { tree, validity } = this.#context;
    const attributes = ino === 0 ? 0 : tree.getattr(ino);
    const known = typeof attributes !== 'number';
    this.#answer.entryAt(at, known ? this.#context.current(attributes) : undefined, validity);
  }
}
