import assert from 'node:assert/strict';
import { family, type Place } from '../support/family.ts';
import type { Outcome, Syscalls } from '../support/syscalls.ts';

const { both } = family();
const BUSY: Outcome = { errno: 'EAGAIN' };
const DONE: Outcome = { value: null };

/** Two further processes that have the same file open. */
async function pair(p: Place): Promise<[Syscalls, Syscalls]> {
  const processes: [Syscalls, Syscalls] = [p.process(), p.process()];
  for (const each of processes) await each.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  return processes;
}

both('flock keeps other processes out until it is given back', async (p) => {
  const [one, other] = await pair(p);
  assert.deepEqual(await one.call('flock', 'f', 'LOCK_EX'), DONE);
  assert.deepEqual(await other.call('flock', 'f', 'LOCK_SH', 'LOCK_NB'), BUSY);
  assert.deepEqual(await one.call('flock', 'f', 'LOCK_SH'), DONE);
  assert.deepEqual(await other.call('flock', 'f', 'LOCK_SH', 'LOCK_NB'), DONE);
  assert.deepEqual(await one.call('flock', 'f', 'LOCK_EX', 'LOCK_NB'), BUSY);
  assert.deepEqual(await other.call('close', 'f'), DONE);
  assert.deepEqual(await one.call('flock', 'f', 'LOCK_EX', 'LOCK_NB'), DONE);
});

both('locks of ranges keep other processes out of these bytes only', async (p) => {
  const [one, other] = await pair(p);
  assert.deepEqual(await one.call('lockf', 'f', ['LOCK_EX'], 100, 0), DONE);
  assert.deepEqual(await other.call('lockf', 'f', ['LOCK_EX', 'LOCK_NB'], 10, 50), BUSY);
  assert.deepEqual(await other.call('lockf', 'f', ['LOCK_EX', 'LOCK_NB'], 100, 100), DONE);
  assert.deepEqual(await one.call('lockf', 'f', ['LOCK_UN'], 60, 40), DONE);
  assert.deepEqual(await other.call('lockf', 'f', ['LOCK_EX', 'LOCK_NB'], 10, 50), DONE);
  assert.deepEqual(await other.call('lockf', 'f', ['LOCK_SH', 'LOCK_NB'], 10, 30), BUSY);
});

both('a lock waits for its turn, and ends with the process', async (p) => {
  const [one, other] = await pair(p);
  await one.ok('lockf', 'f', ['LOCK_EX']);
  const waiting = other.call('lockf', 'f', ['LOCK_EX']);
  await p.ok('stat', p.at('file'));
  await one.close();
  assert.deepEqual(await waiting, DONE);
});
