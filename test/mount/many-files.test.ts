import assert from 'node:assert/strict';
import { family, type Place } from '../support/family.ts';

const FILES = 10_000;
const BATCH = 250;
/** Descriptors that the test process needs for itself. */
const SPARE = 64;

function pieceOf(number: number): { seed: number; length: number } {
  return { seed: number % 64, length: 100 + ((number * 37) % 4_901) };
}

async function inBatches(
  p: Place,
  count: number,
  requests: (number: number) => unknown[][],
): Promise<void> {
  for (let start = 0; start < count; start += BATCH) {
    const size = Math.min(BATCH, count - start);
    const part = Array.from({ length: size }, (_, index) => requests(start + index)).flat();
    const outcomes = (await p.own('batch', part)) as object[];
    const failed = outcomes.findIndex((outcome) => 'errno' in outcome);
    if (failed < 0) continue;
    assert.fail(`${JSON.stringify(part[failed])}: ${JSON.stringify(outcomes[failed])}`);
  }
}

const { both } = family({ flags: ['--slab', '64M'] });

both('thousands held open at once, each with a partial chunk', async (p) => {
  const limit = (await p.own('open_limit', FILES + SPARE)) as number;
  const count = Math.min(FILES, limit - SPARE);
  const path = (number: number): string => p.at(`d${number % 16}/file-${number}`);
  for (let folder = 0; folder < 16; folder += 1) await p.ok('mkdir', p.at(`d${folder}`));
  await inBatches(p, count, (n) => [
    ['open', n, path(n), ['O_RDWR', 'O_CREAT', 'O_EXCL']],
    ['write', n, pieceOf(n)],
  ]);
  await inBatches(p, count, (n) => [['write', n, pieceOf(n)]]);
  await inBatches(p, count, (n) => [['close', n]]);
  await p.remount();
  for (let number = 0; number < count; number += 997) {
    const wanted = await p.ok('hash_of', [pieceOf(number), pieceOf(number)]);
    assert.deepEqual(await p.ok('hash', path(number)), wanted);
  }
});

both('thousands created, written and closed one after the other', async (p) => {
  await inBatches(p, 3_000, (n) => [
    ['open', 'f', p.at(`file-${n}`), ['O_WRONLY', 'O_CREAT']],
    ['write', 'f', pieceOf(n)],
    ['close', 'f'],
  ]);
  await inBatches(p, 3_000, (n) => (n % 2 === 0 ? [['unlink', p.at(`file-${n}`)]] : []));
});
