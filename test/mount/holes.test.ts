import { family, type Place } from '../support/family.ts';

const PAGE = 4_096;
const MIB = 1_048_576;
const REGION = 4 * MIB;
const SIZE = 3 * REGION + PAGE;

const { both } = family();

/** Every place where data or a hole begins, from each page that matters. */
async function compareMap(p: Place): Promise<void> {
  for (const offset of [0, PAGE, MIB, REGION - PAGE, REGION, 2 * REGION, SIZE - PAGE, SIZE]) {
    await p.call('lseek', 'f', offset, 'SEEK_DATA');
    await p.call('lseek', 'f', offset, 'SEEK_HOLE');
  }
}

both(
  'data and holes are found, written a moment ago or long stored',
  async (p) => {
    await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
    await compareMap(p);
    await p.ok('ftruncate', 'f', SIZE);
    await compareMap(p);
    await p.ok('pwrite', 'f', { seed: 1, length: PAGE }, MIB);
    await compareMap(p);
    await p.ok('pwrite', 'f', { seed: 2, length: 3 * PAGE }, REGION - PAGE);
    await p.ok('pwrite', 'f', { seed: 3, length: 2 * MIB }, 2 * REGION);
    await compareMap(p);
    await p.ok('fallocate', 'f', 3, MIB, PAGE);
    await compareMap(p);
    await p.ok('fsync', 'f');
    await compareMap(p);
    await p.ok('close', 'f');
    await p.ok('sparse_hash', p.at('file'));
    await p.remount();
    await p.ok('open', 'f', p.at('file'), ['O_RDONLY']);
    await compareMap(p);
  },
  { needs: 'holes' },
);

both(
  'blocks are those of data, not of holes',
  async (p) => {
    await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
    await p.ok('ftruncate', 'f', SIZE);
    await p.ok('blocks', p.at('file'));
    await p.ok('pwrite', 'f', { seed: 1, length: PAGE }, MIB);
    await p.ok('blocks', p.at('file'));
    await p.ok('pwrite', 'f', { seed: 3, length: 2 * MIB }, 2 * REGION);
    await p.ok('blocks', p.at('file'));
    await p.ok('fsync', 'f');
    await p.ok('ftruncate', 'f', 2 * REGION + MIB);
    await p.ok('blocks', p.at('file'));
    await p.ok('fallocate', 'f', 3, MIB, PAGE);
    await p.ok('close', 'f');
    await p.remount();
    await p.ok('blocks', p.at('file'));
    await p.ok('truncate', p.at('file'), 0);
    await p.ok('blocks', p.at('file'));
  },
  { needs: 'holes' },
);

both(
  'the time of birth stays, whatever happens to a file',
  async (p) => {
    await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
    await p.ok('write', 'f', 'x');
    await p.ok('utimens', p.at('file'), '5', '6');
    await p.ok('chmod', p.at('file'), 0o600);
    await p.ok('birth', p.at('file'), 60);
    await p.ok('close', 'f');
    await p.remount();
    await p.ok('birth', p.at('file'), 60);
  },
  { needs: 'birth' },
);
