/** A store that a real mount wrote, read back with the second codec and nothing of the engine. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { mountTest } from '../support/family.ts';
import { TEST_KEY, withMount } from '../support/mount.ts';
import { type Content, Syscalls } from '../support/syscalls.ts';
import { Keys } from './keys.ts';
import { type Entry, openChunks, openTree } from './store-reader.ts';

const REGION_BYTES = 4 * 1_048_576;
const EXTENT_BYTES = 48;
const KINDS = 'idxaons';
const keys = new Keys(TEST_KEY);

/** Names in the root, and what is written there; together every way in which content is stored. */
const FILES: Readonly<Record<string, Content & { length: number }>> = {
  inline: { repeat: 'inline, ', length: 100 },
  segment: { repeat: 'one segment and a byte; ', length: 16_385 },
  block: { repeat: 'from here on at a block of a disk; ', length: 70_001 },
  regions: { repeat: 'more than two regions of a file. ', length: 2 * REGION_BYTES + 777 },
};
const NAMESPACE = 'another namespace';
const FLAGS = ['--namespace', 'default', '--namespace', NAMESPACE];
/** Bytes of holes before the last four bytes of the sparse file. */
const HOLE_BYTES = REGION_BYTES + 500_000;

/** A repeated text, to a length. */
function repeated(content: Content): Buffer {
  assert.ok(typeof content === 'object' && 'repeat' in content);
  return Buffer.alloc(content.length, content.repeat);
}

async function plant(calls: Syscalls, dir: string): Promise<void> {
  for (const [name, content] of Object.entries(FILES)) {
    await calls.ok('open', name, `${dir}/${name}`, ['O_RDWR', 'O_CREAT']);
    await calls.ok('write', name, content);
    await calls.ok('close', name);
  }
  await calls.ok('open', 'sparse', `${dir}/sparse`, ['O_RDWR', 'O_CREAT']);
  await calls.ok('pwrite', 'sparse', 'tail', HOLE_BYTES);
  await calls.ok('close', 'sparse');
  await calls.ok('mkdir', `${dir}/folder`);
  await calls.ok('symlink', 'regions', `${dir}/folder/link`);
  await calls.ok('setxattr', `${dir}/inline`, 'user.note', 'an attribute');
}

/** The bytes of a file that are stored, with zeros where nothing is. */
function contentOf(ino: bigint, size: number, tree: Entry[], chunks: Map<string, Buffer>): Buffer {
  const content = Buffer.alloc(size);
  for (const { kind, key, record } of tree) {
    if (kind !== 'x' || key.readBigUInt64BE(1) !== ino) continue;
    const start = key.readUInt32BE(9) * REGION_BYTES;
    const bytes = Buffer.from(record[2] as Uint8Array);
    if (record[1] === 0) {
      bytes.copy(content, start);
      continue;
    }
    assert.equal(bytes.length % EXTENT_BYTES, 0);
    for (let at = 0; at < bytes.length; at += EXTENT_BYTES) {
      const [offset, length, from, chunkBytes] = [0, 4, 8, 12].map((n) =>
        bytes.readUInt32LE(at + n),
      );
      const chunk = chunks.get(bytes.toString('hex', at + 16, at + 48));
      assert.equal(chunk?.length, chunkBytes);
      chunk?.copy(content, start + offset!, from, from! + length!);
    }
  }
  return content;
}

/** The one namespace beside the default one: its name, and that what it holds says so. */
function assertNamespace(tree: Entry[]): void {
  const [found, ...others] = tree.filter(({ kind }) => kind === 'n');
  assert.ok(found !== undefined && others.length === 0);
  const [, name, root, type] = found.record;
  assert.equal(Buffer.from(name as Uint8Array).toString(), NAMESPACE);
  assert.equal(type, 0o040000);
  assert.ok(keys.nameHash(0n, Buffer.from(NAMESPACE)).equals(found.key.subarray(1)));
  const inodes = tree.filter(({ kind }) => kind === 'i');
  const inside = inodes.filter(({ record }) => record[18] === root);
  assert.deepEqual(
    inside.map(({ record }) => record[15]),
    [root, root],
  );
  const roots = new Set([undefined, 1, root]);
  assert.ok(inodes.every(({ record }) => roots.has(record[18] as number | undefined)));
}

/** Each inode counts its extended attributes. */
function assertAttributes(tree: Entry[]): void {
  for (const { kind, key, record } of tree) {
    if (kind !== 'i') continue;
    const isOwn = (other: Entry): boolean =>
      other.kind === 'a' && other.key.subarray(1, 9).equals(key.subarray(1));
    assert.equal(record[19] ?? 0, tree.filter(isOwn).length);
  }
}

function assertTree(tree: Entry[], chunks: Map<string, Buffer>): void {
  const rootNames = new Map<string, bigint>();
  const sizes = new Map<bigint, number>();
  for (const { kind, key, record } of tree) {
    assert.ok(KINDS.includes(kind), `a key of kind ${kind}`);
    if (kind === 'i') sizes.set(key.readBigUInt64BE(1), Number(record[6]));
    if (kind !== 'd' && kind !== 'a') continue;
    const [owner, name] = [key.readBigUInt64BE(1), Buffer.from(record[1] as Uint8Array)];
    assert.ok(keys.nameHash(owner, name).equals(key.subarray(9)), `the hash of ${name}`);
    if (kind === 'd' && owner === 1n) rootNames.set(name.toString(), BigInt(record[2] as number));
  }
  const expected = new Map(Object.entries(FILES).map(([name, each]) => [name, repeated(each)]));
  expected.set('sparse', Buffer.concat([Buffer.alloc(HOLE_BYTES), Buffer.from('tail')]));
  assert.deepEqual([...rootNames.keys()].sort(), [...expected.keys(), 'folder'].sort());
  for (const [name, bytes] of expected) {
    const ino = rootNames.get(name)!;
    assert.equal(sizes.get(ino), bytes.length, name);
    assert.ok(contentOf(ino, bytes.length, tree, chunks).equals(bytes), `the content of ${name}`);
  }
}

mountTest('every object and value of a mounted store opens as the format says', () =>
  withMount({ flags: FLAGS }, async (mount) => {
    const calls = new Syscalls({ onStuck: () => mount.abort() });
    try {
      await plant(calls, `${mount.dir}/default`);
      await calls.ok('mkdir', `${mount.dir}/${NAMESPACE}/folder`);
    } finally {
      await calls.close();
    }
    assert.equal(await mount.umount(), 0, mount.stderr());
    const superblock = JSON.parse(readFileSync(join(mount.storeDir, 'millrace.json'), 'utf8'));
    assert.equal(superblock.keyCheck, keys.check.toString('hex'));
    const chunks = openChunks(keys, mount.storeDir);
    assert.ok(chunks.size > 3, `only ${chunks.size} objects`);
    const tree = await openTree(keys, mount.storeDir);
    assertTree(tree, chunks);
    assertNamespace(tree);
    assertAttributes(tree);
    for (const kind of 'idxans') {
      assert.ok(
        tree.some((entry) => entry.kind === kind),
        `no value of kind ${kind}`,
      );
    }
    assert.deepEqual(readdirSync(join(mount.storeDir, 'tmp')), []);
  }),
);
