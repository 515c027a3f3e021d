import { randomUUID, timingSafeEqual } from 'node:crypto';
import { link, open, readFile, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { REGION_BYTES, SEGMENT_BYTES } from '../layout.ts';
import { flushDirectory } from '../durable-directory.ts';
import { MillraceError } from '../errors.ts';
import { pass } from '../kill-points.ts';

/**
 * The superblock: the file `millrace.json` that makes a directory a store, and says how to read
 * everything else in it.
 *
 * One JSON object, UTF-8, ended by a newline, mode 0600. It is written once and never changes in
 * format 1. Fields:
 *
 * | field | type | meaning |
 * |---|---|---|
 * | magic | string | always `millrace store` |
 * | format | integer | version of the whole store's format, 1; a reader refuses what is higher than it knows |
 * | version | string | version of Millrace that made the store |
 * | uuid | string | names the store, lower-case |
 * | created | string | when it was made, ISO 8601 in UTC |
 * | chunkBytes | integer | bytes of plaintext of the largest chunk |
 * | segmentBytes | integer | bytes of plaintext that are sealed together |
 * | algorithm | string | how chunks are sealed and named, `aes-256-gcm/blake3` |
 * | epoch | integer | epoch of the key that seals what is written now, 1 |
 * | keyCheck | string | 32 to 128 hexadecimal digits that the right key leads to; they tell nothing about it |
 *
 * Fields that a reader does not know are ignored. Nothing in it is secret and nothing in it is
 * trusted: whoever can change it can make the store unreadable, not readable.
 */
export interface Superblock {
  readonly magic: typeof MAGIC;
  readonly format: number;
  readonly version: string;
  readonly uuid: string;
  readonly created: string;
  readonly chunkBytes: number;
  readonly segmentBytes: number;
  readonly algorithm: typeof ALGORITHM;
  readonly epoch: number;
  readonly keyCheck: string;
}

/** What a new store may choose. */
export interface SuperblockOptions {
  /** Lower-case hexadecimal digits, 32 to 128, that the store's key leads to. */
  keyCheck: string;
  /** Version of the program, for the message that an older one will show. */
  version: string;
}

/** Name of the superblock in the store's directory. */
export const SUPERBLOCK_FILE: 'millrace.json' = 'millrace.json';
/** The newest format that this version reads, and the one that it writes. */
export const FORMAT: 1 = 1;

const MAGIC = 'millrace store' as const;
const ALGORITHM = 'aes-256-gcm/blake3' as const;
const KEY_CHECK = /^([0-9a-f]{2}){16,64}$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** What each field of format 1 must be. */
const FIELDS: Readonly<Record<keyof Superblock, (value: unknown) => boolean>> = {
  magic: (value) => value === MAGIC,
  format: (value) => value === FORMAT,
  version: (value) => typeof value === 'string',
  uuid: (value) => typeof value === 'string' && UUID.test(value),
  created: (value) => typeof value === 'string' && !Number.isNaN(Date.parse(value)),
  chunkBytes: (value) => value === REGION_BYTES,
  segmentBytes: (value) => value === SEGMENT_BYTES,
  algorithm: (value) => value === ALGORITHM,
  epoch: (value) => value === 1,
  keyCheck: (value) => typeof value === 'string' && KEY_CHECK.test(value),
};

/**
 * Makes a directory, which must exist, a store. The superblock is there as a whole, and durable,
 * or not at all. Throws STORE_EXISTS when there is one already, STORE_IO when it cannot be
 * written.
 */
export async function createSuperblock(
  directory: string,
  { keyCheck, version }: SuperblockOptions,
): Promise<Superblock> {
  if (!KEY_CHECK.test(keyCheck)) {
    throw new MillraceError('INVARIANT', 'a key check is 32 to 128 hexadecimal digits');
  }
  const superblock: Superblock = {
    magic: MAGIC,
    format: FORMAT,
    version,
    uuid: randomUUID(),
    created: new Date().toISOString(),
    chunkBytes: REGION_BYTES,
    segmentBytes: SEGMENT_BYTES,
    algorithm: ALGORITHM,
    epoch: 1,
    keyCheck,
  };
  await writeNew(directory, `${JSON.stringify(superblock, null, 2)}\n`);
  return superblock;
}

/**
 * Reads the superblock of the store in a directory.
 * Throws STORE_MISSING, STORE_NEWER (a later version wrote it), STORE_DAMAGED or STORE_IO.
 */
export async function readSuperblock(directory: string): Promise<Superblock> {
  const fields = parse(directory, await readText(directory));
  if (fields.magic !== MAGIC) throw damaged(directory, 'field magic is wrong');
  if (typeof fields.format === 'number' && fields.format > FORMAT) throw newer(directory, fields);
  for (const [name, isValid] of Object.entries(FIELDS)) {
    if (!isValid(fields[name])) throw damaged(directory, `field ${name} is wrong`);
  }
  return fields as unknown as Superblock;
}

/** Throws KEY_WRONG unless `keyCheck`, made from the key at hand, is the one of the store. */
export function checkKey(superblock: Superblock, keyCheck: string): void {
  const expected = Buffer.from(superblock.keyCheck, 'latin1');
  const actual = Buffer.from(keyCheck, 'latin1');
  if (expected.length === actual.length && timingSafeEqual(expected, actual)) return;
  throw new MillraceError('KEY_WRONG', 'the key is not the one that this store was made with', {
    hint: 'Give the key that was used when the store was created; no other key can open it.',
  });
}

async function readText(directory: string): Promise<string> {
  try {
    return await readFile(join(directory, SUPERBLOCK_FILE), 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') throw io('read', directory, cause);
    throw new MillraceError('STORE_MISSING', `there is no store in ${directory}`, {
      hint: 'Check the path, or create a store there first.',
      cause,
    });
  }
}

function parse(directory: string, text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw damaged(directory, 'it is not JSON');
  }
  if (typeof value !== 'object' || value === null) throw damaged(directory, 'it is no JSON object');
  return value as Record<string, unknown>;
}

function newer(directory: string, { format, version }: Record<string, unknown>): MillraceError {
  const writer = typeof version === 'string' ? `Millrace ${version}` : 'a later version';
  return new MillraceError(
    'STORE_NEWER',
    `${directory} has format ${format}, written by ${writer}; this version reads up to ${FORMAT}`,
    { hint: 'Use the version that wrote the store, or a later one.' },
  );
}

function damaged(directory: string, reason: string): MillraceError {
  const message = `${SUPERBLOCK_FILE} in ${directory} is damaged: ${reason}`;
  return new MillraceError('STORE_DAMAGED', message, {
    hint: `Restore ${SUPERBLOCK_FILE} from a backup; the data beside it is not touched.`,
  });
}

function io(what: string, directory: string, cause: unknown): MillraceError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new MillraceError('STORE_IO', `cannot ${what} the superblock in ${directory}: ${reason}`, {
    hint: 'Check the permissions of the directory and the free space of its disk.',
    cause,
  });
}

/**
 * Writes under a temporary name, flushes, and gives it the final name only if nothing has it. A
 * link does what a rename does for atomicity, but never replaces a store that another process just
 * made.
 */
async function writeNew(directory: string, text: string): Promise<void> {
  const path = join(directory, SUPERBLOCK_FILE);
  const temporary = `${path}.${randomUUID()}`;
  try {
    await writeDurably(temporary, text);
    pass('superblock-written');
    await link(temporary, path);
    pass('superblock-named');
    await flushDirectory(directory);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw io('write', directory, cause);
    throw new MillraceError('STORE_EXISTS', `there is a store in ${directory} already`, {
      hint: 'Choose an empty directory, or use the store that is there.',
      cause,
    });
  } finally {
    await unlink(temporary).catch(() => {});
  }
}

async function writeDurably(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}
