/** What a handler gets and what it yields. */

/** One request of the kernel, as the front queued it. */
export interface Request {
  /** The request slot: who is answered. */
  slot: number;
  /** One of `OPCODE`, or a number that this version does not know. */
  opcode: number;
  /** The inode that the request is about (nodeid); below 2^53. */
  node: number;
  uid: number;
  gid: number;
  pid: number;
  /** Everything behind fuse_in_header. Valid, and unchanged, only during the call. */
  body: Uint8Array;
}

/**
 * How a request ended: 0 or more is the bytes of the answer that were written, negative is -errno,
 * and `PENDING` says that the answer comes later.
 */
export type Outcome = number;

/**
 * The request is answered later, by whoever took it over. Below every -errno (the kernel's largest
 * is 4095).
 */
export const PENDING: Outcome = -4096;
