/** What a file may hold after a crash: the model's half of the crash matrix. */
import { Buffer } from 'node:buffer';

/** One change of a file's bytes. What is written is a text, repeated. */
export type Change =
  | { kind: 'write'; offset: number; repeat: string; length: number }
  | { kind: 'truncate'; size: number };

/** The bytes after a change; `before` stays as it is. */
export function changed(before: Buffer, change: Change): Buffer {
  if (change.kind === 'truncate') {
    const after = Buffer.alloc(change.size);
    before.copy(after);
    return after;
  }
  const end = change.offset + change.length;
  const after = Buffer.alloc(Math.max(before.length, end));
  before.copy(after);
  if (change.length > 0) after.fill(change.repeat, change.offset, end, 'latin1');
  return after;
}

/**
 * A file's bytes as they are durable, and the changes since then, which a crash may keep, drop, or keep in parts.
 */
export class Contents {
  #durable: Buffer = Buffer.alloc(0);
  #changes: Change[] = [];
  /** Of the changes, those that a sync of anything would make durable: the file was closed after them. */
  #closed = 0;

  /** Notes a change that is about to be asked for. */
  change(change: Change): void {
    this.#changes.push(change);
  }

  /** Every change so far survives what is tested. */
  settle(): void {
    this.#advance(this.#changes.length);
  }

  /** Every change so far is in the tree: a sync of anything makes it durable. */
  close(): void {
    this.#closed = this.#changes.length;
  }

  /** Something else was synced. */
  settleClosed(): void {
    this.#advance(this.#closed);
  }

  /** After a crash: this is what the file holds. */
  adopt(bytes: Buffer): void {
    this.#durable = bytes;
    this.#changes = [];
    this.#closed = 0;
  }

  /** How many bytes the file has when all of its changes are made. */
  get length(): number {
    let length = this.#durable.length;
    for (const change of this.#changes) {
      const end = change.kind === 'truncate' ? change.size : change.offset + change.length;
      length = change.kind === 'truncate' ? end : Math.max(length, end);
    }
    return length;
  }

  #advance(count: number): void {
    const done = this.#changes.splice(0, count);
    for (const change of done) this.#durable = changed(this.#durable, change);
    this.#closed = Math.max(0, this.#closed - count);
  }

  /** The durable bytes, and those after each further change. */
  states(): Buffer[] {
    const states = [this.#durable];
    for (const change of this.#changes) states.push(changed(states.at(-1) as Buffer, change));
    return states;
  }

  /**
   * What is wrong with these bytes; undefined where each of them is one that the file had at its place since its last
   * durable state, or a zero where it had none.
   */
  problem(found: Buffer): string | undefined {
    const states = this.states();
    if (states.some((state) => state.equals(found))) return undefined;
    const sizes = states.map((state) => state.length);
    if (found.length < Math.min(...sizes) || found.length > Math.max(...sizes)) {
      return `${found.length} bytes, when sizes were ${sizes.join(', ')}`;
    }
    const least = Math.min(...sizes);
    for (let at = 0; at < found.length; at += 1) {
      const byte = found[at];
      if (byte === 0 && at >= least) continue;
      if (!states.some((state) => at < state.length && state[at] === byte)) {
        const had = states.map((state) => state.subarray(at, at + 12).toString('latin1'));
        const has = found.subarray(at, at + 12).toString('latin1');
        return `byte ${at} of ${found.length}: ${JSON.stringify([has, ...had])}`;
      }
    }
    return undefined;
  }
}
