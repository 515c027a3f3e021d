import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import type { Kv } from '../../engine/kv/kv.ts';
import { MemoryKv } from '../../engine/kv/memory-kv.ts';
import { Tree } from '../../engine/tree/tree.ts';
import type { Extent, Result } from '../../engine/tree/types.ts';
import { TestSealer } from './test-sealer.ts';

export const OWNER = { uid: 1000, gid: 1000 };
export const FILE = 0o100644;
export const DIR = 0o040755;
export const T0 = { seconds: 1, nanoseconds: 0 };

/** A formatted tree whose clock ticks one second with each operation that asks it. */
export interface Fixture {
  tree: Tree;
  kv: Kv;
  sealer: TestSealer;
  /** What the tree reported as damaged. */
  damage: string[];
  /** Seconds of the clock's last answer. */
  now(): number;
  /** Another tree over the same store, which knows nothing yet. */
  reopen(): Tree;
}

export function newFixture(kv: Kv = new MemoryKv()): Fixture {
  const sealer = new TestSealer();
  const damage: string[] = [];
  let seconds = 100;
  const open = (): Tree =>
    new Tree({
      kv,
      sealer,
      clock: () => ({ seconds: ++seconds, nanoseconds: 5 }),
      onDamage: (description) => damage.push(description),
    });
  const tree = open();
  tree.format(OWNER);
  return { tree, kv, sealer, damage, now: () => seconds, reopen: open };
}

export function bytes(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

/** The result of an operation that must succeed. */
export function ok<T extends object>(result: Result<T>): T {
  assert.ok(typeof result !== 'number', `errno ${String(result)}`);
  return result;
}

export function file(tree: Tree, parent: number, name: string): number {
  return ok(tree.create(parent, bytes(name), { mode: FILE, owner: OWNER })).ino;
}

export function directory(tree: Tree, parent: number, name: string): number {
  return ok(tree.mkdir(parent, bytes(name), { mode: DIR, owner: OWNER })).ino;
}

export function listNames(tree: Tree, ino: number): string[] {
  const names: string[] = [];
  const errno = tree.readdir(
    ino,
    0,
    (entry) => names.push(Buffer.from(entry.name).toString('latin1')) > 0,
  );
  assert.equal(errno, 0);
  return names.sort();
}

/** An extent whose chunk is filled with one number. */
export function extent(offset: number, length: number, chunk: number, chunkOffset = 0): Extent {
  const chunkLength = 4_194_304;
  return { offset, length, chunkOffset, chunkLength, id: new Uint32Array(8).fill(chunk) };
}
