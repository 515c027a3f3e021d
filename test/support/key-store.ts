/** Stores whose keys are changed by the command line. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { KillPoint } from '../../engine/kill-points.ts';
import type { Rotated } from '../format/keys.ts';
import {
  type CommandResult,
  type Mount,
  runMillrace,
  TEST_KEY,
  temporaryDirectory,
  withMount,
  writeKey,
} from './mount.ts';

/** The keys of three epochs. */
export const EPOCH_KEYS: readonly Buffer[] = [
  TEST_KEY,
  Buffer.from('5e0c77d1b2a94f3886e15d20c9fb7a6431d8e09f4ab25c73166f8d0ae2c4b957', 'hex'),
  Buffer.from('91f3ab6c04d5e7281b9c3fd6705a8e4223e6f7b19d0c58a4bf314d7ce8a06295', 'hex'),
];

const MIB = 1_048_576;

/** Files of every way of storing, by name: what each epoch writes is its own. */
export function contents(epoch: number): Record<string, Buffer> {
  return {
    [`small-${epoch}`]: Buffer.from(`small, of epoch ${epoch}`),
    [`middle-${epoch}`]: Buffer.alloc(70_000, `middle, of epoch ${epoch}; `),
    [`large-${epoch}`]: Buffer.alloc(5 * MIB + 11, `large, of epoch ${epoch}. `),
  };
}

/** Chunks of one epoch's contents: a small file lies in the tree. */
export const CHUNKS_OF_CONTENTS = 3;

export function writeFiles(dir: string, files: Record<string, Buffer>): void {
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(dir, name), bytes);
}

export function assertFiles(dir: string, files: Record<string, Buffer>): void {
  for (const [name, bytes] of Object.entries(files)) {
    assert.ok(readFileSync(join(dir, name)).equals(bytes), name);
  }
}

export function superblockOf(store: string): Rotated & Record<string, unknown> {
  return JSON.parse(readFileSync(join(store, 'millrace.json'), 'utf8'));
}

/** A key file for each epoch. */
export function keyFiles(base: string): [string, string, string] {
  const files = EPOCH_KEYS.map((key, n) => {
    const file = join(base, `key-of-epoch-${n + 1}`);
    writeKey(file, key);
    return file;
  });
  return files as [string, string, string];
}

/** Runs `millrace key WORDS`. */
export function keyCommand(
  words: readonly string[],
  store: string,
  environment: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  return runMillrace(['key', ...words, '--json', '--store', store], environment);
}

/** What a command printed, which must end with 0. */
export async function mustSucceed(
  command: Promise<CommandResult>,
): Promise<Record<string, unknown>> {
  const { status, stdout, stderr } = await command;
  assert.equal(status, 0, stderr + stdout);
  return JSON.parse(stdout) as Record<string, unknown>;
}

/** A command that must end with an error that says so. */
export async function mustFail(command: Promise<CommandResult>, message: RegExp): Promise<void> {
  const { status, stdout, stderr } = await command;
  assert.ok(status === 1 || status === 2, `status ${status}: ${stdout}`);
  assert.match(stderr, message);
}

export async function assertClean(store: string, keyFile: string): Promise<void> {
  const words = ['fsck', '--deep', '--json', '--store', store, '--key-file', keyFile];
  const report = await mustSucceed(runMillrace(words));
  assert.equal(report['clean'], true, JSON.stringify(report['findings']));
}

export async function unmount(mount: Mount): Promise<void> {
  assert.equal(await mount.umount(), 0, mount.stderr());
}

/** A mount of this store, with the test key, must be refused with such a sentence. */
export async function assertRefused(store: string, message: RegExp): Promise<void> {
  const mounted = withMount({ storeDir: store }, () => Promise.reject(new Error('it has mounted')));
  await assert.rejects(mounted, message);
}

/** A store of the first epoch that was written and unmounted, for one test to spoil. */
export async function withStore(
  body: (place: { store: string; keys: [string, string, string]; base: string }) => Promise<void>,
): Promise<void> {
  const base = temporaryDirectory('keys');
  const store = join(base, 'store');
  try {
    mkdirSync(store);
    await withMount({ storeDir: store }, async (mount) => {
      writeFiles(mount.dir, contents(1));
      await unmount(mount);
    });
    await body({ store, keys: keyFiles(base), base });
  } finally {
    rmSync(base, { recursive: true });
  }
}

/** A point, and the passage of it that kills. */
export type Kill = readonly [KillPoint, number];

/** Kills a command on a copy of a store at each of some points, and has what is left looked at. */
export async function killAt(
  places: { store: string; base: string },
  kills: readonly Kill[],
  command: (store: string, environment: Record<string, string>) => Promise<CommandResult>,
  after: (store: string, point: string) => Promise<void>,
): Promise<void> {
  for (const [point, passage] of kills) {
    const copy = join(places.base, `killed-at-${point}-${passage}`);
    cpSync(places.store, copy, { recursive: true });
    const killed = await command(copy, { MILLRACE_TEST_KILL: `${point}:${passage}` });
    assert.equal(killed.status, -1, `${point} was not passed: ${killed.stdout}${killed.stderr}`);
    await after(copy, `${point}:${passage}`);
    rmSync(copy, { recursive: true });
  }
}
