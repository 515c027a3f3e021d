import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { describe, it } from 'node:test';
import { fuzz, keptInputs } from './fuzzer.ts';
import type { FuzzTarget } from './target.ts';
import { TARGETS } from './targets.ts';

describe('the fuzz targets', () => {
  for (const target of TARGETS) {
    it(`${target.name} holds on what is kept`, async () => {
      const inputs = keptInputs(target);
      assert.ok(target.seeds().length > 0 && inputs.length >= target.seeds().length);
      for (const input of inputs) await target.run(input);
    });
  }
});

describe('the fuzzer', () => {
  const fragile: FuzzTarget = {
    name: 'flags',
    says: 'a parser with a hole',
    run(bytes) {
      if (bytes.includes('abc')) throw new Error('broken');
    },
    seeds: () => [Buffer.from('a--b--c')],
    words: ['ab', 'c'],
  };
  const options = { milliseconds: 60_000, seed: 7, known: [], onFound: () => {} };

  it('finds what breaks a target, and makes it small', async () => {
    let seen = 0;
    const onInput = (): void => {
      seen++;
    };
    const { failure, progress } = await fuzz(fragile, { ...options, onInput });
    assert.ok(failure !== undefined);
    assert.ok(failure.input.includes('abc'));
    assert.match(String(failure.error), /broken/);
    assert.equal(progress.executions, seen);
  });

  it('tells an input of the corpus that breaks a target', async () => {
    const known = [Buffer.from('abc')];
    const { failure } = await fuzz(fragile, { ...options, known, onInput: () => {} });
    assert.deepEqual(failure?.input, known[0]);
  });
});
