import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { checkTree } from '../../engine/check/tree-check.ts';
import type { Kv } from '../../engine/kv/kv.ts';
import { LmdbKv } from '../../engine/kv/lmdb-kv.ts';
import { MemoryKv } from '../../engine/kv/memory-kv.ts';
import { ERRNO } from '../../engine/tree/errno.ts';
import { ROOT_INO, type Tree } from '../../engine/tree/tree.ts';
import { bytes, DIR, extent, FILE, newFixture, OWNER, ok, T0 } from './fixture.ts';
import { cellsOf, newNode, type Node, Oracle, type Outcome, SPAN } from './oracle.ts';

const NAMES = ['a', 'b', 'c', 'd'];

/** One step. Numbers pick among the nodes that exist, orphans included. */
interface Op {
  kind: keyof typeof STEPS;
  node: number;
  other: number;
  name: string;
  newName: string;
  number: number;
  at: number;
  length: number;
}

/** Both file systems, and which inode of the tree is which node of the oracle. */
interface Pair {
  tree: Tree;
  oracle: Oracle;
  nodes: { ino: number; node: Node }[];
}

function outcomeOf(result: number | object): Outcome {
  return typeof result === 'number' && result !== 0 ? result : 'ok';
}

type Step = (pair: Pair, op: Op) => void;

function pick({ nodes }: Pair, index: number): { ino: number; node: Node } {
  return nodes[index % nodes.length];
}

function agree(result: number | object, expected: Outcome): void {
  assert.equal(outcomeOf(result), expected);
}

function adding(
  kind: Node['kind'],
  make: (tree: Tree, parent: number, op: Op) => number | { ino: number },
): Step {
  return (pair, op) => {
    const parent = pick(pair, op.node);
    const node = newNode(kind, kind === 'directory' ? 0o755 : kind === 'link' ? 0o777 : 0o644);
    if (kind === 'link') Object.assign(node, { target: op.newName, size: op.newName.length });
    const result = make(pair.tree, parent.ino, op);
    agree(result, pair.oracle.add(parent.node, op.name, node));
    if (typeof result !== 'number') pair.nodes.push({ ino: result.ino, node });
  };
}

const STEPS = {
  create: adding('file', (tree, parent, { name }) =>
    tree.create(parent, bytes(name), { mode: FILE, owner: OWNER }),
  ),
  mkdir: adding('directory', (tree, parent, { name }) =>
    tree.mkdir(parent, bytes(name), { mode: DIR, owner: OWNER }),
  ),
  symlink: adding('link', (tree, parent, { name, newName }) =>
    tree.symlink(parent, bytes(name), bytes(newName), OWNER),
  ),
  link: (pair: Pair, { node, other, name }: Op): void => {
    const [what, where] = [pick(pair, node), pick(pair, other)];
    const result = pair.tree.link(what.ino, where.ino, bytes(name));
    agree(result, pair.oracle.link(what.node, where.node, name));
  },
  unlink: (pair: Pair, { node, name }: Op): void => {
    const parent = pick(pair, node);
    const doomed = parent.node.names.get(name);
    const result = pair.tree.unlink(parent.ino, bytes(name));
    agree(result, pair.oracle.unlink(parent.node, name));
    if (typeof result !== 'number') assert.equal(result.nlink, doomed?.nlink);
  },
  rmdir: (pair: Pair, { node, name }: Op): void => {
    const parent = pick(pair, node);
    const result = pair.tree.rmdir(parent.ino, bytes(name));
    agree(result, pair.oracle.rmdir(parent.node, name));
  },
  rename: (pair: Pair, { node, other, name, newName, number }: Op): void => {
    const [from, to] = [pick(pair, node), pick(pair, other)];
    const target = to.node.names.get(newName);
    const flags = number % 4;
    const result = pair.tree.rename(from.ino, bytes(name), to.ino, bytes(newName), flags);
    const expected = pair.oracle.rename(from.node, name, to.node, newName, flags);
    agree(result, expected);
    if (typeof result === 'number') return;
    const orphan = pair.nodes.find(({ node: candidate }) => candidate === target);
    assert.equal(result.replaced, target?.nlink === 0 ? orphan?.ino : 0);
  },
  setxattr: (pair: Pair, { node, name, newName, number }: Op): void => {
    const { ino, node: of } = pick(pair, node);
    const flags = number % 3;
    const has = of.xattrs.has(name);
    const expected = flags === 1 && has ? ERRNO.EEXIST : flags === 2 && !has ? ERRNO.ENODATA : 'ok';
    agree(pair.tree.setxattr(ino, bytes(name), bytes(newName), flags), expected);
    if (expected === 'ok') of.xattrs.set(name, newName);
  },
  removexattr: (pair: Pair, { node, name }: Op): void => {
    const { ino, node: of } = pick(pair, node);
    const expected = of.xattrs.delete(name) ? 'ok' : ERRNO.ENODATA;
    agree(pair.tree.removexattr(ino, bytes(name)), expected);
  },
  chmod: (pair: Pair, { node, number }: Op): void => {
    const { ino, node: of } = pick(pair, node);
    of.mode = number & 0o1777;
    ok(pair.tree.setattr(ino, { mode: of.mode }));
  },
  truncate: (pair: Pair, { node, at }: Op): void => {
    const { ino, node: of } = pick(pair, node);
    agree(pair.tree.setattr(ino, { size: at }), pair.oracle.truncate(of, at));
  },
  write: (pair: Pair, { node, at, length, number }: Op): void => {
    const { ino, node: of } = pick(pair, node);
    const end = Math.min(SPAN, at + length);
    const size = of.kind === 'file' ? Math.max(of.size, end) : 1;
    const changes = [{ kind: 'extent', extent: extent(at, end - at, number + 1) } as const];
    const result = pair.tree.applyContent(ino, changes, { size, mtime: T0 });
    agree(result, pair.oracle.write(of, at, end - at, `${number + 1}`, size));
  },
  punch: (pair: Pair, { node, at, length, number }: Op): void => {
    const { ino, node: of } = pick(pair, node);
    const reach = number % 5 === 0 ? Infinity : length;
    const changes = [{ kind: 'discard', offset: at, length: reach } as const];
    const result = pair.tree.applyContent(ino, changes, { size: of.size, mtime: T0 });
    agree(result, pair.oracle.write(of, at, reach, '', of.size));
  },
  reclaim: (pair: Pair, { node }: Op): void => {
    const picked = pick(pair, node);
    if (picked.node.nlink > 0) return;
    assert.ok(pair.tree.reclaim(picked.ino));
    assert.equal(pair.tree.getattr(picked.ino), ERRNO.ENOENT);
    pair.nodes.splice(pair.nodes.indexOf(picked), 1);
  },
} as const satisfies Record<string, Step>;

const TYPES = { file: 0o100000, directory: 0o040000, link: 0o120000 } as const;

/** Everything that can be seen of a node must be the same in both. */
function compare(tree: Tree, { ino, node }: { ino: number; node: Node }): void {
  const { mode, nlink, size } = ok(tree.getattr(ino));
  const expected = { mode: TYPES[node.kind] | node.mode, nlink: node.nlink, size: node.size };
  assert.deepEqual({ mode, nlink, size }, expected);
  const xattrs = Buffer.from(ok(tree.listxattr(ino)))
    .toString('latin1')
    .split('\0');
  assert.deepEqual(xattrs.sort(), ['', ...[...node.xattrs.keys()].sort()]);
  for (const [name, value] of node.xattrs) {
    assert.equal(Buffer.from(ok(tree.getxattr(ino, bytes(name)))).toString('latin1'), value);
  }
  if (node.kind === 'link') {
    assert.equal(Buffer.from(ok(tree.readlink(ino))).toString('latin1'), node.target);
  } else if (node.kind === 'file') {
    const content = ok(tree.region(ino, 0));
    assert.deepEqual('extents' in content && cellsOf(content.extents), node.cells);
  }
}

function compareNames(tree: Tree, pair: Pair, directory: { ino: number; node: Node }): void {
  if (directory.node.kind !== 'directory') return;
  const inoOf = (node: Node): number | undefined =>
    pair.nodes.find((known) => known.node === node)?.ino;
  const expected = [...directory.node.names].map(([name, node]) => [
    name,
    inoOf(node),
    TYPES[node.kind],
  ]);
  const found: unknown[][] = [];
  tree.readdir(directory.ino, 0, (entry) => {
    found.push([Buffer.from(entry.name).toString('latin1'), entry.ino, entry.type]);
    return true;
  });
  assert.deepEqual(found.sort(), expected.sort());
}

function compareAll(tree: Tree, pair: Pair): void {
  for (const known of pair.nodes) {
    compare(tree, known);
    compareNames(tree, pair, known);
  }
  const orphans: number[] = [];
  tree.orphans((ino) => orphans.push(ino) > 0);
  const expected = pair.nodes.filter(({ node }) => node.nlink === 0).map(({ ino }) => ino);
  assert.deepEqual(
    orphans,
    expected.sort((a, b) => a - b),
  );
}

const KINDS = Object.keys(STEPS) as (keyof typeof STEPS)[];

const opOf: fc.Arbitrary<Op> = fc.record({
  kind: fc.constantFrom(...KINDS, 'mkdir', 'rename', 'rename', 'rename'),
  node: fc.nat(12),
  other: fc.nat(12),
  name: fc.constantFrom(...NAMES),
  newName: fc.constantFrom(...NAMES),
  number: fc.oneof(fc.constantFrom(0, 2), fc.nat(1023)),
  at: fc.nat(SPAN - 1),
  length: fc.integer({ min: 1, max: SPAN }),
});

/** Runs the steps in batches of `batch`, each one commit, and compares everything at the end. */
function run(kv: Kv, ops: readonly Op[], batch: number): void {
  const { tree, sealer, damage, reopen } = newFixture(kv);
  const oracle = new Oracle();
  const pair: Pair = { tree, oracle, nodes: [{ ino: ROOT_INO, node: oracle.root }] };
  for (let first = 0; first < ops.length; first += batch) {
    tree.transact(() => {
      for (const op of ops.slice(first, first + batch)) STEPS[op.kind](pair, op);
    });
  }
  compareAll(tree, pair);
  compareAll(reopen(), pair);
  assert.equal(tree.statistics().inodes, pair.nodes.length);
  assert.deepEqual(damage, []);
  assert.deepEqual(checkTree({ kv, sealer }).findings.list, []);
}

const opsOf = fc.array(opOf, { minLength: 5, maxLength: 120, size: 'max' });
const batchOf = fc.constantFrom(1, 3, 40);

test('the tree agrees with the model over memory', () => {
  fc.assert(
    fc.property(opsOf, batchOf, (ops, batch) => run(new MemoryKv(), ops, batch)),
    { numRuns: 300 },
  );
});

test('the tree agrees with the model over LMDB', async () => {
  const root = await mkdtemp(join(tmpdir(), 'millrace-model-'));
  try {
    let runs = 0;
    await fc.assert(
      fc.asyncProperty(opsOf, batchOf, async (ops, batch) => {
        const kv = await LmdbKv.open({ path: join(root, `${runs++}.mdb`) });
        try {
          run(kv, ops, batch);
        } finally {
          await kv.close();
        }
      }),
      { numRuns: 15 },
    );
  } finally {
    await rm(root, { recursive: true });
  }
});
