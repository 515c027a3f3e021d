import { randomUUID, timingSafeEqual } from 'node:crypto';
import { REGION_BYTES, SEGMENT_BYTES } from '../layout.ts';
import { MillraceError } from '../errors.ts';
import type { KeyRing } from '../native.ts';
import { readText, replaceText, SUPERBLOCK_FILE, writeNew } from './superblock-file.ts';

export { SUPERBLOCK_FILE } from './superblock-file.ts';

/**
 * The superblock: the file `millrace.json` that makes a directory a store, and says how to read
 * everything else in it.
 *
 * One JSON object, UTF-8, ended by a newline, mode 0600. It is replaced as a whole when the store's
 * key is rotated, and by a tombstone when it is shredded. Fields:
 *
 * | field | type | meaning |
 * |---|---|---|
 * | magic | string | always `millrace store` |
 * | format | integer | version of the whole store's format: 1, or 2 once its key was rotated or shredded; a reader refuses what is higher than it knows |
 * | version | string | version of Millrace that wrote this |
 * | uuid | string | names the store, lower-case |
 * | created | string | when it was made, ISO 8601 in UTC |
 * | chunkBytes | integer | bytes of plaintext of the largest chunk |
 * | segmentBytes | integer | bytes of plaintext that are sealed together |
 * | algorithm | string | how chunks are sealed and named, `aes-256-gcm/blake3` |
 * | epoch | integer | epoch of the key that seals what is written now, 1 until it is rotated |
 * | keyCheck | string | 32 to 128 hexadecimal digits that the right key leads to; they tell nothing about it |
 * | keyRing | string | from epoch 2 on: other keys that are needed, sealed under this one; hexadecimal digits |
 * | rotations | array | from epoch 2 on: of each epoch before, `epoch`, its `keyCheck`, and when it `ended` |
 * | shredding | string | since when the key is being destroyed, where that has begun and not ended |
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
  readonly keyRing?: string;
  readonly rotations?: readonly Rotation[];
  readonly shredding?: string;
}

/** An epoch that is over. */
export interface Rotation {
  readonly epoch: number;
  /** By which its key is recognised. */
  readonly keyCheck: string;
  /** ISO 8601 in UTC. */
  readonly ended: string;
}

/** What is left of the superblock of a store whose key was destroyed on purpose. */
export interface Tombstone {
  readonly magic: typeof MAGIC;
  readonly format: number;
  readonly version: string;
  readonly uuid: string;
  readonly created: string;
  /** When: ISO 8601 in UTC. */
  readonly shredded: string;
}

/** What a new store may choose. */
export interface SuperblockOptions {
  /** Lower-case hexadecimal digits, 32 to 128, that the store's key leads to. */
  keyCheck: string;
  /** Version of the program, for the message that an older one will show. */
  version: string;
}

/** The format of a new store. */
export const FORMAT: 1 = 1;
/** The newest format that this version reads: of a store whose key was rotated or shredded. */
export const FORMAT_OF_ROTATED: 2 = 2;

const MAGIC = 'millrace store' as const;
const ALGORITHM = 'aes-256-gcm/blake3' as const;
const FIRST_EPOCH = 1;
const KEY_CHECK = /^([0-9a-f]{2}){16,64}$/;
const HEX = /^([0-9a-f]{2})+$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

type Fields = Readonly<Record<string, unknown>>;
type Check = (value: unknown, fields: Fields) => boolean;

const isDate: Check = (value) => typeof value === 'string' && !Number.isNaN(Date.parse(value));
const isKeyCheck: Check = (value) => typeof value === 'string' && KEY_CHECK.test(value);
const isEpoch: Check = (value) => Number.isInteger(value) && (value as number) >= FIRST_EPOCH;
const isRotated = ({ epoch }: Fields): boolean => epoch !== FIRST_EPOCH;

function isRotations(value: unknown, { epoch }: Fields): boolean {
  if (!Array.isArray(value)) return false;
  return value.every((each: Partial<Rotation> | null, index) => {
    if (typeof each !== 'object' || each === null) return false;
    const { epoch: number, keyCheck, ended } = each;
    const isBefore = number === index + FIRST_EPOCH && index + FIRST_EPOCH < (epoch as number);
    return isBefore && isKeyCheck(keyCheck, each as Fields) && isDate(ended, each as Fields);
  });
}

/** What is in every superblock, of a shredded store too. */
const COMMON: Readonly<Record<Exclude<keyof Tombstone, 'shredded'>, Check>> = {
  magic: (value) => value === MAGIC,
  format: (value) => value === FORMAT || value === FORMAT_OF_ROTATED,
  version: (value) => typeof value === 'string',
  uuid: (value) => typeof value === 'string' && UUID.test(value),
  created: isDate,
};

/** What each field must be. */
const FIELDS: Readonly<Record<keyof Superblock, Check>> = {
  ...COMMON,
  chunkBytes: (value) => value === REGION_BYTES,
  segmentBytes: (value) => value === SEGMENT_BYTES,
  algorithm: (value) => value === ALGORITHM,
  epoch: (value, { format }) => (format === FORMAT ? value === FIRST_EPOCH : isEpoch(value, {})),
  keyCheck: isKeyCheck,
  keyRing: (value, fields) => !isRotated(fields) || (typeof value === 'string' && HEX.test(value)),
  rotations: (value, fields) => !isRotated(fields) || isRotations(value, fields),
  shredding: (value, { format }) => format === FORMAT || value === undefined || isDate(value, {}),
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
    epoch: FIRST_EPOCH,
    keyCheck,
  };
  await writeNew(directory, textOf(superblock));
  return superblock;
}

/**
 * Puts another superblock, or a tombstone, in the place of the one that is there: a reader finds
 * the one or the other, whole. It is durable when this resolves. What the one before held, and what
 * was left by a process that was killed here, is overwritten before it is unlinked.
 *
 * The caller has the store to itself. Throws STORE_IO.
 */
export async function replaceSuperblock(
  directory: string,
  superblock: Superblock | Tombstone,
): Promise<void> {
  await replaceText(directory, textOf(superblock));
}

function textOf(superblock: Superblock | Tombstone): string {
  return `${JSON.stringify(superblock, null, 2)}\n`;
}

/**
 * Reads the superblock of the store in a directory. Throws STORE_MISSING, STORE_NEWER (a later
 * version wrote it), STORE_DAMAGED, STORE_IO, or KEY_SHREDDED when its key was destroyed on purpose.
 */
export async function readSuperblock(directory: string): Promise<Superblock> {
  const superblock = await readAnySuperblock(directory);
  if ('shredded' in superblock) throw shredded(directory, superblock.shredded);
  if (superblock.shredding !== undefined) throw shredding(directory, superblock.shredding);
  return superblock;
}

/** As `readSuperblock`, also of a store whose key was destroyed, or is being destroyed. */
export async function readAnySuperblock(directory: string): Promise<Superblock | Tombstone> {
  const fields = parse(directory, await readText(directory));
  if (fields['magic'] !== MAGIC) throw damaged(directory, 'field magic is wrong');
  const format = fields['format'];
  if (typeof format === 'number' && format > FORMAT_OF_ROTATED) throw newer(directory, fields);
  const isTombstone = format === FORMAT_OF_ROTATED && 'shredded' in fields;
  const checks = isTombstone ? { ...COMMON, shredded: isDate } : FIELDS;
  for (const [name, isValid] of Object.entries(checks)) {
    if (!isValid(fields[name], fields)) throw damaged(directory, `field ${name} is wrong`);
  }
  return fields as unknown as Superblock | Tombstone;
}

/**
 * Throws unless `keyCheck`, made from the key at hand, is the one of the store: KEY_ROTATED when it
 * was until the key was rotated, KEY_WRONG when it never was.
 */
export function checkKey(superblock: Superblock, keyCheck: string): void {
  if (isSame(superblock.keyCheck, keyCheck)) return;
  const { epoch, rotations = [] } = superblock;
  const before = rotations.find((rotation) => isSame(rotation.keyCheck, keyCheck));
  if (before !== undefined) {
    const what = `this was the key of the store until ${before.ended} (epoch ${before.epoch})`;
    throw new MillraceError('KEY_ROTATED', `${what}; it was rotated, to epoch ${epoch} now`, {
      hint: 'Name the file of the key that it was rotated to with --key-file.',
    });
  }
  const isFirst = rotations.length === 0;
  const whose = isFirst ? 'that this store was made with' : `of the store's epoch ${epoch}`;
  throw new MillraceError('KEY_WRONG', `the key is not the one ${whose}`, {
    hint: isFirst
      ? 'Give the key that was used when the store was created; no other key can open it.'
      : 'Give the key that the store was last rotated to; no other key can open it.',
  });
}

/** The key ring of a store, for the addon; undefined when its key was never rotated. */
export function keyRingOf({ uuid, epoch, keyRing }: Superblock): KeyRing | undefined {
  if (epoch === FIRST_EPOCH || keyRing === undefined) return undefined;
  return { uuid, epoch, sealed: Buffer.from(keyRing, 'hex') };
}

/** Throws STORE_BUSY when a store's keys are not those any more that they were a moment ago. */
export function confirmKeys(before: Superblock, now: Superblock): void {
  const isUnchanged = now.keyCheck === before.keyCheck && now.keyRing === before.keyRing;
  if (isUnchanged && now.epoch === before.epoch) return;
  throw new MillraceError('STORE_BUSY', 'the key of the store was rotated at this moment', {
    hint: 'Try again.',
  });
}

function isSame(expected: string, actual: string): boolean {
  const [a, b] = [Buffer.from(expected, 'latin1'), Buffer.from(actual, 'latin1')];
  return a.length === b.length && timingSafeEqual(a, b);
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
    `${directory} has format ${format}, written by ${writer}; this version reads up to ${FORMAT_OF_ROTATED}`,
    { hint: 'Use the version that wrote the store, or a later one.' },
  );
}

function damaged(directory: string, reason: string): MillraceError {
  const message = `${SUPERBLOCK_FILE} in ${directory} is damaged: ${reason}`;
  return new MillraceError('STORE_DAMAGED', message, {
    hint: `Restore ${SUPERBLOCK_FILE} from a backup; the data beside it is not touched.`,
  });
}

function shredded(directory: string, when: string): MillraceError {
  const what = `the store in ${directory} was shredded on ${when}: nothing can open it any more`;
  return new MillraceError('KEY_SHREDDED', what, {
    hint: 'Its directory may be deleted; for a new store give another one.',
  });
}

function shredding(directory: string, since: string): MillraceError {
  const what = `the key of the store in ${directory} is being destroyed since ${since}`;
  return new MillraceError('KEY_SHREDDED', what, {
    hint: 'Run `millrace key shred` again to finish that; it cannot be taken back.',
  });
}
