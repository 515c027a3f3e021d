import { createHash } from 'node:crypto';
import { closeSync, fdatasync, fstatSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { flushDirectory } from '../durable-directory.ts';
import { MillraceError } from '../errors.ts';
import { pass } from '../kill-points.ts';
import { BOOT_ID_BYTES, readBootId } from './boot-id.ts';

/*
 * The state of an LMDB file that a power loss cannot take: a copy of its meta pages as of the last
 * sync.
 *
 * An LMDB file begins with two meta pages; the one with the higher transaction number says where
 * the trees' roots lie, and transactions write them in turn. Whoever has the meta pages of a state
 * and all pages that they lead to has the state. The anchor file keeps two slots, written in turn,
 * so that one is whole whatever happens:
 *
 * ```text
 * slot (at 0 and 256 KiB)
 *   magic[8] | sequence u64 | length u32 | boot id[36] | meta pages[length] | sha-256[32]
 * ```
 *
 * Numbers are little-endian; the hash is over everything before it. It finds torn writes, not
 * forgeries: what the pages lead to is sealed by the layer above.
 */

const MAGIC = Buffer.from('MRANCHO1');
const SLOT_BYTES = 256 * 1024;
const SLOTS = 2;
const SEQUENCE_AT = 8;
const LENGTH_AT = 16;
const BOOT_AT = 20;
const METAS_AT = BOOT_AT + BOOT_ID_BYTES;
const HASH_BYTES = 32;
/** LMDB's pages have 4 to 64 KiB. */
const METAS_BYTES_MAX = 2 * 65_536;

/** Makes a file's bytes, and the size that leads to them, durable. */
const flushFile = promisify(fdatasync);

interface Slot {
  sequence: number;
  bootId: string;
  metas: Buffer;
}

/**
 * Keeps, and after a power loss puts back, the meta pages of the last synced state of one LMDB
 * file. Its files stay open from the first use to `close`.
 */
export class Anchor {
  readonly #dataPath: string;
  readonly #path: string;
  readonly #bootId: string;
  #sequence = 0;
  /** Whether the names of both files are known to be durable. */
  #isNamed = false;
  /** The data file, and the anchor's own, from the first use on. */
  #dataFile: number | undefined;
  #file: number | undefined;

  /** `bootId` names this run of the machine; the kernel's own unless given. */
  constructor(dataPath: string, bootId: string = readBootId()) {
    this.#dataPath = dataPath;
    this.#path = `${dataPath}-anchor`;
    this.#bootId = bootId.slice(0, BOOT_ID_BYTES).padEnd(BOOT_ID_BYTES);
  }

  /**
   * Puts the meta pages of the last sync back when the machine was started anew since; true when
   * it did. Call it while nobody has the data file open.
   */
  restore(): boolean {
    const slot = this.#newest();
    if (slot === undefined) return false;
    this.#sequence = slot.sequence;
    if (slot.bootId === this.#bootId) return false;
    const file = openIfThere(this.#dataPath, 'r+');
    if (file === undefined) return false;
    try {
      writeAll(file, slot.metas, 0);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    pass('anchor-restored');
    return true;
  }

  /** The meta pages of the last sync; undefined where there was none. */
  savedMetas(): Buffer | undefined {
    return this.#newest()?.metas;
  }

  /** The meta pages as they are now; `pageBytes` is the size of one. */
  readMetas(pageBytes: number): Buffer {
    const metas = Buffer.alloc(2 * pageBytes);
    this.#dataFile ??= openSync(this.#dataPath, 'r');
    const read = readSync(this.#dataFile, metas, 0, metas.length, 0);
    if (read !== metas.length) {
      throw new MillraceError('STORE_DAMAGED', 'the metadata file ends inside its meta pages');
    }
    return metas;
  }

  /**
   * Writes down these meta pages; everything that they lead to must be durable. When it throws, as
   * on a full disk, the saved state is the one before, and it can be tried again.
   */
  write(metas: Buffer): void {
    const sequence = this.#sequence + 1;
    this.#file ??= openSync(this.#path, sequence === 1 ? 'w' : 'r+', 0o600);
    const bytes = encode({ sequence, bootId: this.#bootId, metas });
    writeAll(this.#file, bytes, (sequence % SLOTS) * SLOT_BYTES);
    pass('anchor-written');
  }

  /**
   * Makes what was written last the state that a power loss leads back to. When it rejects, it is
   * unknown which of the two it is. One call at a time.
   */
  async save(): Promise<void> {
    if (this.#file === undefined) throw new MillraceError('INVARIANT', 'no meta pages to save');
    const sequence = this.#sequence + 1;
    await flushFile(this.#file);
    pass('anchor-flushed');
    // Once in every process: the one that made the file may have been killed just before.
    if (!this.#isNamed) await flushDirectory(dirname(this.#path));
    this.#isNamed = true;
    pass('anchor-saved');
    this.#sequence = sequence;
  }

  /** Lets go of both files; nothing may be read or saved afterwards, nor be under way. */
  close(): void {
    for (const file of [this.#dataFile, this.#file]) {
      if (file !== undefined) closeSync(file);
    }
    this.#dataFile = undefined;
    this.#file = undefined;
  }

  #newest(): Slot | undefined {
    const file = openIfThere(this.#path, 'r');
    if (file === undefined) return undefined;
    try {
      let newest: Slot | undefined;
      for (let index = 0; index < SLOTS; index++) {
        const slot = readSlot(file, index * SLOT_BYTES);
        if (slot !== undefined && slot.sequence > (newest?.sequence ?? 0)) newest = slot;
      }
      return newest;
    } finally {
      closeSync(file);
    }
  }
}

function encode({ sequence, bootId, metas }: Slot): Buffer {
  const bytes = Buffer.alloc(METAS_AT + metas.length + HASH_BYTES);
  MAGIC.copy(bytes);
  bytes.writeBigUInt64LE(BigInt(sequence), SEQUENCE_AT);
  bytes.writeUInt32LE(metas.length, LENGTH_AT);
  bytes.write(bootId, BOOT_AT, BOOT_ID_BYTES, 'latin1');
  metas.copy(bytes, METAS_AT);
  hashOf(bytes.subarray(0, -HASH_BYTES)).copy(bytes, bytes.length - HASH_BYTES);
  return bytes;
}

/** The slot at `offset` of the file, undefined when it was never or not wholly written. */
function readSlot(file: number, offset: number): Slot | undefined {
  const bytes = Buffer.alloc(METAS_AT + METAS_BYTES_MAX + HASH_BYTES);
  const read = readSync(file, bytes, 0, Math.min(bytes.length, fstatSync(file).size), offset);
  if (read < METAS_AT || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  const length = bytes.readUInt32LE(LENGTH_AT);
  const hashAt = METAS_AT + length;
  if (length > METAS_BYTES_MAX || hashAt + HASH_BYTES > read) return undefined;
  if (!hashOf(bytes.subarray(0, hashAt)).equals(bytes.subarray(hashAt, hashAt + HASH_BYTES))) {
    return undefined;
  }
  return {
    sequence: Number(bytes.readBigUInt64LE(SEQUENCE_AT)),
    bootId: bytes.toString('latin1', BOOT_AT, METAS_AT),
    metas: bytes.subarray(METAS_AT, hashAt),
  };
}

function hashOf(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest();
}

function openIfThere(path: string, flags: 'r' | 'r+'): number | undefined {
  try {
    return openSync(path, flags);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function writeAll(file: number, bytes: Buffer, position: number): void {
  let done = 0;
  while (done < bytes.length) {
    done += writeSync(file, bytes, done, bytes.length - done, position + done);
  }
}
