/** The offsets that TypeScript works out by itself, against those of native/layout. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { controlExamples } from '../../engine/layout.ts';
import { controlOffsets } from '../../engine/shared-memory.ts';

for (const { frames, dataWorkers, ...offsets } of controlExamples) {
  test(`the control block of ${frames} frames and ${dataWorkers} data workers`, () => {
    assert.deepEqual(controlOffsets(frames, dataWorkers), offsets);
  });
}
