import { family } from '../support/family.ts';
import type { Request } from '../support/syscalls.ts';

const OTHER = 65_534;
const MODES = [0o4777, 0o2777, 0o6777];
const CAPABILITY = '\u0001\0\0\u0002\0\u0020\0\0\0\0\0\0\0\0\0\0\0\0\0\0';

const { both } = family({ flags: ['-o', 'allow_other'] }, 'other users');
const root = { root: true } as const;

both(
  'who may not keep set-id bits takes them off by writing, cutting and allocating',
  async (p) => {
    await p.ok('chmod', p.root, 0o777);
    await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
    await p.ok('write', 'f', { seed: 1, length: 10_000 });
    for (const mode of MODES) {
      for (const request of [
        ['pwrite', 'f', 'x', 5],
        ['pwrite', 'f', { seed: 2, length: 2_000_000 }, 5],
        ['ftruncate', 'f', 9_000],
        ['truncate', p.at('file'), 9_000],
        ['fallocate', 'f', 0, 0, 20_000],
        ['copy_file_range', 'f', 'f', 100, 0, 5_000],
        ['open', 'g', p.at('file'), ['O_WRONLY', 'O_TRUNC']],
      ]) {
        await p.ok('chmod', p.at('file'), mode);
        await p.ok('as_user', OTHER, request);
        await p.ok('stat', p.at('file'));
      }
    }
  },
  root,
);

both(
  'who may keep set-id bits does, but for giving the file away',
  async (p) => {
    await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT']);
    for (const mode of MODES) {
      await p.ok('chmod', p.at('file'), mode);
      await p.ok('pwrite', 'f', 'x', 5);
      await p.ok('ftruncate', 'f', 100);
      await p.ok('fallocate', 'f', 0, 0, 200);
      await p.ok('stat', p.at('file'));
      await p.ok('chown', p.at('file'), OTHER, OTHER);
      await p.ok('stat', p.at('file'));
    }
    await p.ok('mkdir', p.at('directory'));
    await p.ok('chmod', p.at('directory'), 0o6777);
    await p.ok('chown', p.at('directory'), OTHER, OTHER);
    await p.ok('stat', p.at('directory'));
  },
  root,
);

both(
  'capabilities end with a change of the content or the owner, whoever makes it',
  async (p) => {
    await p.ok('open', 'f', p.at('file'), ['O_RDWR', 'O_CREAT'], 0o755);
    const requests: Request[] = [
      ['pwrite', 'f', 'x', 5],
      ['ftruncate', 'f', 100],
      ['fallocate', 'f', 0, 0, 200],
      ['chown', p.at('file'), 0, 0],
    ];
    for (const request of requests) {
      await p.ok('setxattr', p.at('file'), 'security.capability', CAPABILITY);
      await p.ok('getxattr', p.at('file'), 'security.capability');
      await p.ok(...request);
      await p.fails('ENODATA', 'getxattr', p.at('file'), 'security.capability');
    }
    await p.ok('setxattr', p.at('file'), 'security.capability', CAPABILITY);
    await p.ok('chmod', p.at('file'), 0o711);
    await p.ok('getxattr', p.at('file'), 'security.capability');
  },
  root,
);
