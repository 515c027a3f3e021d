import assert from 'node:assert/strict';
import { family } from '../support/family.ts';

const MIB = 1_048_576;

const { both, mountOnly } = family();

mountOnly('a writable shared mapping is refused, and the log says what to do', async (mount, p) => {
  await p.own('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
  await p.own('write', 'f', { seed: 1, length: 100_000 });
  await p.fails('ENODEV', 'map', 'm', 'f');
  await p.own('close', 'f');
  assert.match(mount.stderr(), /-o shared_mmap=allow/);
});

both('what is only read can be mapped, also while it is written elsewhere', async (p) => {
  const writer = p.process();
  await writer.ok('open', 'w', p.at('file'), ['O_RDWR', 'O_CREAT']);
  for (let round = 0; round < 6; round++) {
    await writer.ok('write', 'w', { seed: round, length: MIB + 77 });
    await p.ok('mmap_hash', p.at('file'), 'read');
    await p.ok('mmap_hash', p.at('file'), 'private');
  }
  await writer.ok('close', 'w');
  await p.ok('mmap_hash', p.at('file'), 'read');
});
