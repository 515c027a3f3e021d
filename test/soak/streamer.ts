/** A program that streams large files as checkpoints are written, publishes them by rename, and reads them back. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { Draws } from '../support/random.ts';
import { Syscalls } from '../support/syscalls.ts';

/** Bytes of one write, and how many a file has at most. */
const WRITE_BYTES = 3_000_000;
const WRITES_MAX = 12;
const FILES = 4;
/** What calls fail with when nobody serves the mount any more. */
const DEAD = new Set(['ENOTCONN', 'ECONNABORTED']);

/** One program. Its directory is `stream` below the mount. */
export class Streamer {
  readonly #draws: Draws;
  /** What was published, by its name: SHA-256. */
  readonly #published = new Map<string, string>();
  /** What a file that is being replaced may be as well. */
  readonly #next = new Map<string, string>();
  #calls: Syscalls | undefined;
  #root = '';
  #written = 0;

  constructor(draws: Draws) {
    this.#draws = draws;
  }

  /** Bytes that were written so far. */
  get written(): number {
    return this.#written;
  }

  enter(directory: string, onStuck: () => void): void {
    this.#root = `${directory}/stream`;
    this.#calls = new Syscalls({ onStuck });
  }

  async leave(): Promise<void> {
    await this.#calls?.close();
  }

  async begin(): Promise<void> {
    await this.#call('mkdir', this.#root);
    await this.#call('fsync_directory', this.#root.slice(0, this.#root.lastIndexOf('/')));
  }

  /** Writes one file and puts it in the place of an older one. False: the mount has ended meanwhile. */
  async step(): Promise<boolean> {
    const name = `c${this.#draws.below(FILES)}`;
    const draft = `${this.#root}/draft`;
    const hash = createHash('sha256');
    const seed = this.#draws.below(2 ** 31);
    const parts = [['open', 'f', draft, ['O_WRONLY', 'O_CREAT', 'O_TRUNC']]];
    for (const request of parts) if (!(await this.#call(...request))) return false;
    const writes = 1 + this.#draws.below(WRITES_MAX);
    for (let number = 0; number < writes; number++) {
      const repeat = `stream ${seed} ${number};`;
      // The last one ends anywhere.
      const length = number < writes - 1 ? WRITE_BYTES : 1 + this.#draws.below(WRITE_BYTES);
      hash.update(Buffer.alloc(length, repeat, 'latin1'));
      if (!(await this.#call('write', 'f', { repeat, length }))) return false;
      this.#written += length;
    }
    if (!(await this.#call('fsync', 'f'))) return false;
    if (!(await this.#call('close', 'f'))) return false;
    this.#next.set(name, hash.digest('hex'));
    if (!(await this.#call('rename', draft, `${this.#root}/${name}`))) return false;
    this.#published.set(name, this.#next.get(name) as string);
    this.#next.clear();
    return true;
  }

  /** Compares every published file with what was written. False: the mount has ended; throws what is wrong. */
  async verify(): Promise<boolean> {
    for (const name of new Set([...this.#published.keys(), ...this.#next.keys()])) {
      const outcome = await this.#calls?.call('hash', `${this.#root}/${name}`);
      assert.ok(outcome !== undefined);
      const isDraft = this.#next.has(name) && !this.#published.has(name);
      if ('errno' in outcome) {
        if (DEAD.has(outcome.errno)) return false;
        if (outcome.errno === 'ENOENT' && isDraft) continue;
        throw new Error(`stream/${name} cannot be read: ${outcome.errno}`);
      }
      const { sha256 } = outcome.value as { sha256: string };
      const may = [this.#published.get(name), this.#next.get(name)];
      assert.ok(may.includes(sha256), `stream/${name} is not what was written`);
      this.#published.set(name, sha256);
    }
    this.#next.clear();
    return true;
  }

  /** Makes a call that must succeed; false when the mount is gone. */
  async #call(...request: unknown[]): Promise<boolean> {
    assert.ok(this.#calls !== undefined, 'the program has not begun');
    const [operation, ...rest] = request;
    const outcome = await this.#calls.call(operation as string, ...rest);
    if ('value' in outcome) return true;
    if (DEAD.has(outcome.errno)) return false;
    throw new Error(`${JSON.stringify(request).slice(0, 200)} failed with ${outcome.errno}`);
  }
}
