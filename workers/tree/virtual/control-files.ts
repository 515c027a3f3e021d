/**
 * The files of a namespace's control directory: what they contain, and what writing to them does.
 *
 * They have no inode slot: their handles carry a number of ours instead, and fronts hand everything
 * on that comes with such a handle. What was read once stays the same until its reader starts again
 * at byte 0, so that a reader in pieces sees one text.
 */
import { Buffer } from 'node:buffer';
import { constants as fs } from 'node:fs';
import { constants as os } from 'node:os';
import { FATTR, FOPEN, IN_STRUCT_BYTES } from '../../../engine/fuse-protocol.ts';
import { S_IFREG } from '../../../engine/tree/mode.ts';
import { CONTROL_HANDLES_MAX } from '../../../engine/limits.ts';
import type { Result } from '../../../engine/tree/types.ts';
import type { Answer } from '../answer.ts';
import { u32, u64 } from '../decode.ts';
import { HANDLE_WRITE, NO_SLOT } from '../file-handle.ts';
import { type Outcome, PENDING, type Request } from '../request.ts';
import type { Control } from './control.ts';
import { ITEM } from './numbers.ts';

/** The names in the control directory, with their items and modes. */
export const CONTROL_FILES: readonly { name: Buffer; item: number; mode: number }[] = [
  { name: Buffer.from('commit'), item: ITEM.COMMIT, mode: S_IFREG | 0o644 },
  { name: Buffer.from('dirty'), item: ITEM.DIRTY, mode: S_IFREG | 0o444 },
  { name: Buffer.from('hash'), item: ITEM.HASH, mode: S_IFREG | 0o444 },
  { name: Buffer.from('status'), item: ITEM.STATUS, mode: S_IFREG | 0o444 },
];

const ACCESS_MASK = 3;
/** Bits of a handle's high word below its number. */
const NUMBER_SHIFT = 2;
const NUMBERS = 2 ** 30;
/** What touch(1), open(2) with O_TRUNC and truncate(2) ask for. */
const TOUCHES = FATTR.SIZE | FATTR.ATIME | FATTR.MTIME;
const REFUSES = FATTR.MODE | FATTR.UID | FATTR.GID;

/** What one file is about. */
export interface ControlFile {
  readonly item: number;
  /** The namespace, and its root directory. */
  readonly namespace: string;
  readonly root: number;
}

/** A READ, kept for its answer. */
interface Reading {
  readonly slot: number;
  readonly handle: number;
  readonly offset: number;
  readonly size: number;
}

/** Serves requests on control files. Threads: the tree worker's. */
export class ControlFiles {
  readonly #control: Control;
  /** What each open handle has begun to read. */
  readonly #texts = new Map<number, Buffer>();
  #next = 0;

  constructor(control: Control) {
    this.#control = control;
  }

  open({ item }: ControlFile, request: Request, answer: Answer): Outcome {
    if (request.body.length < IN_STRUCT_BYTES.OPEN) return -os.errno.EIO;
    const write = (u32(request.body, 0) & ACCESS_MASK) !== fs.O_RDONLY;
    if (write && item !== ITEM.COMMIT) return -os.errno.EACCES;
    if (this.#texts.size >= CONTROL_HANDLES_MAX) return -os.errno.ENFILE;
    do this.#next = (this.#next + 1) % NUMBERS;
    while (this.#texts.has(this.#next));
    this.#texts.set(this.#next, Buffer.alloc(0));
    const flags = write ? HANDLE_WRITE : 0;
    answer.open(NO_SLOT, ((this.#next << NUMBER_SHIFT) | flags) >>> 0, FOPEN.DIRECT_IO);
    return answer.length;
  }

  release({ body }: Request): Outcome {
    if (body.length < IN_STRUCT_BYTES.RELEASE) return -os.errno.EIO;
    this.#texts.delete(handleOf(body));
    return 0;
  }

  /** SETATTR of `commit`: a touch commits. `attributes` writes the answer. */
  touch({ item }: ControlFile, request: Request, attributes: (answer: Answer) => Outcome): Outcome {
    const { body, slot } = request;
    if (body.length < IN_STRUCT_BYTES.SETATTR) return -os.errno.EIO;
    const valid = u32(body, 0);
    const isTouch = (valid & TOUCHES) !== 0 && (valid & REFUSES) === 0;
    if (item !== ITEM.COMMIT || !isTouch) return -os.errno.EPERM;
    return this.#commit(slot, attributes);
  }

  /** WRITE to `commit`, whatever is written. */
  write({ item }: ControlFile, { body, slot }: Request): Outcome {
    if (body.length < IN_STRUCT_BYTES.READ) return -os.errno.EIO;
    if (item !== ITEM.COMMIT) return -os.errno.EBADF;
    const bytes = u32(body, 16);
    return this.#commit(slot, (answer) => {
      answer.written(bytes);
      return answer.length;
    });
  }

  #commit(slot: number, success: (answer: Answer) => Outcome): Outcome {
    this.#control.commitEverything((errno) => {
      this.#control.answerLater(slot, (answer) => {
        return errno === 0 ? success(answer) : -os.errno.EIO;
      });
    });
    return PENDING;
  }

  read(file: ControlFile, { body, slot }: Request, answer: Answer): Outcome {
    if (body.length < IN_STRUCT_BYTES.READ) return -os.errno.EIO;
    const reading = { slot, handle: handleOf(body), offset: u64(body, 8), size: u32(body, 16) };
    if (reading.offset > 0) return this.#give(reading, answer);
    if (file.item === ITEM.HASH) return this.#readHash(file, reading, answer);
    this.#keep(reading, this.#text(file));
    return this.#give(reading, answer);
  }

  #text({ item, namespace }: ControlFile): string {
    switch (item) {
      case ITEM.DIRTY:
        return this.#control.isDirty ? '1\n' : '0\n';
      case ITEM.COMMIT:
        return this.#control.lastError;
      default:
        return `${JSON.stringify(this.#control.status(namespace))}\n`;
    }
  }

  #readHash({ root }: ControlFile, reading: Reading, answer: Answer): Outcome {
    const write = (result: Result<Uint8Array>, to: Answer): Outcome => {
      if (typeof result === 'number') return -result;
      this.#keep(reading, `${Buffer.from(result).toString('hex')}\n`);
      return this.#give(reading, to);
    };
    let known: Result<Uint8Array> | undefined;
    let isLater = false;
    this.#control.hash(root, (result) => {
      if (isLater) this.#control.answerLater(reading.slot, (to) => write(result, to));
      else known = result;
    });
    isLater = true;
    return known === undefined ? PENDING : write(known, answer);
  }

  /** Remembers a text for the READs that follow; a handle that was closed meanwhile has none. */
  #keep({ handle }: Reading, text: string): void {
    if (this.#texts.has(handle)) this.#texts.set(handle, Buffer.from(text));
  }

  #give({ handle, offset, size }: Reading, answer: Answer): Outcome {
    const text = this.#texts.get(handle);
    if (text === undefined) return -os.errno.EBADF;
    answer.raw(text.subarray(offset, offset + Math.min(size, answer.room)));
    return answer.length;
  }
}

/** Our number of an open file, in the handle that starts a request's body. */
function handleOf(body: Uint8Array): number {
  return u32(body, 4) >>> NUMBER_SHIFT;
}
