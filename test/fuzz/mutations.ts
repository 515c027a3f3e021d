/** Inputs that are nearly those which are known: what fast-check draws, and shrinks again when it has broken something. */
import { Buffer } from 'node:buffer';
import fc from 'fast-check';

/** Bytes of the longest input. */
export const INPUT_BYTES_MAX: number = 64 * 1024;
const POSITION_MAX = 2 ** 31;
const NUMBERS = [0, 1, 2, 3, 7, 8, 15, 16, 40, 64, 127, 128, 255, 256, 4095, 4096, 65_535, 65_536];
const LARGE = [2 ** 20, 2 ** 20 + 1, 2 ** 22, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 2, 2 ** 32 - 1];

type Mutation = (bytes: Buffer) => Buffer;

/** A place that is there, whatever number was drawn. */
function within(position: number, length: number): number {
  return length === 0 ? 0 : position % length;
}

function overwrite(bytes: Buffer, at: number, part: Uint8Array): Buffer {
  const copy = Buffer.from(bytes);
  copy.set(part.subarray(0, copy.length - at), at);
  return copy;
}

function insert(bytes: Buffer, at: number, part: Uint8Array): Buffer {
  return Buffer.concat([bytes.subarray(0, at), part, bytes.subarray(at)]);
}

function number(bytes: number, value: number): Buffer {
  const part = Buffer.alloc(8);
  part.writeUInt32LE(value >>> 0);
  return part.subarray(0, bytes);
}

const position = fc.nat({ max: POSITION_MAX });
const short = fc.uint8Array({ minLength: 1, maxLength: 12 });

/** One change; `words` are what inputs are made of, `others` what they may be crossed with. */
function mutation(words: readonly Buffer[], others: readonly Buffer[]): fc.Arbitrary<Mutation> {
  const bits = fc.tuple(position, fc.nat({ max: 7 })).map(([at, bit]): Mutation => {
    return (bytes) => {
      const where = within(at, bytes.length);
      return overwrite(bytes, where, Buffer.of(bytes[where] ^ (1 << bit)));
    };
  });
  const value = fc.oneof(fc.constantFrom(...NUMBERS, ...LARGE), fc.nat({ max: 2 ** 32 - 1 }));
  const numbers = fc
    .tuple(position, fc.constantFrom(1, 2, 4, 8), value)
    .map(([at, size, of]): Mutation => {
      return (bytes) => overwrite(bytes, within(at, bytes.length), number(size, of));
    });
  const inserted = fc.tuple(position, short).map(([at, part]): Mutation => {
    return (bytes) => insert(bytes, within(at, bytes.length + 1), part);
  });
  const erased = fc
    .tuple(position, fc.integer({ min: 1, max: 64 }))
    .map(([at, count]): Mutation => {
      return (bytes) => {
        const where = within(at, bytes.length);
        return Buffer.concat([bytes.subarray(0, where), bytes.subarray(where + count)]);
      };
    });
  const copied = fc
    .tuple(position, position, fc.nat({ max: 200 }))
    .map(([from, to, count]): Mutation => {
      return (bytes) => {
        const where = within(from, bytes.length);
        return insert(bytes, within(to, bytes.length + 1), bytes.subarray(where, where + count));
      };
    });
  const crossed = fc
    .tuple(position, position, fc.constantFrom(...others))
    .map(([at, from, other]): Mutation => {
      return (bytes) => {
        const start = bytes.subarray(0, within(at, bytes.length + 1));
        return Buffer.concat([start, other.subarray(within(from, other.length + 1))]);
      };
    });
  const all = [
    { weight: 4, arbitrary: bits },
    { weight: 6, arbitrary: numbers },
    { weight: 2, arbitrary: inserted },
    { weight: 2, arbitrary: erased },
    { weight: 2, arbitrary: copied },
    { weight: 2, arbitrary: crossed },
  ];
  if (words.length > 0) {
    const worded = fc
      .tuple(position, fc.constantFrom(...words), fc.boolean())
      .map(([at, word, over]): Mutation => {
        return (bytes) =>
          over
            ? overwrite(bytes, within(at, bytes.length), word)
            : insert(bytes, within(at, bytes.length + 1), word);
      });
    all.push({ weight: 4, arbitrary: worded });
  }
  return fc.oneof(...all);
}

/** Inputs near those of a corpus, which has one at least. */
export function near(
  corpus: readonly Buffer[],
  words: readonly string[] = [],
): fc.Arbitrary<Buffer> {
  const known = words.map((word) => Buffer.from(word));
  const changes = fc.array(mutation(known, corpus), { minLength: 1, maxLength: 6 });
  return fc.tuple(fc.constantFrom(...corpus), changes).map(([start, mutations]) => {
    const changed = mutations.reduce((bytes, change) => change(bytes), start);
    return changed.subarray(0, INPUT_BYTES_MAX);
  });
}
