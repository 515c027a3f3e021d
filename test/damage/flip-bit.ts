import { closeSync, openSync, readSync, writeSync } from 'node:fs';

/** Flips one bit of a file, in place. */
export function flipBit(file: string, offset: number, bit: number): void {
  const descriptor = openSync(file, 'r+');
  try {
    const byte = new Uint8Array(1);
    if (readSync(descriptor, byte, 0, 1, offset) !== 1) {
      throw new RangeError(`${file} has no byte ${offset}`);
    }
    byte[0] ^= 1 << bit;
    writeSync(descriptor, byte, 0, 1, offset);
  } finally {
    closeSync(descriptor);
  }
}
