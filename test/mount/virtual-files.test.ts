import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { constants, writeFileSync } from 'node:fs';
import {
  chmod,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
  truncate,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { errnoOf } from '../support/errno-of.ts';
import { mountTest } from '../support/family.ts';
import { TEST_KEY, temporaryDirectory, withMount } from '../support/mount.ts';
import { TreeHash } from '../support/tree-hash.ts';

const run = promisify(execFile);
const MIB = 2 ** 20;
const NEVER = ['-o', 'commit_interval=0'];

/** What a control file reads. */
function read(dir: string, name: string): Promise<string> {
  return readFile(join(dir, '.millrace', name), 'utf8');
}

mountTest('the control directory is hidden, and what it holds can be looked up', async () => {
  await withMount({}, async ({ dir }) => {
    await writeFile(join(dir, 'real'), '');
    assert.deepEqual(await readdir(dir), ['real']);
    const { stdout } = await run('ls', ['-a', dir]);
    assert.deepEqual(stdout.trim().split('\n'), ['.', '..', 'real']);
    assert.equal((await stat(join(dir, '.millrace'))).mode, 0o040555);
    const names = ['commit', 'dirty', 'hash', 'status'];
    assert.deepEqual(await readdir(join(dir, '.millrace')), names);
    const modes = await Promise.all(names.map((name) => stat(join(dir, '.millrace', name))));
    assert.deepEqual(
      modes.map(({ mode, nlink }) => [mode, nlink]),
      [0o100644, 0o100444, 0o100444, 0o100444].map((mode) => [mode, 1]),
    );
    await mkdir(join(dir, 'sub'));
    assert.equal(await errnoOf(stat(join(dir, 'sub/.millrace'))), 'ENOENT');
    await mkdir(join(dir, 'sub/.millrace'));
    await rmdir(join(dir, 'sub/.millrace'));
    const tool = await run('cp', [join(dir, '.millrace/status'), join(dir, 'copy')]);
    assert.equal(tool.stderr, '');
    assert.equal(JSON.parse(await readFile(join(dir, 'copy'), 'utf8')).namespace, 'default');
  });
});

mountTest('nothing in the control directory can be made, moved, changed or removed', async () => {
  await withMount({}, async ({ dir }) => {
    const at = (name: string): string => join(dir, name);
    await writeFile(at('file'), 'x');
    await mkdir(at('folder'));
    const calls: Record<string, (() => Promise<unknown>)[]> = {
      EEXIST: [
        () => mkdir(at('.millrace')),
        () => symlink('x', at('.millrace')),
        () => link(at('file'), at('.millrace')),
      ],
      EISDIR: [() => writeFile(at('.millrace'), ''), () => rename(at('file'), at('.millrace'))],
      EPERM: [
        () => rmdir(at('.millrace')),
        () => rename(at('.millrace'), at('other')),
        () => rename(at('folder'), at('.millrace')),
        () => rename(at('file'), at('.millrace/file')),
        () => rename(at('.millrace/dirty'), at('dirty')),
        () => unlink(at('.millrace/commit')),
        () => mkdir(at('.millrace/new')),
        () => symlink('x', at('.millrace/new')),
        () => link(at('file'), at('.millrace/new')),
        () => link(at('.millrace/hash'), at('hash')),
        () => chmod(at('.millrace'), 0o755),
        () => chmod(at('.millrace/commit'), 0o600),
        () => truncate(at('.millrace/dirty'), 0),
      ],
    };
    for (const [errno, each] of Object.entries(calls)) {
      for (const call of each) {
        const allowed = errno === 'EPERM' ? ['EPERM', 'EACCES'] : [errno];
        assert.ok(allowed.includes(await errnoOf(call())), String(call));
      }
    }
    assert.ok(['EPERM', 'EACCES'].includes(await errnoOf(writeFile(at('.millrace/new'), ''))));
    assert.equal(await errnoOf(open(at('.millrace/status'), 'r+')), 'EACCES');
    assert.deepEqual((await readdir(dir)).sort(), ['file', 'folder']);
    assert.equal(await readFile(at('file'), 'utf8'), 'x');
  });
});

/** Ways to ask for a commit of everything. */
const COMMITS: Record<string, (file: string) => Promise<unknown>> = {
  'a write': (file) => run('sh', ['-c', 'echo 1 > "$1"', '-', file]),
  'a write without O_TRUNC': async (file) => {
    const handle = await open(file, constants.O_WRONLY);
    await handle.write('1');
    await handle.close();
  },
  'touch(1)': (file) => run('touch', [file]),
  'utimes(2)': (file) => utimes(file, 1, 1),
  'a large write': (file) => writeFile(file, Buffer.alloc(3 * MIB)),
  O_TRUNC: async (file) => (await open(file, 'w')).close(),
};

mountTest('each way to ask makes everything durable before it returns', async () => {
  await withMount({ flags: NEVER }, async (mount) => {
    const text = Buffer.alloc(5 * MIB + 3, 'text');
    for (const [way, commit] of Object.entries(COMMITS)) {
      const file = join(mount.dir, `file ${way.replaceAll(/\W/g, '')}`);
      const handle = await open(file, 'w');
      await handle.write(text);
      await handle.write(way);
      await mkdir(`${file}.d`);
      assert.equal(await read(mount.dir, 'dirty'), '1\n', way);
      await commit(join(mount.dir, '.millrace/commit'));
      assert.equal(await read(mount.dir, 'dirty'), '0\n', way);
      assert.equal(await read(mount.dir, 'commit'), '', way);
      await mount.kill9();
      await handle.close().catch(() => undefined);
      await mount.remount();
      assert.deepEqual(await readFile(file), Buffer.concat([text, Buffer.from(way)]), way);
      assert.ok((await stat(`${file}.d`)).isDirectory());
    }
  });
});

mountTest('what is dirty is committed after commit_interval', async () => {
  await withMount({ flags: ['-o', 'commit_interval=50'] }, async ({ dir }) => {
    const clean = async (): Promise<void> => {
      while ((await read(dir, 'dirty')) !== '0\n') await pause(20);
    };
    const handle = await open(join(dir, 'file'), 'w');
    await handle.write('something');
    await clean();
    await mkdir(join(dir, 'only a name'));
    await clean();
    assert.match(JSON.parse(await read(dir, 'status')).lastCommit, /^\d{4}-.*Z$/);
    await handle.close();
  });
});

mountTest('commit_interval=0 never commits', async () => {
  await withMount({ flags: NEVER }, async ({ dir }) => {
    assert.equal(await read(dir, 'dirty'), '0\n');
    const handle = await open(join(dir, 'file'), 'w');
    await handle.write('something');
    // Longer than the interval that holds where none is given.
    await pause(6000);
    assert.equal(await read(dir, 'dirty'), '1\n');
    const status = JSON.parse(await read(dir, 'status'));
    assert.equal(status.lastCommit, null);
    assert.equal(status.dirtyInodes, 1);
    await handle.sync();
    assert.equal(await read(dir, 'dirty'), '0\n');
    await handle.close();
  });
});

mountTest('a commit that fails gives EIO, and says why', async () => {
  const base = temporaryDirectory('faults');
  const faults = join(base, 'faults');
  writeFileSync(faults, 'put-errno=28');
  const environment = { MILLRACE_STORE_FAULTS: `file=${faults}` };
  try {
    await withMount({ flags: NEVER, environment }, async ({ dir }) => {
      const handle = await open(join(dir, 'file'), 'w');
      await handle.write(Buffer.alloc(MIB, 'x'));
      assert.equal(await errnoOf(writeFile(join(dir, '.millrace/commit'), '1')), 'EIO');
      assert.match(await read(dir, 'commit'), /^ENOSPC: .+\n$/);
      assert.equal(await read(dir, 'dirty'), '1\n');
      assert.match(JSON.parse(await read(dir, 'status')).lastError, /^ENOSPC: /);
      writeFileSync(faults, 'put-errno=0');
      await writeFile(join(dir, '.millrace/commit'), '1');
      assert.equal(await read(dir, 'commit'), '');
      assert.equal(await read(dir, 'dirty'), '0\n');
      assert.equal(JSON.parse(await read(dir, 'status')).lastError, null);
      await handle.close();
    });
  } finally {
    await rm(base, { recursive: true, force: true });
  }
});

mountTest('status tells counters of the mount', async () => {
  const flags = ['--namespace', 'a', '--namespace', 'b', '--slab', '64M', ...NEVER];
  await withMount({ flags }, async ({ dir }) => {
    const status = async (): Promise<Record<string, unknown>> =>
      JSON.parse(await read(join(dir, 'b'), 'status'));
    const { inodes } = await status();
    const handle = await open(join(dir, 'a/file'), 'w');
    await handle.write(Buffer.alloc(4 * MIB, 'x'));
    await handle.sync();
    const after = await status();
    assert.equal(after['namespace'], 'b');
    assert.equal(after['version'], '0.1.0');
    assert.equal(after['inodes'], Number(inodes) + 1);
    assert.equal(after['openInodes'], 1);
    assert.equal(after['dirty'], false);
    assert.equal((after['frames'] as { total: number }).total, 64);
    const bytes = after['bytes'] as Record<string, number>;
    assert.equal(bytes['in'], 4 * MIB);
    assert.equal(bytes['sealed'], 4 * MIB);
    await handle.close();
  });
});

/** Writes a file in pieces, each made durable before the next. */
async function writeInPieces(path: string, content: Buffer, offsets: number[]): Promise<void> {
  const handle = await open(path, 'w');
  const ends = [...offsets, content.length].sort((a, b) => a - b);
  const order = [...offsets];
  for (const start of [...order, 0]) {
    const end = ends.find((each) => each > start) ?? content.length;
    await handle.write(content, start, end - start, start);
    await handle.sync();
  }
  await handle.close();
}

/** A directory with something of everything; `pieces`: the same, made in another way. */
async function populate(root: string, pieces: boolean): Promise<void> {
  const large = Buffer.alloc(9 * MIB + 5);
  for (let at = 0; at < large.length; at += 4)
    large.writeInt32LE((at * 7919) % 1_000_003, Math.min(at, large.length - 4));
  large.fill(0, 4 * MIB, 8 * MIB);
  const offsets = pieces ? [5 * MIB, 1000, 3 * MIB + 1, 8 * MIB + 7] : [];
  const make: (() => Promise<unknown>)[] = [
    () => writeInPieces(join(root, 'large'), large, offsets),
    () => writeInPieces(join(root, 'small'), Buffer.from('small text'), pieces ? [3, 6] : []),
    () => writeInPieces(join(root, 'medium'), large.subarray(0, 9000), pieces ? [4096] : []),
    () => writeFile(join(root, 'empty'), ''),
    async () => {
      const handle = await open(join(root, 'hole'), 'w');
      await handle.truncate(6 * MIB);
      if (pieces) await handle.write(Buffer.alloc(MIB), 0, MIB, 5 * MIB);
      await handle.close();
    },
    async () => {
      await mkdir(join(root, 'folder/deeper'), { recursive: true });
      await writeFile(join(root, 'folder/deeper/file'), 'deep');
      await symlink('deeper/file', join(root, 'folder/link'));
      await chmod(join(root, 'folder'), 0o750);
    },
    () => run('mkfifo', ['-m', '640', join(root, 'pipe')]),
  ];
  for (const each of pieces ? make.reverse() : make) await each();
  await run('python3', [
    '-c',
    'import os, sys; [os.setxattr(sys.argv[1], f"user.{n}", b"v" * n) for n in (1, 2)]',
    join(root, 'small'),
  ]);
}

mountTest('the hash is what the documents say, and does not tell how a tree was made', async () => {
  await withMount({ flags: ['--namespace', 'a', '--namespace', 'b'] }, async (mount) => {
    const [a, b] = [join(mount.dir, 'a'), join(mount.dir, 'b')];
    const expected = new TreeHash(TEST_KEY);
    assert.equal(await read(a, 'hash'), await read(b, 'hash'));
    await populate(a, false);
    await populate(b, true);
    await writeFile(join(a, '.millrace/commit'), '1');
    const hash = await read(a, 'hash');
    assert.equal(hash, `${await expected.of(a)}\n`);
    assert.equal(await read(b, 'hash'), hash);
    await utimes(join(b, 'large'), 5, 5);
    assert.equal(await read(b, 'hash'), hash);
    const handle = await open(join(b, 'large'), 'r+');
    await handle.write('!', 8 * MIB + 1);
    await handle.sync();
    const changed = await read(b, 'hash');
    assert.notEqual(changed, hash);
    assert.equal(changed, `${await expected.of(b)}\n`);
    await handle.close();
    await mount.umount();
    await mount.remount();
    assert.equal(await read(a, 'hash'), hash);
    assert.equal(await read(b, 'hash'), changed);
  });
});

mountTest('a reader in small pieces sees one text', async () => {
  await withMount({}, async ({ dir }) => {
    const handle = await open(join(dir, '.millrace/status'), 'r');
    const pieces: Buffer[] = [];
    for (;;) {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(7), 0, 7, null);
      if (bytesRead === 0) break;
      pieces.push(buffer.subarray(0, bytesRead));
      await writeFile(join(dir, `file-${pieces.length}`), 'more inodes');
    }
    assert.ok(pieces.length > 20);
    assert.equal(JSON.parse(Buffer.concat(pieces).toString()).inodes, 1);
    const again = await handle.read(Buffer.alloc(4096), 0, 4096, 0);
    const text = again.buffer.toString('utf8', 0, again.bytesRead);
    assert.equal(JSON.parse(text).inodes, 1 + pieces.length);
    await handle.close();
  });
});
