import { Buffer } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import { getSystemErrorName } from 'node:util';
import { makeDurableDirectory } from '../durable-directory.ts';
import { MillraceError } from '../errors.ts';
import { pass } from '../kill-points.ts';
import type { Kv } from '../kv/kv.ts';
import { native } from '../native.ts';
import type { Sealer } from '../tree/types.ts';
import { fingerprint } from './fingerprint.ts';
import {
  changeBytes,
  encodeEnd,
  encodeHeader,
  type JournalChange,
  type JournalEnd,
  putChange,
  RECORD,
  sealingKey,
} from './format.ts';
import type { KeyChange } from './gate-kv.ts';
import { visitLogged } from './logged-changes.ts';
import { newJournalNames } from './places.ts';

/** Bytes of changes that are sealed together; a longer change is sealed alone. */
const BODY_BYTES = 2 ** 18;
/** The first byte of keys that are no part of the tree. */
const NO_TREE = 0;

/** Which store a journal is for, and where it goes. */
export interface JournalPlace {
  /** Directory of the store's journals. */
  readonly directory: string;
  /** The store's uuid, as 16 bytes. */
  readonly store: Uint8Array;
  /** The first 16 bytes of the check of its key. */
  readonly keyCheck: Uint8Array;
}

/** What the journal's end says of its cause. */
export type JournalCause = Pick<JournalEnd, 'errno' | 'cause' | 'lost'>;

/**
 * A journal that is being written: the engine puts chunks into it, this class what the tree has
 * collected. Memory: 256 KiB beside the changes.
 *
 * Threads: the tree worker's.
 */
export class JournalWriter {
  readonly #engine: number;
  readonly #sealer: Sealer;
  readonly #header: Buffer;
  readonly #created = new Date();
  readonly #names: { unfinished: string; waiting: string };
  #sealed = 0;

  /** Begins the file; from now on what the store refuses goes there. Throws STORE_IO. */
  constructor(engine: number, sealer: Sealer, { directory, store, keyCheck }: JournalPlace) {
    const id = randomBytes(16);
    this.#engine = engine;
    this.#sealer = sealer;
    this.#header = encodeHeader({ store, id, keyCheck });
    this.#names = newJournalNames(directory, this.#created, id);
    makeDirectory(directory);
    this.#check(native().journalBegin(engine, this.#names.unfinished, this.#header));
    pass('journal-begun');
  }

  /** Takes no further chunk; how many there are. */
  endChunks(): number {
    return native().journalEndObjects(this.#engine)[0] as number;
  }

  /** Seals these changes and the end, and gives the file its name, durably: its path. Throws STORE_IO. */
  finish(changes: readonly JournalChange[], cause: JournalCause): string {
    this.#writeChanges(changes);
    const [objects, objectBytes] = native().journalEndObjects(this.#engine);
    const createdMs = this.#created.getTime();
    const end = { ...cause, createdMs, objects, objectBytes, changes: changes.length };
    this.#append(RECORD.END, encodeEnd(end));
    pass('journal-written');
    this.#check(native().journalFinish(this.#engine, this.#names.waiting));
    pass('journal-named');
    return this.#names.waiting;
  }

  /** Deletes what was written. */
  discard(): void {
    native().journalDiscard(this.#engine);
  }

  #writeChanges(changes: readonly JournalChange[]): void {
    let body = Buffer.alloc(BODY_BYTES);
    let used = 0;
    for (const change of changes) {
      const bytes = changeBytes(change);
      if (used > 0 && used + bytes > BODY_BYTES) {
        this.#append(RECORD.CHANGES, body.subarray(0, used));
        used = 0;
      }
      if (bytes > body.length) body = Buffer.alloc(bytes);
      used = putChange(body, used, change);
    }
    if (used > 0) this.#append(RECORD.CHANGES, body.subarray(0, used));
  }

  #append(kind: number, plain: Uint8Array): void {
    const key = sealingKey(this.#header, kind, this.#sealed++);
    const sealed = this.#sealer.seal(key, plain);
    this.#check(native().journalAppend(this.#engine, kind, Uint8Array.from(sealed)));
  }

  #check(errno: number): void {
    if (errno === 0) return;
    throw journalError(`${this.#names.unfinished}: ${getSystemErrorName(-errno)}`);
  }
}

/**
 * The changes with what the store may have under their keys: what it has now, and what a
 * write-ahead log beside it will have put there when it is next opened.
 */
export function withBases(
  changes: readonly KeyChange[],
  store: Kv,
  treeFile: string,
): JournalChange[] {
  const logged = loggedValues(store, treeFile);
  return changes
    .filter(({ key }) => key[0] !== NO_TREE)
    .map(({ key, value }) => {
      const bases = [store.read((snapshot) => fingerprint(snapshot.get(key)))];
      const late = logged.get(nameOf(key));
      if (late !== undefined) bases.push(late);
      return { key, value, bases };
    });
}

/** Fingerprints of the values that a log holds, by key. */
function loggedValues(store: Kv, treeFile: string): Map<string, Uint8Array> {
  const values = new Map<string, Uint8Array>();
  try {
    visitLogged(treeFile, store, (key, value) => {
      values.set(nameOf(key), fingerprint(value));
    });
  } catch {
    // A log that cannot be read now is refused by the next mount as well.
  }
  return values;
}

function nameOf(key: Uint8Array): string {
  return Buffer.from(key).toString('latin1');
}

function makeDirectory(directory: string): void {
  try {
    makeDurableDirectory(directory);
  } catch (error) {
    throw journalError(error instanceof Error ? error.message : String(error));
  }
}

function journalError(reason: string): MillraceError {
  return new MillraceError('STORE_IO', `the recovery journal cannot be written: ${reason}`, {
    hint: 'Name a directory with room by --journal-dir.',
  });
}
