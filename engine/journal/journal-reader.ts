import { Buffer } from 'node:buffer';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import type { Sealer } from '../tree/types.ts';
import {
  decodeChanges,
  decodeEnd,
  decodeHeader,
  decodeRecordHead,
  type Flaw,
  HEADER_BYTES,
  ID_BYTES,
  isFlaw,
  type JournalChange,
  type JournalEnd,
  type JournalHeader,
  RECORD,
  RECORD_HEAD_BYTES,
  sealingKey,
} from './format.ts';

/** A journal that is whole: what it is to change, and where its chunks lie. */
export interface Journal {
  readonly file: string;
  readonly header: JournalHeader;
  readonly changes: readonly JournalChange[];
  /** Ids of its chunks, 32 bytes each. */
  readonly ids: Uint8Array;
  /** Offset and bytes of each object in the file. */
  readonly places: Float64Array;
  readonly end: JournalEnd;
}

/** Why a file is no whole journal, and what can be read of it, where that is anything. */
export interface FlawedJournal extends Flaw {
  readonly readable?: Journal;
}

/** Which store and key a journal must be of: 16 bytes each. */
export interface JournalOwner {
  readonly store: Uint8Array;
  readonly keyCheck: Uint8Array;
  /** Of older keys of the store, which may open it as well. */
  readonly olderKeyChecks?: readonly Uint8Array[];
}

/** Bytes by offset: a file, or memory in tests. */
export interface JournalBytes {
  readonly length: number;
  /** So many bytes from an offset on, or fewer where they end. */
  read(offset: number, bytes: number): Uint8Array;
}

/**
 * Reads a journal: all of it, or the flaw that keeps it from being one. Objects are located, not
 * opened. Memory: the changes of the tree. Throws what the file system throws.
 */
export function readJournal(
  file: string,
  owner: JournalOwner,
  sealer: Sealer,
): Journal | FlawedJournal {
  const descriptor = openSync(file, 'r');
  try {
    const bytes: JournalBytes = {
      length: fstatSync(descriptor).size,
      read: (offset, length) => readAt(descriptor, offset, length),
    };
    return parseJournal({ file, bytes, owner, sealer });
  } finally {
    closeSync(descriptor);
  }
}

/** What a journal is read with. */
export interface JournalSource {
  /** Its name. */
  readonly file: string;
  readonly bytes: JournalBytes;
  readonly owner: JournalOwner;
  readonly sealer: Pick<Sealer, 'open'>;
}

/** The same for bytes wherever they lie. Throws only what `read` throws. */
export function parseJournal(source: JournalSource): Journal | FlawedJournal {
  const { bytes, owner } = source;
  const head = bytes.read(0, HEADER_BYTES);
  const header = decodeHeader(head);
  if (isFlaw(header)) return header;
  if (!isEqual(header.store, owner.store)) return { flaw: 'it belongs to another store' };
  const keyChecks = [owner.keyCheck, ...(owner.olderKeyChecks ?? [])];
  if (!keyChecks.some((keyCheck) => isEqual(header.keyCheck, keyCheck))) {
    return { flaw: 'it is sealed with another key' };
  }
  return new Parse(source, head, header).run();
}

/** What stands for the end of a journal that lost it. */
const NO_END: JournalEnd = {
  createdMs: 0,
  errno: 0,
  cause: '',
  objects: 0,
  objectBytes: 0,
  changes: 0,
  lost: [],
};

/** One pass over the records. */
class Parse {
  readonly #file: string;
  readonly #bytes: JournalBytes;
  readonly #head: Uint8Array;
  readonly #header: JournalHeader;
  readonly #sealer: Pick<Sealer, 'open'>;
  readonly #changes: JournalChange[] = [];
  readonly #ids: Uint8Array[] = [];
  readonly #places: number[] = [];
  #sealed = 0;
  #end: JournalEnd | undefined;

  constructor({ file, bytes, sealer }: JournalSource, head: Uint8Array, header: JournalHeader) {
    this.#file = file;
    this.#bytes = bytes;
    this.#head = head;
    this.#header = header;
    this.#sealer = sealer;
  }

  run(): Journal | FlawedJournal {
    const flaw = this.#records() ?? this.#miscounted();
    return flaw === undefined ? this.#readable() : { flaw, readable: this.#readable() };
  }

  /** Reads all records, or says what is wrong with the first that is wrong. */
  #records(): string | undefined {
    let at: number = HEADER_BYTES;
    for (let number = 1; at < this.#bytes.length; number++) {
      const where = `record ${number} at byte ${at}`;
      if (this.#end !== undefined) return `${where}: something follows its end`;
      const left = this.#bytes.length - at - RECORD_HEAD_BYTES;
      const head = decodeRecordHead(this.#bytes.read(at, RECORD_HEAD_BYTES), left);
      if (isFlaw(head)) return `${where}: ${head.flaw}`;
      const body = at + RECORD_HEAD_BYTES;
      const flaw =
        head.kind === RECORD.OBJECT
          ? this.#object(body, head.bytes)
          : this.#sealedBody(head.kind, body, head.bytes);
      if (flaw !== undefined) return `${where}: ${flaw}`;
      at = body + head.bytes;
    }
    return undefined;
  }

  #object(at: number, bytes: number): string | undefined {
    const id = this.#bytes.read(at, ID_BYTES);
    if (id.length < ID_BYTES) return 'the file ends within it';
    this.#ids.push(id.slice());
    this.#places.push(at + ID_BYTES, bytes - ID_BYTES);
    return undefined;
  }

  #sealedBody(kind: number, at: number, bytes: number): string | undefined {
    const key = sealingKey(this.#head, kind, this.#sealed++);
    // What is opened lies in memory that the next value uses.
    const plain = this.#sealer.open(key, this.#bytes.read(at, bytes))?.slice();
    if (plain === undefined) return 'it is not authentic';
    if (kind === RECORD.END) {
      const end = decodeEnd(plain);
      if (isFlaw(end)) return end.flaw;
      this.#end = end;
      return undefined;
    }
    const changes = decodeChanges(plain);
    if (isFlaw(changes)) return changes.flaw;
    for (const change of changes) this.#changes.push(change);
    return undefined;
  }

  #miscounted(): string | undefined {
    const end = this.#end;
    if (end === undefined) return 'it has no end: something is missing behind its last record';
    const objects = this.#ids.length;
    if (objects !== end.objects) {
      return `it holds ${objects} chunks, and its end says ${end.objects}`;
    }
    const changes = this.#changes.length;
    return changes === end.changes
      ? undefined
      : `it holds ${changes} changes, and its end says ${end.changes}`;
  }

  #readable(): Journal {
    return {
      file: this.#file,
      header: this.#header,
      changes: this.#changes,
      ids: Buffer.concat(this.#ids),
      places: Float64Array.from(this.#places),
      end: this.#end ?? NO_END,
    };
  }
}

function readAt(file: number, offset: number, length: number): Uint8Array {
  const bytes = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const read = readSync(file, bytes, done, length - done, offset + done);
    if (read === 0) break;
    done += read;
  }
  return bytes.subarray(0, done);
}

function isEqual(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.from(one).equals(other);
}
