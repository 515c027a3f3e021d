/** Counts acknowledgements: something was sent to several workers, and goes on when the last one has answered. */

interface Pending {
  remaining: number;
  errno: number;
  done(errno: number): void;
}

/** Open questions by token. Threads: the tree worker's own. */
export class Barriers {
  readonly #pending = new Map<number, Pending>();
  #next = 1;

  /** A token for `count` acknowledgements; `done` gets the first errno among them, or 0. */
  open(count: number, done: (errno: number) => void): number {
    const token = this.#next;
    this.#next = (this.#next % 0xffff_0000) + 1;
    this.#pending.set(token, { remaining: count, errno: 0, done });
    return token;
  }

  /** One acknowledgement has come. */
  acknowledge(token: number, errno: number): void {
    const pending = this.#pending.get(token);
    if (pending === undefined) throw new Error(`nobody waits for token ${token}`);
    pending.errno ||= errno;
    pending.remaining -= 1;
    if (pending.remaining > 0) return;
    this.#pending.delete(token);
    pending.done(pending.errno);
  }
}
