/** What a store refuses until its mount must end is sealed into a journal, and replayed by the next mount. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { mountTest } from '../support/family.ts';
import { type FaultyMount, withFaultyMount } from '../support/faulty-mount.ts';
import { TEST_KEY, temporaryDirectory } from '../support/mount.ts';
import { detach } from '../support/mount-table.ts';
import { type Secret, searchDirectory, spellings } from '../support/secret-search.ts';
import type { Syscalls } from '../support/syscalls.ts';

const MIB = 1_048_576;
/** Exit status of a mount that has sealed a journal. */
const JOURNALED = 3;
const CANARY = 'canary-journal-Yq7Wd2';

const SECRETS: readonly Secret[] = [
  ...spellings('a name or content', Buffer.from(CANARY)),
  ...spellings('the key', TEST_KEY),
];

/** Files that are there before a store is full, and are written to then. */
const SMALL_FILES = 4000;

/** What the store has before it refuses anything. */
async function prepare(calls: Syscalls, dir: string): Promise<void> {
  await calls.ok('mkdir', `${dir}/d`);
  for (const [name, seed, length] of [
    ['kept', 1, 300_000],
    ['renamed', 2, 5 * MIB],
    ['cut', 3, 6 * MIB],
    ['grown', 4, 4 * MIB + 77],
    ['removed', 5, 100],
  ] as const) {
    await calls.ok('write_and_sync', `${dir}/${name}`, seed, 1, length, true);
  }
}

/** What a program does meanwhile; its last closes fail, as they should. */
async function change(calls: Syscalls, dir: string): Promise<void> {
  await calls.ok('open', 'made', `${dir}/d/${CANARY}`, ['O_RDWR', 'O_CREAT']);
  await calls.ok('pwrite', 'made', { seed: 20, length: 9 * MIB + 1 }, 0);
  await calls.ok('pwrite', 'made', { repeat: CANARY, length: 70_000 }, 12 * MIB);
  await calls.ok('setxattr', `${dir}/d/${CANARY}`, 'user.canary', CANARY);
  await calls.ok('open', 'small', `${dir}/small`, ['O_WRONLY', 'O_CREAT']);
  await calls.ok('write', 'small', { repeat: CANARY, length: 100 });
  await calls.ok('rename', `${dir}/renamed`, `${dir}/d/moved`);
  await calls.ok('open', 'cut', `${dir}/cut`, ['O_RDWR']);
  await calls.ok('pwrite', 'cut', { seed: 21, length: 50_000 }, 5 * MIB);
  await calls.ok('ftruncate', 'cut', 5 * MIB + 20_000);
  await calls.ok('open', 'grown', `${dir}/grown`, ['O_WRONLY', 'O_APPEND']);
  await calls.ok('write', 'grown', { seed: 22, length: 3 * MIB });
  await calls.ok('unlink', `${dir}/removed`);
  for (const handle of ['made', 'small', 'cut', 'grown']) await calls.call('close', handle);
}

/** Lets the store refuse what programs write until the unmount; yields the tree as it was before that. */
async function journal(faulty: FaultyMount): Promise<unknown> {
  const tree = await faulty.calls(async (calls, dir) => {
    await prepare(calls, dir);
    faulty.refuse(true);
    await change(calls, dir);
    return calls.ok('tree', dir, true);
  });
  assert.equal(await faulty.mount.umount(), JOURNALED, faulty.mount.stderr());
  const [file, ...others] = faulty.journals();
  assert.ok(file?.endsWith('.journal') && others.length === 0, `${file} ${others}`);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.match(faulty.mount.stderr(), /sealed in a recovery journal/);
  faulty.refuse(false);
  return tree;
}

/** The mount is up: everything is there, the journal is gone, and the store is sound. */
async function assertRecovered(faulty: FaultyMount, tree: unknown): Promise<void> {
  assert.deepEqual(await faulty.calls((calls, dir) => calls.ok('tree', dir, true)), tree);
  assert.deepEqual(faulty.journals(), []);
  assert.equal(await faulty.mount.umount(), 0, faulty.mount.stderr());
  const checked = await faulty.command('fsck', '--deep');
  assert.equal(checked.status, 0, checked.stdout + checked.stderr);
}

mountTest('what a store refused until the unmount is replayed by the next mount', () =>
  withFaultyMount(async (faulty) => {
    const tree = await journal(faulty);
    const before = faulty.mount.stderr().length;
    await faulty.mount.remount();
    assert.match(faulty.mount.stderr().slice(before), /recovery journal of .* is replayed/);
    await assertRecovered(faulty, tree);
  }),
);

mountTest('SIGTERM seals a journal too, and `recover replay` needs no mount', () =>
  withFaultyMount(async (faulty) => {
    const tree = await faulty.calls(async (calls, dir) => {
      faulty.refuse(true);
      await calls.ok('open', 'f', `${dir}/f`, ['O_WRONLY', 'O_CREAT']);
      await calls.ok('write', 'f', { seed: 9, length: 5 * MIB });
      await calls.call('close', 'f');
      return calls.ok('tree', dir, true);
    });
    assert.equal(await faulty.mount.signal('SIGTERM'), JOURNALED, faulty.mount.stderr());
    faulty.refuse(false);
    const replayed = await faulty.recover('replay');
    assert.equal(replayed.status, 0, replayed.stdout + replayed.stderr);
    assert.match(replayed.stdout, /is replayed: 2 chunks/);
    await faulty.mount.remount();
    await assertRecovered(faulty, tree);
  }),
);

mountTest('while the store refuses the journal, nothing is served and the journal stays', () =>
  withFaultyMount(async (faulty) => {
    const tree = await journal(faulty);
    faulty.refuse(true);
    await assert.rejects(faulty.mount.remount(), /cannot be replayed.*ENOSPC/s);
    assert.equal(faulty.journals().length, 1);
    const swept = await faulty.command('gc', '--journal-dir', faulty.mount.journalDir);
    assert.equal(swept.status, 0, swept.stderr);
    const repaired = await faulty.command(
      ...['fsck', '--repair', '--journal-dir', faulty.mount.journalDir],
    );
    assert.equal(repaired.status, 1, repaired.stdout);
    assert.match(repaired.stderr, /recovery journal waits/);
    faulty.refuse(false);
    await faulty.mount.remount();
    await assertRecovered(faulty, tree);
  }),
);

mountTest('a replay that is killed at any step is made again, and ends the same', () =>
  withFaultyMount(async (faulty) => {
    const tree = await journal(faulty);
    const points = ['replay-chunk:2', 'replay-chunks:1', 'replay-changes:1', 'replay-synced:1'];
    for (const point of points) {
      faulty.killAt(point);
      await assert.rejects(faulty.mount.remount(), /ended with SIGKILL/, point);
      assert.equal(faulty.journals().length, 1, point);
    }
    faulty.killAt('replay-removed:1');
    await assert.rejects(faulty.mount.remount(), /ended with SIGKILL/);
    faulty.killAt();
    await faulty.mount.remount();
    await assertRecovered(faulty, tree);
  }),
);

mountTest(
  'a process that is killed while it seals leaves a sound store, and no half of a journal',
  () =>
    withFaultyMount(async (faulty) => {
      faulty.killAt('journal-written:1');
      assert.equal(await faulty.mount.umount(), 0);
      await faulty.mount.remount();
      await faulty.calls(async (calls, dir) => {
        await prepare(calls, dir);
        faulty.refuse(true);
        await change(calls, dir);
      });
      assert.equal(await faulty.mount.umount(), -1, faulty.mount.stderr());
      assert.match(faulty.journals().join(), /\.part$/);
      faulty.refuse(false);
      faulty.killAt();
      await faulty.mount.remount();
      assert.match(faulty.mount.stderr(), /never finished is removed/);
      const kept = await faulty.calls(async (calls, dir) => [
        await calls.ok('hash', `${dir}/kept`),
        await calls.ok('hash_of', [{ seed: 1, length: 300_000 }]),
      ]);
      assert.deepEqual(kept[0], kept[1]);
      assert.deepEqual(faulty.journals(), []);
      assert.equal(await faulty.mount.umount(), 0, faulty.mount.stderr());
      assert.equal((await faulty.command('fsck', '--deep')).status, 0);
    }),
);

/** Changes a byte in the middle of the journal's file. */
function damage(file: string): void {
  const bytes = readFileSync(file);
  const at = Math.floor(bytes.length / 2);
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  writeFileSync(file, bytes);
}

mountTest('a damaged journal is named and kept, and changes nothing', () =>
  withFaultyMount(async (faulty) => {
    await journal(faulty);
    const [file] = faulty.journals();
    damage(file as string);
    await faulty.mount.remount();
    assert.match(faulty.mount.stderr(), /cannot be used and is kept: its chunk \w{64} is damaged/);
    const [kept, wanted] = await faulty.calls(async (calls, dir) => [
      await calls.ok('hash', `${dir}/kept`),
      await calls.ok('hash_of', [{ seed: 1, length: 300_000 }]),
    ]);
    assert.deepEqual(kept, wanted);
    assert.equal(await faulty.mount.umount(), 0);
    assert.deepEqual(faulty.journals(), [file]);
    writeFileSync(file as string, readFileSync(file as string).subarray(0, -100));
    const shown = await faulty.recover('show');
    assert.equal(shown.status, 1);
    assert.match(shown.stdout, /damaged: record \d+ at byte \d+: the file ends within/);
  }),
);

mountTest('a mount that cannot replay a journal deletes nothing that it needs', () =>
  withFaultyMount(async (faulty) => {
    await journal(faulty);
    const [file = ''] = faulty.journals();
    const sound = readFileSync(file);
    // One that cannot be read at all may need anything.
    writeFileSync(file, sound.subarray(0, -100));
    await faulty.mount.remount();
    assert.match(faulty.mount.stderr(), /cannot be used and is kept/);
    const removed = ['kept', 'cut', 'grown'];
    await faulty.calls(async (calls, dir) => {
      for (const name of removed) await calls.ok('unlink', `${dir}/${name}`);
    });
    const refused = await faulty.command('gc');
    assert.equal(refused.status, 1, refused.stdout);
    assert.match(refused.stderr, /may need what would be deleted, and cannot be read/);
    assert.equal(await faulty.mount.umount(), 0);
    // One that can be read, but for one chunk of its own, needs what it refers to.
    writeFileSync(file, sound);
    damage(file);
    await faulty.mount.remount();
    const swept = await faulty.command('gc', '--json');
    assert.equal(swept.status, 0, swept.stderr);
    assert.ok(JSON.parse(swept.stdout).deleted > 0, 'nothing was garbage: this shows nothing');
    assert.equal(await faulty.mount.umount(), 0);
    writeFileSync(file, sound);
    await faulty.mount.remount();
    assert.match(faulty.mount.stderr(), /put aside in lost\+found/);
    assert.doesNotMatch(faulty.mount.stderr(), /has lost the chunk/);
    assert.equal(await faulty.mount.umount(), 0, faulty.mount.stderr());
    assert.equal((await faulty.command('fsck', '--deep')).status, 0);
  }),
);

mountTest(
  'a journal is not replayed over what was changed elsewhere: its content is put aside',
  () =>
    withFaultyMount(async (faulty) => {
      await journal(faulty);
      const { journalDir } = faulty.mount;
      renameSync(journalDir, `${journalDir}-away`);
      await faulty.mount.remount();
      const newer = { seed: 30, length: 1000 };
      await faulty.calls(async (calls, dir) => {
        await calls.ok('write_and_sync', `${dir}/grown`, newer.seed, 1, newer.length, true);
        await calls.ok('unlink', `${dir}/cut`);
      });
      assert.equal(await faulty.mount.umount(), 0);
      rmSync(journalDir, { recursive: true, force: true });
      renameSync(`${journalDir}-away`, journalDir);
      faulty.killAt('replay-aside:1');
      await assert.rejects(faulty.mount.remount(), /ended with SIGKILL/);
      faulty.killAt();
      await faulty.mount.remount();
      assert.match(faulty.mount.stderr(), /put aside in lost\+found\/journal-\w{8}/);
      await faulty.calls(async (calls, dir) => {
        const [place, ...others] = (await calls.ok('readdir', `${dir}/lost+found`)) as string[];
        assert.deepEqual(others, []);
        await calls.ok('open', 'g', `${dir}/grown`, ['O_RDONLY']);
        assert.equal(await calls.ok('pread_expect', 'g', newer, 0), true);
        await calls.ok('close', 'g');
        const names = (await calls.ok('readdir', `${dir}/lost+found/${place}`)) as string[];
        assert.deepEqual([...names].sort(), ['#5', CANARY, 'grown']);
        await calls.ok('open', 'h', `${dir}/lost+found/${place}/grown`, ['O_RDONLY']);
        const grown = { seed: 22, length: 3 * MIB };
        assert.equal(await calls.ok('pread_expect', 'h', grown, 4 * MIB + 77), true);
        await calls.ok('close', 'h');
        await assert.rejects(calls.ok('stat', `${dir}/cut`), /ENOENT/);
      });
      assert.equal(await faulty.mount.umount(), 0, faulty.mount.stderr());
      assert.match(faulty.journals().join(), /^[^,]*\.aside$/);
      assert.equal((await faulty.command('fsck', '--deep')).status, 0);
      await faulty.mount.remount();
      assert.equal(await faulty.mount.umount(), 0);
    }),
);

mountTest('`recover` shows and exports what a journal holds, and no secret lies in it', () =>
  withFaultyMount(async (faulty) => {
    const tree = (await journal(faulty)) as Record<string, { content?: string }>;
    const search = searchDirectory(faulty.mount.journalDir, SECRETS);
    assert.deepEqual(search.found, []);
    assert.ok(search.bytes > 12 * MIB, `only ${search.bytes} bytes`);
    const shown = await faulty.recover('show', '--json');
    assert.equal(shown.status, 0, shown.stderr);
    const [told] = JSON.parse(shown.stdout).journals;
    assert.equal(told.cause, 'unmount: ENOSPC');
    const grown = told.files.find(({ path }: { path: string }) => path === '/grown');
    assert.deepEqual(grown.ranges, [{ offset: 4 * MIB + 77, length: 3 * MIB }]);
    const made = told.files.find(({ path }: { path: string }) => path === `/d/${CANARY}`);
    assert.equal(made.size, 12 * MIB + 70_000);
    const text = await faulty.recover();
    assert.match(text.stdout, /waits for the next mount/);
    const target = join(faulty.mount.journalDir, 'exported');
    const exported = await faulty.recover('export', target);
    assert.equal(exported.status, 0, exported.stdout + exported.stderr);
    for (const name of [`d/${CANARY}`, 'cut', 'grown']) {
      const path = join(target, name);
      const digest = execFileSync('sha256sum', [path], { encoding: 'utf8' }).slice(0, 64);
      assert.equal(digest, tree[name]?.content, name);
      assert.equal(statSync(path).mode & 0o777, 0o600);
    }
    const again = await faulty.recover('export', target);
    assert.equal(again.status, 1, 'a file that is there is not replaced');
    assert.ok(existsSync(join(target, 'grown')));
  }),
);

mountTest('where no journal can be written either, that is said, and the inodes are named', () =>
  withFaultyMount(async (faulty) => {
    // A file where the directory should be.
    mkdirSync(join(faulty.mount.journalDir, '..'), { recursive: true });
    writeFileSync(faulty.mount.journalDir, '');
    await faulty.calls(async (calls, dir) => {
      faulty.refuse(true);
      await calls.ok('open', 'f', `${dir}/f`, ['O_WRONLY', 'O_CREAT']);
      await calls.ok('write', 'f', { seed: 9, length: 5 * MIB });
      await calls.call('close', 'f');
    });
    assert.equal(await faulty.mount.umount(), 1);
    assert.match(faulty.mount.stderr(), /"inodes":\[\d+\].*data is lost/);
  }),
);

mountTest(
  'a store without any room: what its tree does not take is in the journal as well',
  async () => {
    const store = temporaryDirectory('full-store');
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=32m', 'tmpfs', store]);
    try {
      await withFaultyMount(
        async (faulty) => {
          await faulty.calls(async (calls, dir) => {
            await prepare(calls, dir);
            await calls.ok('mkdir', `${dir}/fresh`);
            await calls.ok('mkdir', `${dir}/small`);
            await calls.ok('make_files', `${dir}/small`, SMALL_FILES, 1);
            await calls.ok('open', 'f', `${dir}/fresh/${CANARY}`, ['O_RDWR', 'O_CREAT']);
            await calls.ok('write', 'f', { seed: 40, length: 30 * MIB });
            await calls.call('close', 'f');
            // Until the tree takes no more names: those before stay, and are promised nothing.
            for (let number = 0; number < 60_000; number += 1) {
              const made = await calls.call('symlink', 'x'.repeat(900), `${dir}/fresh/${number}`);
              if ('errno' in made) break;
            }
            // What is written to files that are there uses up the room for removals; then the tree takes nothing.
            let isRefused = false;
            for (let number = 0; number < SMALL_FILES; number += 1) {
              await calls.ok('open', 's', `${dir}/small/file-${number}`, ['O_WRONLY']);
              await calls.ok('write', 's', { seed: number, length: 4000 });
              if ('errno' in (await calls.call('close', 's'))) isRefused = true;
            }
            assert.ok(isRefused);
          });
          const tree = await faulty.calls((calls, dir) => calls.ok('tree', dir, true));
          assert.equal(await faulty.mount.umount(), JOURNALED, faulty.mount.stderr());
          const shown = await faulty.recover('--json');
          assert.equal(shown.status, 0, shown.stderr);
          const [{ files }] = JSON.parse(shown.stdout).journals;
          assert.ok(files.length > 1, 'the tree has taken everything: this shows nothing');
          execFileSync('mount', ['-o', 'remount,size=512m', store]);
          // What only the journal refers to is no garbage.
          const swept = await faulty.command('gc', '--journal-dir', faulty.mount.journalDir);
          assert.equal(swept.status, 0, swept.stderr);
          await faulty.mount.remount();
          await assertRecovered(faulty, tree);
        },
        { storeDir: store },
      );
    } finally {
      detach(store);
      rmSync(store, { recursive: true, force: true });
    }
  },
  { root: true },
);

mountTest(
  'a journal is replayed after the key was rotated, and not forgotten with the old one',
  () =>
    withFaultyMount(async (faulty) => {
      const tree = await journal(faulty);
      const { keyFile, journalDir } = faulty.mount;
      const rotate = [
        'key',
        'rotate',
        '--new-key-file',
        `${keyFile}-new`,
        '--journal-dir',
        journalDir,
      ];
      const refused = await faulty.command(...rotate, '--rewrite');
      assert.equal(refused.status, 1, refused.stdout);
      assert.match(refused.stderr, /recovery journal waits/);
      const rotated = await faulty.command(...rotate);
      assert.equal(rotated.status, 0, rotated.stderr);
      renameSync(`${keyFile}-new`, keyFile);
      await faulty.mount.remount();
      await assertRecovered(faulty, tree);
    }),
);

/** Writes pieces without a sync until that fails; how many were acknowledged. */
async function writeUntilTheEnd(faulty: FaultyMount): Promise<number> {
  return faulty.calls(async (calls, dir) => {
    const opened = await calls.call('open', 'f', `${dir}/f`, ['O_WRONLY', 'O_CREAT']);
    assert.ok('value' in opened, JSON.stringify(opened));
    for (let seed = 0; seed < 4000; seed += 1) {
      const written = await calls.call('pwrite', 'f', { seed, length: MIB }, seed * MIB);
      if ('errno' in written) return seed;
    }
    return Number.NaN;
  });
}

mountTest(
  'a front that dies takes no acknowledged write with it: a journal has what nobody synced',
  () =>
    withFaultyMount(async (faulty) => {
      assert.equal(await faulty.mount.umount(), 0);
      faulty.dieAt('front:40');
      await faulty.mount.remount();
      const ended = once(faulty.mount.child, 'exit');
      const pieces = await writeUntilTheEnd(faulty);
      assert.deepEqual(await ended, [1, null], faulty.mount.stderr());
      assert.ok(pieces > 10, `only ${pieces} pieces`);
      assert.equal(faulty.journals().length, 1, faulty.mount.stderr());
      faulty.dieAt();
      await faulty.mount.remount();
      await faulty.calls(async (calls, dir) => {
        await calls.ok('open', 'f', `${dir}/f`, ['O_RDONLY']);
        for (let seed = 0; seed < pieces; seed += 1) {
          const piece = { seed, length: MIB };
          assert.equal(await calls.ok('pread_expect', 'f', piece, seed * MIB), true, `${seed}`);
        }
        await calls.ok('close', 'f');
      });
      assert.deepEqual(faulty.journals(), []);
      assert.equal(await faulty.mount.umount(), 0, faulty.mount.stderr());
    }),
  { needs: 'front threads' },
);

mountTest(
  'a data worker that dies costs what it alone knew: the journal names the file, and is replayed',
  () =>
    withFaultyMount(
      async (faulty) => {
        await faulty.calls((calls, dir) =>
          calls.ok('write_and_sync', `${dir}/kept`, 1, 1, 3 * MIB, true),
        );
        assert.equal(await faulty.mount.umount(), 0);
        faulty.dieAt('data:40');
        await faulty.mount.remount();
        const ended = once(faulty.mount.child, 'exit');
        await writeUntilTheEnd(faulty);
        assert.deepEqual(await ended, [1, null], faulty.mount.stderr());
        assert.match(faulty.mount.stderr(), /sealed in a recovery journal, but for data of these/);
        const shown = await faulty.recover('--json');
        const [{ lost, files }] = JSON.parse(shown.stdout).journals;
        assert.deepEqual(
          lost,
          files.map(({ ino }: { ino: number }) => ino),
        );
        faulty.dieAt();
        await faulty.mount.remount();
        const [kept, wanted] = await faulty.calls(async (calls, dir) => [
          await calls.ok('hash', `${dir}/kept`),
          await calls.ok('hash_of', [{ seed: 1, length: 3 * MIB }]),
        ]);
        assert.deepEqual(kept, wanted);
        assert.deepEqual(faulty.journals(), []);
        assert.equal(await faulty.mount.umount(), 0, faulty.mount.stderr());
        assert.equal((await faulty.command('fsck', '--deep')).status, 0);
      },
      { flags: ['-o', 'commit_interval=0', '--data-workers', '2'] },
    ),
);
