import { statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { flushDirectory } from '../durable-directory.ts';
import { MillraceError } from '../errors.ts';
import { pass } from '../kill-points.ts';
import { BOOT_ID_BYTES, readBootId } from './boot-id.ts';
import {
  damagedLog,
  FoundSegment,
  type LogPosition,
  LogRecord,
  LogSegment,
  type OnChange,
} from './log-segment.ts';
import { SharedRun } from './shared-run.ts';

/** Types of file systems (`statfs`) that forget everything with the machine: there is nothing to wait for. */
const VOLATILE = new Set([0x0102_1994, 0x8584_58f6]);

/** How a {@link WriteAheadLog} is opened. */
export interface WriteAheadLogOptions {
  /** Its two files, in one directory that exists. */
  paths: readonly [string, string];
  /** Names this run of the machine; the kernel's own unless given. */
  bootId?: string;
  /** Whether the files' bytes are gone with the machine in any case; found out unless given. */
  isVolatile?: boolean;
}

/**
 * A write-ahead log: what is appended survives the end of this process, however it ends, at the price of one write to
 * the page cache; and the end of the machine once `sync` has resolved.
 *
 * Records are numbered by position: a generation, which is one fill of one of two files, and a sequence in it. The
 * store below says, with every commit, up to which position it has everything. So replaying is the same after any end
 * of a process or a machine, whichever state of the store below is left: what follows its position, as long as record
 * follows record. A generation that begins behind changes which were not logged follows nothing but a store below that
 * has them; until that has synced them, `sync` would promise too much, and its owner must not call it.
 *
 * **Bounds:** two files of 8 MiB; `append` says when there is no room. Threads: one thread uses one log.
 */
export class WriteAheadLog {
  /** Whether the bytes of its files are gone with the machine: `sync` has nothing to wait for. */
  readonly isVolatile: boolean;
  readonly #paths: readonly [string, string];
  readonly #bootId: string;
  readonly #record = new LogRecord();
  readonly #syncs = new SharedRun(() => this.#sync());
  #current: LogSegment;
  #other: LogSegment;
  #generation = 0;
  #isOpen = false;
  #hasFailed = false;
  #wasLeft = false;
  /** Whether the names of its files are on the disk. */
  #isNamed = false;
  /** From this generation on records follow what the store below may not have on its disk; 0: none do. */
  #unanchored = 0;
  /** The generation of the last restart. */
  #restarted = 0;

  constructor({ paths, bootId = readBootId(), isVolatile }: WriteAheadLogOptions) {
    this.#paths = paths;
    this.#bootId = bootId.slice(0, BOOT_ID_BYTES).padEnd(BOOT_ID_BYTES);
    this.isVolatile = isVolatile ?? VOLATILE.has(statfsSync(dirname(paths[0])).type);
    this.#current = new LogSegment(paths[0], !this.isVolatile);
    this.#other = new LogSegment(paths[1], !this.isVolatile);
  }

  // ---- what an earlier process left ----

  /**
   * Visits the changes behind `written` that an earlier process left, in their order, and says how many records they
   * were. Whoever has them written where they belong, and on the disk, may `restart` the log. Throws STORE_DAMAGED when
   * it has lost what it promised.
   */
  replay(visit: OnChange, written: LogPosition): number {
    const found = this.#paths.map((path) => FoundSegment.read(path)).filter(isThere);
    this.#wasLeft = found.length > 0;
    found.sort((a, b) => a.generation - b.generation);
    // No generation is given twice, not even that of a file which counts for nothing.
    const generations = found.map(({ generation }) => generation);
    this.#generation = Math.max(written.generation, ...generations);
    let position = written;
    let records = 0;
    for (const segment of found) {
      if (segment.generation < position.generation) continue;
      const isSameBoot = segment.bootId === this.#bootId;
      if (!follows(segment, position)) {
        if (segment.isPromised(isSameBoot)) throw damagedLog();
        break;
      }
      const first = segment.generation === position.generation ? position.sequence : 0;
      const sequence = segment.replay(first, isSameBoot, visit);
      records += Math.max(0, sequence - first);
      position = { generation: segment.generation, sequence: Math.max(first, sequence) };
    }
    return records;
  }

  /** Whether `replay` has found files of an earlier process, with something to replay or not. */
  get wasLeft(): boolean {
    return this.#wasLeft;
  }

  // ---- records ----

  /** Whether it takes records. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Whether it should `rotate` soon: room is short. */
  get isNearlyFull(): boolean {
    return this.#isOpen && this.#current.isNearlyFull;
  }

  /** Behind everything that was appended. */
  get position(): LogPosition {
    const sequence = this.#isOpen ? this.#current.sequence : 0;
    return { generation: this.#generation, sequence };
  }

  /** The position at which the next generation begins. */
  get next(): LogPosition {
    return { generation: this.#generation + 1, sequence: 0 };
  }

  /** Starts a record. */
  begin(): void {
    this.#record.begin();
  }

  /** Adds a change to the record that was begun. */
  add(key: Uint8Array, value: Uint8Array | undefined): void {
    this.#record.add(key, value);
  }

  /**
   * Writes the record. False: there is no room for it, and nothing was written. Throws STORE_IO when the file cannot be
   * written; the record does not count then.
   */
  append(): boolean {
    if (!this.#isOpen) return false;
    try {
      return this.#current.append(this.#record);
    } catch (cause) {
      throw logError(cause);
    }
  }

  // ---- generations ----

  /**
   * Begins the `next` generation in the other file, behind what was appended so far. False: that file is still needed,
   * or cannot be written; the present one goes on.
   */
  rotate(): boolean {
    return this.#isOpen && this.#begin(this.position);
  }

  /**
   * Begins the `next` generation behind a commit below that said so: it follows nothing else. Where there is no file
   * for it the log takes no records until the next restart.
   */
  restart(): void {
    this.#isOpen = this.#begin(this.next);
    if (!this.#isOpen) this.#generation += 1;
    this.#restarted = this.#generation;
    this.#unanchored ||= this.#generation;
  }

  #begin(after: LogPosition): boolean {
    if (this.#hasFailed || this.#other.generation !== 0) return false;
    const { generation } = this.next;
    try {
      if (this.#other.begin(generation, after, this.#bootId)) this.#isNamed = false;
    } catch {
      return false;
    }
    [this.#current, this.#other] = [this.#other, this.#current];
    this.#generation = generation;
    return true;
  }

  /** The store below has on its disk everything before this generation: files of earlier ones are free. */
  release(generation: number): void {
    if (generation >= this.#restarted) this.#unanchored = 0;
    else if (generation >= this.#unanchored) this.#unanchored = generation + 1;
    for (const segment of [this.#current, this.#other]) {
      if (segment.generation < generation) segment.free();
    }
  }

  // ---- the disk ----

  /**
   * Resolves when everything that was appended before the call is on the disk. Rejects with STORE_IO when that is
   * unknown: the log takes no records any more.
   */
  sync(): Promise<void> {
    return this.isVolatile ? Promise.resolve() : this.#syncs.run();
  }

  async #sync(): Promise<void> {
    try {
      pass('log-sync');
      // The older one first: a record is worth nothing without those before it.
      for (const segment of [this.#other, this.#current]) {
        if (segment.isDirty && this.#mayPromise(segment)) await segment.sync();
      }
      if (!this.#isNamed) {
        this.#isNamed = true; // A file that is made meanwhile says otherwise again.
        await flushDirectory(dirname(this.#paths[0]));
      }
      pass('log-synced');
    } catch (cause) {
      this.#hasFailed = true;
      this.#isOpen = false;
      throw logError(cause);
    }
  }

  /** Whether what a segment follows is on the disk, so that being there means something. */
  #mayPromise({ generation }: LogSegment): boolean {
    return this.#unanchored === 0 || generation < this.#unanchored;
  }

  /** Resolves when no sync runs any more. */
  settled(): Promise<void> {
    return this.#syncs.idle();
  }

  /** Lets go of the files. `remove` deletes them: everything in them is on the disk where it belongs. */
  close(remove: boolean): void {
    this.#isOpen = false;
    this.#current.close(remove);
    this.#other.close(remove);
    if (!remove) return;
    // What an earlier process left and this one never wrote to.
    for (const path of this.#paths) new LogSegment(path, false).close(true);
  }
}

/** Whether nothing is missing between a position and the first record of a segment. */
function follows({ generation, after }: FoundSegment, position: LogPosition): boolean {
  if (generation === position.generation) return true;
  if (after.generation !== position.generation) return after.generation < position.generation;
  return after.sequence <= position.sequence;
}

function isThere(segment: FoundSegment | undefined): segment is FoundSegment {
  return segment !== undefined;
}

function logError(cause: unknown): MillraceError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new MillraceError('STORE_IO', `the write-ahead log cannot be written: ${reason}`, {
    hint: 'Check free space and the health of the disk that holds the store.',
    cause,
  });
}
