import assert from 'node:assert/strict';
import { family, type Place } from '../support/family.ts';

const MANY = 5_000;

async function createMany(p: Place, folder: string, count: number): Promise<string[]> {
  const names = Array.from({ length: count }, (_, number) => `name-${number}`);
  for (let start = 0; start < count; start += 500) {
    const part = names.slice(start, start + 500);
    const requests = part.flatMap((name) => [
      ['open', name, p.at(`${folder}/${name}`), ['O_WRONLY', 'O_CREAT', 'O_EXCL']],
      ['close', name],
    ]);
    const outcomes = (await p.own('batch', requests)) as object[];
    assert.ok(outcomes.every((outcome) => 'value' in outcome));
  }
  return names;
}

/** Lists a directory through an open handle, with a step between the parts. */
async function listSlowly(
  p: Place,
  folder: string,
  between: (part: number) => Promise<void>,
): Promise<string[]> {
  const seen: string[] = [];
  await p.own('opendir', 'listing', p.at(folder));
  for (let part = 0; ; part += 1) {
    const names = (await p.own('readdir_next', 'listing', 400)) as string[];
    if (names.length === 0) break;
    seen.push(...names);
    await between(part);
  }
  await p.own('closedir', 'listing');
  return seen;
}

const { both } = family();

both('mkdir and rmdir, and what they refuse', async (p) => {
  await p.ok('mkdir', p.at('a'));
  await p.fails('EEXIST', 'mkdir', p.at('a'));
  await p.fails('ENOENT', 'mkdir', p.at('missing/b'));
  await p.ok('mkdir', p.at('a/b'));
  await p.fails('ENOTEMPTY', 'rmdir', p.at('a'));
  await p.fails('EISDIR', 'unlink', p.at('a'));
  await p.ok('open', 'f', p.at('a/file'), ['O_WRONLY', 'O_CREAT']);
  await p.fails('ENOTDIR', 'rmdir', p.at('a/file'));
  await p.fails('ENOTDIR', 'mkdir', p.at('a/file/x'));
  await p.fails('EINVAL', 'rmdir', p.at('a/.'));
  await p.ok('rmdir', p.at('a/b'));
  await p.ok('unlink', p.at('a/file'));
  await p.fails('ENOENT', 'unlink', p.at('a/file'));
  await p.ok('rmdir', p.at('a'));
  await p.fails('ENOENT', 'rmdir', p.at('a'));
});

both('nlink counts the directories below', async (p) => {
  await p.ok('mkdir', p.at('a'));
  for (const name of ['x', 'y', 'z']) {
    await p.ok('mkdir', p.at(`a/${name}`));
    await p.ok('stat', p.at('a'));
  }
  await p.ok('open', 'f', p.at('a/file'), ['O_WRONLY', 'O_CREAT']);
  await p.ok('stat', p.at('a'));
  await p.ok('rename', p.at('a/x'), p.at('a/y/x'));
  await p.ok('stat', p.at('a'));
  await p.ok('stat', p.at('a/y'));
  await p.ok('rmdir', p.at('a/z'));
  await p.ok('stat', p.at('a'));
  await p.remount();
  await p.ok('stat', p.at('a'));
});

both('a directory removed while open is empty and takes no names', async (p) => {
  await p.ok('mkdir', p.at('a'));
  await p.ok('open', 'd', p.at('a'), ['O_RDONLY', 'O_DIRECTORY']);
  await p.ok('rmdir', p.at('a'));
  const below = await p.ok('batch', [['readdir', p.at('a')]]);
  assert.deepEqual(below, [{ errno: 'ENOENT' }]);
  await p.ok('mkdir', p.at('a'));
  await p.ok('readdir', p.at('a'));
});

both('an empty directory, and types of entries', async (p) => {
  assert.deepEqual(await p.ok('readdir', p.root), []);
  await p.ok('mkdir', p.at('directory'));
  await p.ok('symlink', 'x', p.at('link'));
  await p.ok('open', 'f', p.at('file'), ['O_WRONLY', 'O_CREAT']);
  await p.ok('readdir_types', p.root);
  await p.fails('ENOTDIR', 'readdir', p.at('file'));
  await p.fails('ENOENT', 'readdir', p.at('missing'));
});

both('five thousand names are each listed exactly once', async (p) => {
  await p.ok('mkdir', p.at('many'));
  const names = await createMany(p, 'many', MANY);
  const once = await listSlowly(p, 'many', async () => undefined);
  assert.equal(once.length, MANY);
  assert.deepEqual([...once].sort(), [...names].sort());
  await p.remount();
  assert.equal(((await p.own('readdir', p.at('many'))) as string[]).length, MANY);
});

both(
  'names that stay are listed once while others come and go',
  async (p) => {
    await p.ok('mkdir', p.at('many'));
    const names = await createMany(p, 'many', MANY);
    const going = new Set(names.filter((_, number) => number % 3 === 0));
    const waiting = [...going];
    const seen = await listSlowly(p, 'many', async (part) => {
      const victims = waiting.splice(0, 150);
      const removals = victims.map((name) => ['unlink', p.at(`many/${name}`)]);
      await p.own('batch', removals);
      await p.own('open', 'new', p.at(`many/late-${part}`), ['O_WRONLY', 'O_CREAT']);
      await p.own('close', 'new');
    });
    assert.equal(new Set(seen).size, seen.length, 'a name was listed twice');
    const staying = names.filter((name) => !going.has(name));
    const listed = new Set(seen);
    const lost = staying.filter((name) => !listed.has(name));
    assert.deepEqual(lost, [], 'names that were there all the time were not listed');
  },
  { trees: 'none' },
);

both('a listing beside a process that creates and removes', async (p) => {
  await p.ok('mkdir', p.at('many'));
  const names = await createMany(p, 'many', 1_000);
  const churn = p.process().ok('names_churn', p.at('many'), 'churn-', 400);
  for (let round = 0; round < 5; round += 1) {
    const listed = (await p.own('readdir', p.at('many'))) as string[];
    const lasting = listed.filter((name) => !name.startsWith('churn-'));
    assert.deepEqual(lasting, [...names].sort());
  }
  await churn;
  assert.deepEqual(await p.ok('readdir', p.at('many')), [...names].sort());
});

both('removing all that a listing yields empties the directory', async (p) => {
  await p.ok('mkdir', p.at('many'));
  await createMany(p, 'many', 2_000);
  await p.own('opendir', 'listing', p.at('many'));
  for (;;) {
    const names = (await p.own('readdir_next', 'listing', 300)) as string[];
    if (names.length === 0) break;
    await p.own(
      'batch',
      names.map((name) => ['unlink', p.at(`many/${name}`)]),
    );
  }
  await p.own('closedir', 'listing');
  assert.deepEqual(await p.ok('readdir', p.at('many')), []);
  await p.ok('rmdir', p.at('many'));
});

both('a deep path', async (p) => {
  let path = p.root;
  for (let depth = 0; depth < 60; depth += 1) {
    path = `${path}/level-${depth}`;
    await p.ok('mkdir', path);
  }
  await p.ok('open', 'f', `${path}/file`, ['O_WRONLY', 'O_CREAT']);
  await p.ok('write', 'f', 'deep');
  await p.ok('close', 'f');
  await p.remount();
  await p.ok('hash', `${path}/file`);
});

both('fsync of a directory', async (p) => {
  await p.ok('mkdir', p.at('a'));
  await p.ok('fsync_directory', p.at('a'));
  await p.ok('fsync_directory', p.root);
});
