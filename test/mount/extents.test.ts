/** Regions with more extents than they come to have any more, as earlier versions have left them: read, written, joined. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { constants, closeSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { REGION_BYTES } from '../../engine/layout.ts';
import { KeyMaker } from '../../engine/tree/keys.ts';
import { RecordCodec } from '../../engine/tree/records.ts';
import { ROOT_INO, Tree } from '../../engine/tree/tree.ts';
import type { Extent } from '../../engine/tree/types.ts';
import { treeFileOf, withUnmountedStore } from '../../engine/unmounted-store.ts';
import { withTree } from '../../workers/upkeep/tree-file.ts';
import { mountTest } from '../support/family.ts';
import { type Mount, runMillrace, withMount } from '../support/mount.ts';
import { Syscalls } from '../support/syscalls.ts';

/** More than that no region may have once it was written to. */
const EXTENTS_BOUND = 1100;
const NAME = 'log';

/** What a body makes of the tree of a store that is not mounted. */
async function inTree<T>(
  { storeDir, keyFile }: Mount,
  body: (tree: Tree, put: (ino: number, region: number, extents: Extent[]) => void) => T,
): Promise<T> {
  return withUnmountedStore({ store: storeDir, keyFile }, async ({ engine }) => {
    const outcome = await withTree(
      { treeFile: treeFileOf(storeDir), engine },
      async (kv, sealer) => ({
        value: body(new Tree({ kv, sealer }), (ino, region, extents) => {
          const key = new KeyMaker().region(ino, region);
          const record = new RecordCodec().encodeRegion({ extents }, region);
          kv.transact((transaction) => transaction.put(key, sealer.seal(key, record)));
        }),
      }),
    );
    assert.ok('value' in outcome, JSON.stringify(outcome));
    return outcome.value;
  });
}

function extentsIn(tree: Tree, region: number): { ino: number; extents: Extent[] } {
  const found = tree.lookup(ROOT_INO, Buffer.from(NAME));
  assert.ok(typeof found !== 'number', `errno ${String(found)}`);
  const content = tree.region(found.ino, region);
  assert.ok(typeof content !== 'number' && 'extents' in content);
  return { ino: found.ino, extents: content.extents };
}

/** Makes a file whose second region lies in so many extents, of so many bytes each; its content. The mount has ended. */
async function plant(mount: Mount, count: number, bytes: number): Promise<Buffer> {
  const content = randomBytes(REGION_BYTES + count * bytes);
  await writeFile(join(mount.dir, NAME), content);
  assert.equal(await mount.umount(), 0, mount.stderr());
  await inTree(mount, (tree, put) => {
    const { ino, extents } = extentsIn(tree, 1);
    assert.equal(extents.length, 1);
    const [whole] = extents as [Extent];
    const parts: Extent[] = [];
    // Back to front, so that no two of them continue each other.
    for (let i = 0; i < count; i++) {
      const chunkOffset = (count - 1 - i) * bytes;
      parts.push({ ...whole, offset: REGION_BYTES + i * bytes, length: bytes, chunkOffset });
    }
    put(ino, 1, parts);
  });
  const planted = Buffer.from(content);
  for (let i = 0; i < count; i++) {
    const from = REGION_BYTES + (count - 1 - i) * bytes;
    content.copy(planted, REGION_BYTES + i * bytes, from, from + bytes);
  }
  return planted;
}

function append(mount: Mount, text: string): void {
  const file = openSync(join(mount.dir, NAME), constants.O_WRONLY | constants.O_APPEND);
  writeSync(file, text);
  fsyncSync(file);
  closeSync(file);
}

function assertContent(mount: Mount, content: Buffer, what: string): void {
  assert.ok(readFileSync(join(mount.dir, NAME)).equals(content), what);
}

async function assertSound(mount: Mount): Promise<void> {
  const { storeDir, keyFile } = mount;
  const words = ['fsck', '--deep', '--json', '--store', storeDir, '--key-file', keyFile];
  const { status, stdout, stderr } = await runMillrace(words);
  assert.equal(status, 0, `${stdout} ${stderr}`);
}

for (const [count, bytes] of [
  [6000, 100],
  [21_800, 48],
] as const) {
  mountTest(`a file with ${count} extents in a region is read and appended to`, async () => {
    await withMount({}, async (mount) => {
      const planted = await plant(mount, count, bytes);
      await mount.remount();
      assertContent(mount, planted, 'as it was');
      append(mount, 'behind it\n');
      const content = Buffer.concat([planted, Buffer.from('behind it\n')]);
      assertContent(mount, content, 'after an append');
      assert.equal(await mount.umount(), 0, mount.stderr());
      const { extents } = await inTree(mount, (tree) => extentsIn(tree, 1));
      assert.ok(extents.length <= EXTENTS_BOUND, `${extents.length} extents`);
      await assertSound(mount);
      await mount.remount();
      assertContent(mount, content, 'in the next mount');
      assert.equal(await mount.umount(), 0, mount.stderr());
    });
  });

  mountTest(`a file with ${count} extents in a region is appended to unread`, async () => {
    await withMount({}, async (mount) => {
      const planted = await plant(mount, count, bytes);
      await mount.remount();
      append(mount, 'behind it\n');
      assertContent(mount, Buffer.concat([planted, Buffer.from('behind it\n')]), 'all of it');
      assert.equal(await mount.umount(), 0, mount.stderr());
    });
  });
}

mountTest(
  'many extents take no further holes or copies, and do after a write',
  async () => {
    await withMount({}, async (mount) => {
      const content = await plant(mount, 8300, 100);
      await mount.remount();
      const path = join(mount.dir, NAME);
      const syscalls = new Syscalls();
      try {
        await syscalls.ok('open', 'f', path, ['O_RDWR']);
        const punch = ['fallocate', 'f', 3, REGION_BYTES + 1050, 20] as const;
        const refused = await syscalls.call(...punch);
        assert.equal('errno' in refused && refused.errno, 'ENOTSUP', JSON.stringify(refused));
        await syscalls.ok('open', 'to', join(mount.dir, 'copy'), ['O_RDWR', 'O_CREAT']);
        const length = content.length - REGION_BYTES;
        // The kernel copies through memory what may not be shared.
        await syscalls.ok('copy_file_range', 'f', 'to', length, REGION_BYTES, 0);
        const copied = readFileSync(join(mount.dir, 'copy'));
        assert.ok(copied.equals(content.subarray(REGION_BYTES)), 'the copy');
        const file = await open(path, 'r+');
        await file.write(Buffer.alloc(20), 0, 20, REGION_BYTES + 1050);
        await file.datasync();
        await file.close();
        content.fill(0, REGION_BYTES + 1050, REGION_BYTES + 1070);
        await syscalls.ok('fallocate', 'f', 3, REGION_BYTES + 5000, 20);
        content.fill(0, REGION_BYTES + 5000, REGION_BYTES + 5020);
      } finally {
        await syscalls.close();
      }
      assertContent(mount, content, 'with its hole');
      assert.equal(await mount.umount(), 0, mount.stderr());
      await assertSound(mount);
    });
  },
  { needs: 'holes' },
);
