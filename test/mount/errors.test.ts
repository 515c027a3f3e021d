import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { detach, mountAt } from '../support/mount-table.ts';
import { mountTest } from '../support/family.ts';
import {
  type CommandResult,
  runMillrace,
  temporaryDirectory,
  withMount,
  writeKey,
} from '../support/mount.ts';
import { repositoryRoot } from '../support/repository.ts';

interface Ground {
  base: string;
  dir: string;
  store: string;
  key: string;
}

/** A directory to mount on, a store and a key that would all do; cleared away afterwards. */
async function onGround(body: (ground: Ground) => Promise<void>): Promise<void> {
  const base = temporaryDirectory('errors');
  const ground = {
    base,
    dir: join(base, 'mnt'),
    store: join(base, 'store'),
    key: join(base, 'key'),
  };
  mkdirSync(ground.dir);
  mkdirSync(ground.store);
  writeKey(ground.key);
  try {
    await body(ground);
  } finally {
    detach(ground.dir);
    rmSync(base, { recursive: true, force: true });
  }
}

function mountArguments(ground: Ground): string[] {
  const command = ['mount', ground.dir, '--store', ground.store];
  return [...command, '--key-file', ground.key, '--foreground'];
}

/** Status 1 or 2; on stderr one sentence that names what is wrong, and at most one next step. */
function assertRefused(result: CommandResult, ground: Ground, names: RegExp): void {
  assert.ok([1, 2].includes(result.status), `status ${result.status}: ${result.stderr}`);
  const [sentence, next, ...rest] = result.stderr.trimEnd().split('\n');
  assert.deepEqual(rest, [], result.stderr);
  assert.match(sentence as string, /^millrace: /);
  assert.match(sentence as string, names);
  if (next !== undefined) assert.match(next, /^ {2}next: \S/);
  assert.doesNotMatch(result.stderr, /\n\s+at |node:internal|panicked|fault of Millrace/);
  assert.equal(mountAt(ground.dir), undefined, 'it mounted nevertheless');
}

mountTest('a mount point that does not exist', () =>
  onGround(async (ground) => {
    rmSync(ground.dir, { recursive: true });
    assertRefused(await runMillrace(mountArguments(ground)), ground, /mnt/);
    assert.equal(existsSync(ground.dir), false);
  }),
);

mountTest('a mount point that is a file', () =>
  onGround(async (ground) => {
    rmSync(ground.dir, { recursive: true });
    writeFileSync(ground.dir, '');
    assertRefused(await runMillrace(mountArguments(ground)), ground, /mnt/);
  }),
);

mountTest('a mount point that is not empty', () =>
  onGround(async (ground) => {
    writeFileSync(join(ground.dir, 'something'), '');
    assertRefused(await runMillrace(mountArguments(ground)), ground, /mnt/);
    assert.deepEqual(readdirSync(ground.dir), ['something']);
  }),
);

test('doctor says that no mount can work where the addon is not built', () => {
  const base = temporaryDirectory('no-addon');
  try {
    cpSync(join(repositoryRoot(), 'dist'), join(base, 'dist'), { recursive: true });
    cpSync(join(repositoryRoot(), 'package.json'), join(base, 'package.json'));
    symlinkSync(join(repositoryRoot(), 'node_modules'), join(base, 'node_modules'));
    const words = [join(base, 'dist/bin/main.js'), 'doctor', '--json'];
    const { status, stdout } = spawnSync(process.execPath, words, { encoding: 'utf8' });
    assert.equal(status, 1, stdout);
    const { canMount, rows } = JSON.parse(stdout);
    const row = rows.find(({ name }: { name: string }) => name === 'addon');
    assert.deepEqual([canMount, row.state], [false, 'fail']);
    assert.match(row.advice, /npm run setup/);
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
});

mountTest('a key that is not the key of the store', () =>
  onGround(async (ground) => {
    await withMount({ storeDir: ground.store }, async (mount) => {
      assert.equal(await mount.umount(), 0);
    });
    writeKey(ground.key, Buffer.alloc(32, 7));
    assertRefused(await runMillrace(mountArguments(ground)), ground, /key.* \[KEY_WRONG\]$/i);
    await withMount({ storeDir: ground.store }, async (mount) => {
      assert.equal(await mount.umount(), 0);
    });
  }),
);

for (const [title, content] of [
  ['too short', 'c3a5f1\n'],
  ['empty', ''],
  ['not hexadecimal', `${'zz'.repeat(32)}\n`],
] as const) {
  mountTest(`a key file that is ${title}`, () =>
    onGround(async (ground) => {
      writeFileSync(ground.key, content, { mode: 0o600 });
      const result = await runMillrace(mountArguments(ground));
      assertRefused(result, ground, /key/i);
      if (content.trim() !== '') assert.ok(!result.stderr.includes(content.trim()));
    }),
  );
}

mountTest('a store path that is a file', () =>
  onGround(async (ground) => {
    rmSync(ground.store, { recursive: true });
    writeFileSync(ground.store, 'not a store');
    assertRefused(await runMillrace(mountArguments(ground)), ground, /store/i);
  }),
);

mountTest('a store that another mount uses', () =>
  onGround(async (ground) => {
    await withMount({ storeDir: ground.store }, async (mount) => {
      assertRefused(await runMillrace(mountArguments(ground)), ground, /store|use|lock/i);
      assert.equal(await mount.umount(), 0);
    });
  }),
);

mountTest('a key file that others can read', () =>
  onGround(async (ground) => {
    chmodSync(ground.key, 0o640);
    assertRefused(await runMillrace(mountArguments(ground)), ground, /key/i);
  }),
);

mountTest('a store of a newer format', () =>
  onGround(async (ground) => {
    await withMount({ storeDir: ground.store }, async (mount) => {
      assert.equal(await mount.umount(), 0);
    });
    const path = join(ground.store, 'millrace.json');
    const superblock = JSON.parse(readFileSync(path, 'utf8')) as { format: number };
    superblock.format += 2; // One later is that of rotated keys.
    writeFileSync(path, JSON.stringify(superblock));
    assertRefused(await runMillrace(mountArguments(ground)), ground, /format|newer/i);
    assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), superblock);
  }),
);

mountTest('a store whose superblock is damaged', () =>
  onGround(async (ground) => {
    await withMount({ storeDir: ground.store }, async (mount) => {
      assert.equal(await mount.umount(), 0);
    });
    writeFileSync(join(ground.store, 'millrace.json'), '{');
    assertRefused(await runMillrace(mountArguments(ground)), ground, /damaged/i);
  }),
);

for (const flags of [
  ['--no-such-flag'],
  ['--slab', 'much'],
  ['--slab', '-5'],
  ['--slab'],
  ['surplus-argument'],
]) {
  mountTest(`mount ... ${flags.join(' ')}`, () =>
    onGround(async (ground) => {
      const result = await runMillrace([...mountArguments(ground), ...flags]);
      const name = flags[0] as string;
      assertRefused(result, ground, name.startsWith('-') ? new RegExp(name) : /argument/);
      assert.equal(result.status, 2);
    }),
  );
}

for (const flags of [
  ['--fuse-threads', '64', '--slab', '64M'],
  ['--fuse-threads', '16', '--slab', '64M'],
  ['--fuse-threads', '64'],
]) {
  mountTest(`more threads than the slab has room for: ${flags.join(' ')}`, () =>
    onGround(async (ground) => {
      const front = ['--front', 'kernel'];
      const result = await runMillrace([...mountArguments(ground), ...front, ...flags]);
      assertRefused(result, ground, /--fuse-threads.*--slab/);
      assert.equal(result.status, 2);
    }),
  );
}

mountTest('as many threads as the slab has room for', () =>
  withMount({ flags: ['--fuse-threads', '15', '--slab', '64M'] }, async (mount) => {
    const content = Buffer.alloc(2 ** 26, 'a');
    await writeFile(join(mount.dir, 'file'), content);
    assert.ok((await readFile(join(mount.dir, 'file'))).equals(content));
    assert.equal(await mount.umount(), 0, mount.stderr());
  }),
);

mountTest('mount without a directory', () =>
  onGround(async (ground) => {
    const result = await runMillrace(['mount']);
    assertRefused(result, ground, /./);
    assert.equal(result.status, 2);
  }),
);
