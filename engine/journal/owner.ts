import { Buffer } from 'node:buffer';
import type { Superblock } from '../store/superblock.ts';
import { journalsOf } from './places.ts';

const NAME_BYTES = 16;

/** Where a store's recovery journals lie, and what tells its own from others; 16 bytes each. */
export interface JournalTask {
  readonly directory: string;
  readonly store: Uint8Array;
  readonly keyCheck: Uint8Array;
  /** Those of keys before the store's present one. */
  readonly olderKeyChecks: readonly Uint8Array[];
}

/** Where the journals of a store lie below `directory`, and what they are known by. */
export function journalTask(
  directory: string,
  { uuid, keyCheck, rotations = [] }: Pick<Superblock, 'uuid' | 'keyCheck' | 'rotations'>,
): JournalTask {
  return {
    directory: journalsOf(directory, uuid),
    store: Buffer.from(uuid.replaceAll('-', ''), 'hex'),
    keyCheck: shortened(keyCheck),
    olderKeyChecks: rotations.map((rotation) => shortened(rotation.keyCheck)),
  };
}

function shortened(keyCheck: string): Uint8Array {
  return Buffer.from(keyCheck, 'hex').subarray(0, NAME_BYTES);
}
