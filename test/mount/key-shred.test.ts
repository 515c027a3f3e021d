/** Keys that are destroyed: nothing opens afterwards, whatever stopped it on the way. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Keys } from '../format/keys.ts';
import { mountTest } from '../support/family.ts';
import {
  assertClean,
  assertRefused,
  CHUNKS_OF_CONTENTS,
  EPOCH_KEYS,
  keyCommand,
  killAt,
  mustFail,
  mustSucceed,
  superblockOf,
  withStore,
} from '../support/key-store.ts';
import { type CommandResult, millracePath, runMillrace, writeKey } from '../support/mount.ts';
import { type Secret, searchDirectory, spellings } from '../support/secret-search.ts';

/** All keys of a tenant, and what comes from the first of them. */
function secrets(): Secret[] {
  const derived = Object.entries(new Keys(EPOCH_KEYS[0]!).secrets());
  return [
    ...EPOCH_KEYS.flatMap((key, n) => spellings(`key of epoch ${n + 1}`, key)),
    ...derived.flatMap(([name, key]) => spellings(name, key)),
  ];
}

const NOTE_BYTES = 1_200_000_000;
const SAID = /was shredded on .*: nothing can open it/;

/** Neither key nor check nor ring is there. */
function assertBuried(store: string): void {
  const names = ['created', 'format', 'magic', 'shredded', 'uuid', 'version'];
  assert.deepEqual(Object.keys(superblockOf(store)).sort(), names);
  assert.deepEqual(searchDirectory(store, secrets()).found, []);
}

/** As above, and every command says so, with a copy of a key too. */
async function assertShredded(store: string): Promise<void> {
  assertBuried(store);
  await assertRefused(store, SAID);
  const copy = `${store}-copy-of-a-key`;
  writeKey(copy, EPOCH_KEYS[0]!);
  for (const command of [['fsck'], ['gc'], ['namespaces'], ['key', 'rotate', '--rewrite']]) {
    await mustFail(runMillrace([...command, '--store', store, '--key-file', copy]), SAID);
  }
  rmSync(copy);
  await mustFail(keyCommand(['shred', '--yes', '--key-file', copy], store), SAID);
}

mountTest('a key that is shredded is gone, and it is proven that it was the only one', () =>
  withStore(async ({ store, keys: [key], base }) => {
    const second = join(base, 'second-name');
    linkSync(key, second);
    const words = ['shred', '--yes', '--deep', '--key-file', key];
    const report = await mustSucceed(keyCommand(words, store));
    assert.deepEqual([report['proven'], report['opening']], [true, 'KEY_SHREDDED']);
    const before = report['before'] as Record<string, unknown>;
    const chunks = before['chunks'] as { epochs: Record<string, number>[]; unopened: number };
    assert.deepEqual([chunks.unopened, before['unopenedValues']], [0, 0]);
    assert.equal(chunks.epochs.length, 1);
    assert.equal(chunks.epochs[0]!['epoch'], 1);
    assert.equal(chunks.epochs[0]!['chunks'], CHUNKS_OF_CONTENTS);
    const search = report['search'] as { bytes: number; keys: number; found: string[] };
    assert.ok(search.bytes > 5_000_000 && search.keys > 5, JSON.stringify(search));
    assert.deepEqual(search.found, []);
    assert.equal(existsSync(key), false);
    // Overwritten under whatever name.
    const left = readFileSync(second);
    assert.ok(left.length > 0 && left.every((byte) => byte === 0));
    assert.ok((report['limits'] as string[]).some((limit) => limit.includes('2 names')));
    await assertShredded(store);
    // No mount takes it for a store whose key was mislaid, or makes it a new one.
    const empty = join(base, 'empty');
    mkdirSync(empty);
    await mustFail(runMillrace(['mount', empty, '--store', store, '--key-file', key]), SAID);
    assert.equal(existsSync(key), false);
    const doctor = await runMillrace(['doctor', '--json', '--store', store, '--key-file', key]);
    assert.match(doctor.stdout, SAID);
  }),
);

mountTest('a rotated store is shredded with the keys that open what is in it', () =>
  withStore(async ({ store, keys: [first, second, third] }) => {
    await mustSucceed(keyCommand(['rotate', '--key-file', first, '--new-key-file', second], store));
    const shred = ['shred', '--yes', '--key-file', second];
    await mustFail(keyCommand(shred, store), /epoch 1 opens with the key of that time/);
    const wrong = [...shred, '--old-key-file', third];
    await mustFail(keyCommand(wrong, store), /no key of an earlier epoch/);
    await assertClean(store, second);
    const report = await mustSucceed(keyCommand([...shred, '--old-key-file', first], store));
    assert.equal(report['proven'], true);
    assert.deepEqual(report['destroyed'], [first, second]);
    const left = [first, second, third].filter((file) => existsSync(file));
    assert.deepEqual(left, [third]);
    assertBuried(store);
  }),
);

mountTest(
  'a key that may open anything is asked for, also where nothing in the tree is sealed under it',
  () =>
    withStore(async ({ store, keys: [first, second] }) => {
      await mustSucceed(
        keyCommand(['rotate', '--key-file', first, '--new-key-file', second], store),
      );
      // What is left are chunks of the first epoch, and what free pages hold.
      rmSync(join(store, 'tree'), { recursive: true });
      const shred = ['shred', '--yes', '--key-file', second];
      await mustFail(keyCommand(shred, store), /epoch 1 opens with the key of that time/);
      assert.ok(existsSync(second));
      const report = await mustSucceed(keyCommand([...shred, '--old-key-file', first], store));
      assert.equal(report['proven'], true);
      assertBuried(store);
    }),
);

mountTest(
  'after a rewrite the current key is enough, and before it can be vouched for others',
  () =>
    withStore(async ({ store, keys: [first, second], base }) => {
      const rotation = ['rotate', '--key-file', first, '--new-key-file', second];
      await killAt(
        { store, base },
        [['superblock-saved', 1]],
        (copy, environment) => keyCommand(rotation, copy, environment),
        async (copy) => {
          const vouched = ['shred', '--yes', '--old-keys-gone', '--key-file', second];
          assert.equal((await mustSucceed(keyCommand(vouched, copy)))['proven'], true);
          assertBuried(copy);
          writeKey(second, EPOCH_KEYS[1]!);
        },
      );
      await mustSucceed(keyCommand([...rotation, '--rewrite'], store));
      const shred = ['shred', '--yes', '--key-file', second];
      assert.equal((await mustSucceed(keyCommand(shred, store)))['proven'], true);
      assertBuried(store);
    }),
);

/** Any command that opens a store. */
function openWith(keyFile: string, store: string): Promise<CommandResult> {
  return runMillrace(['namespaces', '--store', store, '--key-file', keyFile]);
}

mountTest('a key that is left in the store is found, and then nothing is proven', () =>
  withStore(async ({ store, keys: [key] }) => {
    copyFileSync(key, join(store, 'tree', 'a-backup'));
    // At the end of so much that it is asked meanwhile how far the search is.
    const note = openSync(join(store, 'note'), 'w');
    writeSync(note, new Keys(EPOCH_KEYS[0]!).secrets()['chunk']!, 0, 32, NOTE_BYTES);
    closeSync(note);
    const { status, stdout } = await keyCommand(['shred', '--yes', '--key-file', key], store);
    const report = JSON.parse(stdout);
    assert.deepEqual([status, report.proven, report.foreign], [1, false, ['note']]);
    assert.deepEqual(report.search.found, [
      'chunk key of epoch 1: note',
      'the key itself: tree/a-backup',
    ]);
  }),
);

mountTest(
  'shredding that is killed at any step goes on, and the store opens at no time after',
  () =>
    withStore(async ({ store, keys: [first, second, third], base }) => {
      await mustSucceed(
        keyCommand(['rotate', '--key-file', first, '--new-key-file', second], store),
      );
      const words = ['shred', '--yes', '--key-file', second, '--old-key-file', first];
      await killAt(
        { store, base },
        [
          ['superblock-rewritten', 1],
          ['superblock-replaced', 1],
          ['superblock-saved', 1],
          ['shred-begun', 1],
          ['shred-key-overwritten', 1],
          ['shred-key-overwritten', 2],
          ['shred-key-gone', 1],
          ['superblock-rewritten', 2],
          ['superblock-replaced', 2],
          ['superblock-saved', 2],
        ],
        (copy, environment) => keyCommand(words, copy, environment),
        async (copy, point) => {
          const isBuried = 'shredded' in superblockOf(copy);
          if (point === 'superblock-rewritten:1') await assertClean(copy, second);
          else await mustFail(openWith(second, copy), /shredded on|being destroyed since/);
          if (point === 'shred-key-gone:1') {
            const slip = ['shred', '--yes', '--key-file', second, '--old-key-file', third];
            await mustFail(keyCommand(slip, copy), /no key of an earlier epoch/);
            assert.ok(existsSync(third));
          }
          if (!isBuried) {
            const isGone = !existsSync(second) || readFileSync(second).every((byte) => byte === 0);
            const { status, stdout, stderr } = await keyCommand(words, copy);
            assert.equal(status, isGone ? 1 : 0, `${point}: ${stderr}`);
            // What is destroyed cannot be searched for.
            assert.equal(JSON.parse(stdout).proven, !isGone, point);
          }
          assert.deepEqual([existsSync(first), existsSync(second)], [false, false], point);
          assertBuried(copy);
          writeKey(first, EPOCH_KEYS[0]!);
          writeKey(second, EPOCH_KEYS[1]!);
        },
      );
    }),
);

/** Answers what a command asks on a terminal, and prints what it wrote. */
const TERMINAL = `
import os, pty, sys
answer, command = sys.argv[1], sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    os.execv(command[0], command)
seen = b""
while True:
    try:
        got = os.read(terminal, 4096)
    except OSError:
        break
    if not got:
        break
    if b"uuid to" not in seen and b"uuid to" in seen + got:
        os.write(terminal, answer.encode() + b"\\n")
    seen += got
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.stdout.buffer.write(seen)
sys.exit(status)
`;

mountTest('nothing is destroyed without a word: --yes, or the uuid on a terminal', () =>
  withStore(async ({ store, keys: [key] }) => {
    const words = ['key', 'shred', '--store', store, '--key-file', key];
    const { status, stderr } = await runMillrace(words);
    assert.deepEqual([status, /nothing is destroyed/.test(stderr)], [2, true]);
    const onTerminal = (answer: string): Promise<{ stdout: string }> =>
      promisify(execFile)('python3', ['-c', TERMINAL, answer, millracePath(), ...words], {
        timeout: 30_000,
      });
    await assert.rejects(onTerminal('yes'), (error: { code: number; stdout: string }) => {
      return error.code === 1 && error.stdout.includes('nothing is destroyed');
    });
    await assertClean(store, key);
    const { stdout } = await onTerminal(superblockOf(store).uuid);
    assert.match(stdout, /proven/);
    assert.equal(existsSync(key), false);
    assertBuried(store);
  }),
);

mountTest('key show tells the epochs, and counts what is sealed in each', () =>
  withStore(async ({ store, keys: [first, second] }) => {
    const shown = await mustSucceed(keyCommand(['show'], store));
    assert.deepEqual([shown['epoch'], shown['rotations']], [1, []]);
    await mustSucceed(keyCommand(['rotate', '--key-file', first, '--new-key-file', second], store));
    const counted = await mustSucceed(keyCommand(['show', '--count', '--key-file', second], store));
    assert.deepEqual([counted['epoch'], counted['epochs']], [2, [2, 1]]);
    const chunks = counted['chunks'] as { epochs: { epoch: number; chunks: number }[] };
    assert.deepEqual(
      chunks.epochs.map(({ epoch, chunks }) => [epoch, chunks]),
      [[1, CHUNKS_OF_CONTENTS]],
    );
    const [rotation] = counted['rotations'] as Record<string, unknown>[];
    assert.equal(rotation!['keyCheck'], new Keys(EPOCH_KEYS[0]!).check.toString('hex'));
    assert.equal(counted['keyCheck'], superblockOf(store)['keyCheck']);
  }),
);
