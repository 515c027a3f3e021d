import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import fc from 'fast-check';
import { REGION_BYTES } from '../../engine/layout.ts';
import { ERRNO } from '../../engine/tree/errno.ts';
import { SetSum } from '../../engine/tree/set-sum.ts';
import { ROOT_INO, type Tree } from '../../engine/tree/tree.ts';
import type { ContentChange } from '../../engine/tree/types.ts';
import { bytes, directory, file, newFixture, OWNER, ok } from './fixture.ts';
import { answerOf, fill, freshHash, TestDigest } from './test-digest.ts';

const MIB = 2 ** 20;

/** A node as a tree may hold it, described. */
interface Plan {
  kind: 'file' | 'directory' | 'link' | 'fifo';
  mode: number;
  text: string;
  xattrs: Record<string, string>;
  children: Record<string, Plan>;
}

const NAMES = ['a', 'b', 'c', 'd', 'e'];

/** Plans of so many levels at most. */
function plansOf(levels: number): fc.Arbitrary<Plan> {
  const kinds = ['file', 'file', 'link', 'fifo', 'directory', 'directory'] as const;
  const names = fc.constantFrom(...NAMES);
  return fc.record({
    kind: fc.constantFrom(...kinds.slice(0, levels > 0 ? kinds.length : 4)),
    mode: fc.nat(0o7777),
    text: fc.string({ unit: fc.constantFrom('x', 'y', '\0'), minLength: 1, maxLength: 12 }),
    xattrs: fc.dictionary(fc.constantFrom('user.a', 'user.b'), fc.string({ maxLength: 3 })),
    children:
      levels > 0 ? fc.dictionary(names, plansOf(levels - 1), { maxKeys: 3 }) : fc.constant({}),
  });
}

const rootOf: fc.Arbitrary<Plan> = plansOf(2).map((plan) => ({ ...plan, kind: 'directory' }));

/** How a tree is made: which numbers it draws decides on order, cuts and detours. */
interface Manner {
  next(below: number): number;
}

function mannerOf(numbers: readonly number[]): Manner {
  let at = 0;
  return { next: (below) => (numbers.length === 0 ? 0 : numbers[at++ % numbers.length] % below) };
}

/** Text in pieces, inline or in chunks of which only a part may be meant. */
function cuts(digest: TestDigest, text: Buffer, manner: Manner): ContentChange[] {
  if (manner.next(3) === 0) return [{ kind: 'inline', bytes: text }];
  const changes: ContentChange[] = [];
  let at = 0;
  while (at < text.length) {
    const length = 1 + manner.next(text.length - at);
    const piece = text.subarray(at, at + length);
    const isHole = piece.every((byte) => byte === 0) && manner.next(2) === 0;
    const before = Buffer.alloc(manner.next(3), 'w');
    const chunk = Buffer.concat([before, piece, Buffer.alloc(manner.next(3), 'z')]);
    if (!isHole) changes.push(digest.extent(at, chunk, before.length, length));
    at += length;
  }
  return changes;
}

class Builder {
  readonly #tree: Tree;
  readonly #digest: TestDigest;
  readonly #manner: Manner;

  constructor(tree: Tree, digest: TestDigest, manner: Manner) {
    this.#tree = tree;
    this.#digest = digest;
    this.#manner = manner;
  }

  /** Makes what a directory holds, in an order of its own. */
  fill(ino: number, plan: Plan): void {
    this.#describe(ino, plan);
    const rest = Object.entries(plan.children);
    while (rest.length > 0) {
      const [[name, child]] = rest.splice(this.#manner.next(rest.length), 1);
      if (this.#manner.next(4) === 0) this.#detour(ino);
      this.#make(ino, name, child);
    }
  }

  #detour(parent: number): void {
    file(this.#tree, parent, 'detour');
    ok(this.#tree.unlink(parent, bytes('detour')));
  }

  #make(parent: number, wanted: string, plan: Plan): void {
    const tree = this.#tree;
    const moves = this.#manner.next(3) === 0;
    const name = bytes(moves ? 'moving' : wanted);
    const owner = { uid: this.#manner.next(5), gid: 7 };
    if (plan.kind === 'directory') {
      const { ino } = ok(tree.mkdir(parent, name, { mode: 0o755, owner }));
      this.fill(ino, plan);
    } else if (plan.kind === 'link') {
      ok(tree.symlink(parent, name, bytes(plan.text), owner));
    } else {
      const mode = plan.kind === 'file' ? 0o100600 : 0o010600;
      const { ino } = ok(tree.create(parent, name, { mode, owner }));
      if (plan.kind === 'file') {
        const text = Buffer.from(plan.text);
        fill(tree, ino, text.length, cuts(this.#digest, text, this.#manner));
      }
      this.#describe(ino, plan);
    }
    if (moves) ok(tree.rename(parent, name, parent, bytes(wanted), 0));
  }

  #describe(ino: number, { mode, xattrs }: Plan): void {
    ok(this.#tree.setattr(ino, { mode }));
    for (const [name, value] of Object.entries(xattrs)) {
      assert.equal(this.#tree.setxattr(ino, bytes(name), bytes(value), 0), 0);
    }
  }
}

function build(digest: TestDigest, plan: Plan, numbers: readonly number[]): Tree {
  const { tree } = newFixture();
  new Builder(tree, digest, mannerOf(numbers)).fill(ROOT_INO, plan);
  return tree;
}

const numbersOf = fc.array(fc.nat(1000), { minLength: 1, maxLength: 60, size: 'max' });

test('equal trees have equal hashes, however they were made', async () => {
  await fc.assert(
    fc.asyncProperty(rootOf, numbersOf, numbersOf, async (plan, first, second) => {
      const digest = new TestDigest();
      const one = await freshHash(build(digest, plan, first), digest);
      assert.match(String(one), /^[0-9a-f]{64}$/);
      assert.equal(await freshHash(build(digest, plan, second), digest), one);
    }),
    { numRuns: 150 },
  );
});

/** Every node of a plan with the one above it. */
function nodesOf(plan: Plan): { plan: Plan; above: Plan | undefined; name: string }[] {
  const found: ReturnType<typeof nodesOf> = [{ plan, above: undefined, name: '' }];
  const visit = (above: Plan): void => {
    if (above.kind !== 'directory') return;
    for (const [name, child] of Object.entries(above.children)) {
      found.push({ plan: child, above, name });
      visit(child);
    }
  };
  visit(plan);
  return found;
}

const isEither =
  (...kinds: Plan['kind'][]) =>
  ({ plan }: { plan: Plan }): boolean =>
    kinds.includes(plan.kind);
const hasAttributes = isEither('file', 'directory', 'fifo');
const hasName = ({ above }: { above: Plan | undefined }): boolean => above !== undefined;

type Node = ReturnType<typeof nodesOf>[number];

/** Single changes, each with the nodes that it can be made to. */
const CHANGES: readonly [can: (node: Node) => boolean, change: (node: Node) => object][] = [
  [hasAttributes, ({ plan }) => Object.assign(plan, { mode: plan.mode ^ 0o020 })],
  [hasAttributes, ({ plan }) => Object.assign(plan.xattrs, { 'user.c': '' })],
  [
    hasAttributes,
    ({ plan: { xattrs } }) => Object.assign(xattrs, { 'user.a': `${xattrs['user.a']}+` }),
  ],
  [isEither('file', 'link'), ({ plan }) => Object.assign(plan, { text: `${plan.text}x` })],
  [isEither('file'), ({ plan }) => Object.assign(plan, { text: `${plan.text}\0` })],
  [isEither('file', 'link'), ({ plan }) => Object.assign(plan, { text: `!${plan.text.slice(1)}` })],
  [isEither('directory'), ({ plan }) => Object.assign(plan.children, { new: EMPTY })],
  [
    hasName,
    ({ plan, above, name }) => {
      delete above?.children[name];
      return Object.assign(above?.children ?? {}, { renamed: plan });
    },
  ],
  [hasName, ({ above, name }) => ({ deleted: delete above?.children[name] })],
  [isEither('fifo'), ({ plan }) => Object.assign(plan, { kind: 'file' })],
];

const EMPTY: Plan = { kind: 'file', mode: 0o600, text: 'x', xattrs: {}, children: {} };

test('any single change alters the hash', async () => {
  await fc.assert(
    fc.asyncProperty(rootOf, numbersOf, fc.nat(), fc.nat(), async (plan, numbers, what, where) => {
      const digest = new TestDigest();
      const before = await freshHash(build(digest, plan, numbers), digest);
      const [can, change] = CHANGES[what % CHANGES.length];
      const changed = structuredClone(plan);
      const candidates = nodesOf(changed).filter(can);
      fc.pre(candidates.length > 0);
      change(candidates[where % candidates.length]);
      assert.notEqual(await freshHash(build(digest, changed, numbers), digest), before);
    }),
    { numRuns: 250 },
  );
});

// ---- what is kept between hashes ----

interface Step {
  kind: keyof typeof STEPS;
  node: number;
  other: number;
  name: string;
  newName: string;
  number: number;
}

/** A tree under random operations, with the inodes that were made. */
interface Run {
  tree: Tree;
  digest: TestDigest;
  inos: number[];
}

const pick = ({ inos }: Run, index: number): number => inos[index % inos.length];

const STEPS = {
  create: (run: Run, { node, name }: Step): void => {
    const made = run.tree.create(pick(run, node), bytes(name), { mode: 0o100644, owner: OWNER });
    if (typeof made !== 'number') run.inos.push(made.ino);
  },
  unnamed: (run: Run, { node, name, other }: Step): void => {
    const creation = { mode: 0o100644, owner: OWNER };
    const made = run.tree.createUnnamed(pick(run, node), creation);
    if (typeof made === 'number') return;
    run.inos.push(made.ino);
    run.tree.linkUnnamed(made.ino, pick(run, other), bytes(name));
  },
  mkdir: (run: Run, { node, name }: Step): void => {
    const made = run.tree.mkdir(pick(run, node), bytes(name), { mode: 0o755, owner: OWNER });
    if (typeof made !== 'number') run.inos.push(made.ino);
  },
  link: (run: Run, { node, other, name }: Step): void => {
    run.tree.link(pick(run, node), pick(run, other), bytes(name));
  },
  unlink: (run: Run, { node, name }: Step): void => {
    run.tree.unlink(pick(run, node), bytes(name));
  },
  rmdir: (run: Run, { node, name }: Step): void => {
    run.tree.rmdir(pick(run, node), bytes(name));
  },
  rename: (run: Run, { node, other, name, newName, number }: Step): void => {
    run.tree.rename(pick(run, node), bytes(name), pick(run, other), bytes(newName), number % 3);
  },
  write: (run: Run, { node, number }: Step): void => {
    const changes = [run.digest.extent(number % 7, Buffer.alloc(1 + (number % 5), number))];
    run.tree.applyContent(pick(run, node), changes, {
      size: 12,
      mtime: { seconds: 1, nanoseconds: 0 },
    });
  },
  chmod: (run: Run, { node, number }: Step): void => {
    run.tree.setattr(pick(run, node), { mode: number & 0o777 });
  },
  setxattr: (run: Run, { node, name, newName }: Step): void => {
    run.tree.setxattr(pick(run, node), bytes(name), bytes(newName), 0);
  },
} as const satisfies Record<string, (run: Run, step: Step) => void>;

const stepOf: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom(...(Object.keys(STEPS) as Step['kind'][]), 'mkdir', 'link', 'rename'),
  node: fc.nat(10),
  other: fc.nat(10),
  name: fc.constantFrom('a', 'b', 'c'),
  newName: fc.constantFrom('a', 'b', 'c'),
  number: fc.nat(1000),
});

test('what is kept of earlier hashes never hides a change', async () => {
  const steps = fc.array(stepOf, { minLength: 5, maxLength: 60, size: 'max' });
  await fc.assert(
    fc.asyncProperty(steps, fc.integer({ min: 1, max: 5 }), async (all, every) => {
      const { tree, reopen } = newFixture();
      const digest = new TestDigest();
      const run = { tree, digest, inos: [ROOT_INO] };
      const hasher = tree.newHasher(digest, () => {});
      for (const [at, step] of all.entries()) {
        tree.transact(() => STEPS[step.kind](run, step));
        if (at % every !== 0) continue;
        assert.equal(await answerOf(hasher, ROOT_INO), await freshHash(reopen(), digest));
      }
    }),
    { numRuns: 300 },
  );
});

test('a tree that did not change is not read again', async () => {
  const { tree, kv } = newFixture();
  const digest = new TestDigest();
  const folders = [1, 2, 3].map((n) => directory(tree, ROOT_INO, `d${n}`));
  for (const folder of folders) for (let n = 0; n < 50; n++) file(tree, folder, `f${n}`);
  const hasher = tree.newHasher(digest, () => {});
  const before = await answerOf(hasher, ROOT_INO);
  let scans = 0;
  const read = kv.read.bind(kv);
  kv.read = (body) =>
    read((snapshot) => {
      const scan = snapshot.scan.bind(snapshot);
      return body({
        get: (key) => snapshot.get(key),
        scan: (...range) => {
          scans += 1;
          scan(...range);
        },
      });
    });
  assert.equal(await answerOf(hasher, ROOT_INO), before);
  assert.equal(scans, 0);
  file(tree, folders[0], 'new');
  assert.notEqual(await answerOf(hasher, ROOT_INO), before);
  // The root and the directory that changed: their names, and the attributes of what lies there.
  assert.ok(scans < 60, `${scans} scans`);
});

test('files that are changed while their tree is hashed count as they are in the end', async () => {
  const { tree, reopen } = newFixture();
  const digest = new TestDigest();
  const folders = [0, 1, 2, 3].map((n) => directory(tree, ROOT_INO, `d${n}`));
  const files = folders.flatMap((folder) =>
    Array.from({ length: 100 }, (_, n) => file(tree, folder, `f${n}`)),
  );
  const hasher = tree.newHasher(digest, () => {});
  let answer: unknown;
  hasher.ask(ROOT_INO, (result) => {
    answer = typeof result === 'number' ? result : Buffer.from(result).toString('hex');
  });
  for (let n = 0; answer === undefined; n++) {
    if (!hasher.work(0)) await immediate();
    if (n % 100 === 50 && n < 2000) {
      fill(tree, files[(n * 7) % files.length], 3, [
        { kind: 'inline', bytes: Buffer.from(`${n}`) },
      ]);
    }
    if (n === 333) ok(tree.rename(folders[0], bytes('f1'), folders[3], bytes('moved'), 0));
    if (n === 444) ok(tree.unlink(folders[2], bytes('f9')));
  }
  assert.equal(answer, await freshHash(reopen(), digest));
});

test('a tree that never rests has no hash', async () => {
  const { tree } = newFixture();
  const changing = Array.from({ length: 20 }, (_, n) => file(tree, ROOT_INO, `f${n}`))[0];
  const hasher = tree.newHasher(new TestDigest(), () => {});
  let answer: unknown;
  hasher.ask(ROOT_INO, (result) => {
    answer = result;
  });
  for (let n = 0; answer === undefined; n++) {
    if (!hasher.work(0)) await immediate();
    ok(tree.setattr(changing, { mode: n & 0o777 }));
  }
  assert.equal(answer, ERRNO.EAGAIN);
});

// ---- content ----

/** The hash of a tree of one file with this content. */
async function contentHash(
  digest: TestDigest,
  size: number,
  changes: ContentChange[],
): Promise<string | number> {
  const { tree } = newFixture();
  fill(tree, file(tree, ROOT_INO, 'f'), size, changes);
  return freshHash(tree, digest);
}

test('content counts by its bytes: inline, in chunks, in parts of chunks', async () => {
  const digest = new TestDigest();
  const text = Buffer.from('the quick brown fox');
  const size = text.length;
  const whole = await contentHash(digest, size, [digest.extent(0, text)]);
  assert.equal(digest.reads, 0);
  const parts = [digest.extent(4, text, 4), digest.extent(0, Buffer.from('the '))];
  const inline: ContentChange[] = [{ kind: 'inline', bytes: text }];
  assert.equal(await contentHash(digest, size, parts), whole);
  assert.equal(digest.reads, 1);
  assert.equal(await contentHash(digest, size, inline), whole);
  const cut = await contentHash(digest, size - 1, [digest.extent(0, text, 0, size - 1)]);
  assert.notEqual(cut, whole);
  assert.notEqual(await contentHash(digest, size + 1, inline), whole);
});

test('zeros are zeros, stored or not, in any region', async () => {
  const digest = new TestDigest();
  const zeros = Buffer.alloc(REGION_BYTES);
  const tail = zeros.subarray(0, 1000);
  const size = 2 * REGION_BYTES + tail.length;
  const head = Buffer.from('head');
  const hole = await contentHash(digest, size, []);
  const stored = [0, 1].map((n) => digest.extent(n * REGION_BYTES, zeros));
  const last = digest.extent(2 * REGION_BYTES, tail);
  assert.equal(await contentHash(digest, size, [...stored, last]), hole);
  assert.equal(await contentHash(digest, size, [stored[1]]), hole);
  assert.equal(await contentHash(digest, size, [last]), hole);
  const pieces = [digest.extent(MIB, zeros, 0, MIB), digest.extent(3 * MIB, tail)];
  assert.equal(await contentHash(digest, size, pieces), hole);
  const begins = await contentHash(digest, size, [{ kind: 'inline', bytes: head }]);
  const filled = digest.extent(0, Buffer.concat([head, zeros.subarray(head.length)]));
  assert.equal(await contentHash(digest, size, [filled]), begins);
  assert.notEqual(begins, hole);
  assert.notEqual(await contentHash(digest, size - 1, []), hole);
  const elsewhere = await contentHash(digest, size, [digest.extent(REGION_BYTES, head)]);
  assert.notEqual(elsewhere, begins);
});

test('a file of many regions is hashed in steps', async () => {
  const digest = new TestDigest();
  const { tree } = newFixture();
  const ino = file(tree, ROOT_INO, 'f');
  const chunk = Buffer.alloc(REGION_BYTES, 1);
  const regions = 200;
  const changes = Array.from({ length: regions }, (_, n) => digest.extent(n * REGION_BYTES, chunk));
  fill(tree, ino, regions * REGION_BYTES, changes);
  const hasher = tree.newHasher(digest, () => {});
  hasher.ask(ROOT_INO, () => {});
  let steps = 0;
  while (hasher.work(0)) steps += 1;
  assert.ok(steps > regions / 64, `${steps} steps`);
});

test('what cannot be read has no hash', async () => {
  const { tree, kv, reopen, damage } = newFixture();
  const digest = new TestDigest();
  const ino = file(tree, ROOT_INO, 'f');
  const gone = {
    offset: 0,
    length: 5,
    chunkOffset: 0,
    chunkLength: 9,
    id: new Uint32Array(8).fill(3),
  };
  fill(tree, ino, 5, [{ kind: 'extent', extent: gone }]);
  assert.equal(await freshHash(tree, digest), ERRNO.EIO);
  const text = Buffer.from('whole');
  fill(tree, ino, 5, [digest.extent(0, text)]);
  assert.match(String(await freshHash(tree, digest)), /^[0-9a-f]{64}$/);
  const damaged: Uint8Array[] = [];
  kv.transact((transaction) => {
    transaction.scan(Uint8Array.of(0x78), Uint8Array.of(0x79), (key) => {
      damaged.push(new Uint8Array(key));
      return true;
    });
    for (const key of damaged) transaction.put(key, Uint8Array.of(1, 2, 3));
  });
  assert.equal(await freshHash(reopen(), digest), ERRNO.EIO);
  assert.equal(damage.length, 1);
});

test('a sum of hashes is the sum of the numbers, in any order', () => {
  const hashOf = fc.uint8Array({ minLength: 32, maxLength: 32 });
  const toNumber = (hash: Uint8Array): bigint =>
    BigInt(`0x${Buffer.from(hash).reverse().toString('hex')}`);
  fc.assert(
    fc.property(fc.array(hashOf, { maxLength: 20 }), (hashes) => {
      const sum = new SetSum();
      for (const hash of hashes) sum.add(hash);
      const out = new Uint8Array(34).fill(9);
      sum.write(out, 1);
      const expected = hashes.reduce((total, hash) => total + toNumber(hash), 0n) % 2n ** 256n;
      assert.equal(toNumber(out.slice(1, 33)), expected);
      assert.deepEqual([out[0], out[33]], [9, 9]);
    }),
  );
});
