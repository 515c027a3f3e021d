/**
 * The protocol of workers/tree/garbage-collector.ts, in every order: one content C that is stored already, two files A
 * and B, a mover, a data worker, the tree worker, a collection, and a loss of power at any time.
 *
 * A model shows that the steps suffice, and, by leaving out each, that it is needed. That the code takes these steps is
 * what test/mount/gc.test.ts and native/store/src/kept.rs are for.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';

/** What a faulty collector leaves out. */
type Omission =
  | 'nothing'
  | 'the store keeps what is found or put'
  | 'keep before the look'
  | 'wait for movers first'
  | 'wait for workers first'
  | 'mark what is pending'
  | 'mark the tree'
  | 'keep what is copied'
  | 'sync the tree'
  | 'wait for copies'
  | 'wait for workers then'
  | 'wait for movers then';

/** The world. Numbers are 0 and 1 unless said otherwise; a tree that names a file holds C in it. */
interface World {
  /** The store has the object of C. */
  object: number;
  /** A collection runs, and keeps C. */
  active: number;
  kept: number;
  /** What the tree has, what is pending of open inodes, and what a loss of power leaves: C in A, C in B. */
  tree: [number, number];
  pending: [number, number];
  durable: [number, number];
  /** The data worker takes C for the content of A. */
  knows: number;
  /** A settle of C for B: 0 none, 1 submitted, 2 kept (or looked), 3 not found, 4 found or stored. */
  settle: number;
  settles: number;
  /** A READ of C that a mover has. */
  read: number;
  reads: number;
  /** Jobs that a collection waits for. */
  awaits: [settle: number, read: number];
  /** Messages to the data worker, and from it to the tree worker, oldest first. */
  toData: string;
  toTree: string;
  /** Copies: A to B, then something else over A: 0 not yet, 1 its worker does not know, 2 done. */
  copied: number;
  replaced: number;
  truncated: [number, number];
  /** Where the collection is. */
  at: number;
}

const SETTLES = 1;
const READS = 1;

type Step = [name: string, next: (world: World) => World | undefined];

/** Where a world goes wrong. */
class Violation extends Error {}

function settling(omission: Omission): Step[] {
  const lookFirst = omission === 'keep before the look';
  const keep = (w: World): void => {
    if (w.active === 1 && omission !== 'the store keeps what is found or put') w.kept = 1;
  };
  return [
    [
      'a worker submits a settle',
      (w) => {
        if (w.settle !== 0 || w.settles === SETTLES) return undefined;
        return { ...w, settle: 1, settles: w.settles + 1 };
      },
    ],
    [
      'the mover keeps',
      (w) => {
        if (w.settle !== 1) return undefined;
        const next = { ...w, settle: lookFirst && w.object === 0 ? 3 : 2 };
        if (!lookFirst) keep(next);
        return next;
      },
    ],
    [
      'the mover looks',
      (w) => {
        if (w.settle !== 2) return undefined;
        const next = { ...w, settle: lookFirst || w.object === 1 ? 4 : 3 };
        if (lookFirst) keep(next);
        return next;
      },
    ],
    [
      'the mover stores',
      (w) => {
        if (w.settle !== 3) return undefined;
        const next = { ...w, settle: 4, object: 1 };
        if (lookFirst) keep(next);
        return next;
      },
    ],
    [
      'the mover reports',
      (w) => {
        if (w.settle !== 4) return undefined;
        return { ...w, settle: 0, awaits: [0, w.awaits[1]], toData: `${w.toData}S` };
      },
    ],
  ];
}

const reading: Step[] = [
  [
    'a worker submits a READ',
    (w) => {
      if (w.knows === 0 || w.read === 1 || w.reads === READS) return undefined;
      return { ...w, read: 1, reads: w.reads + 1 };
    },
  ],
  [
    'the mover reads',
    (w) => {
      if (w.read === 0) return undefined;
      if (w.object === 0) throw new Violation('a READ finds nothing');
      return { ...w, read: 0, awaits: [w.awaits[0], 0] };
    },
  ],
];

/** Messages: S settled, E extent, D the content of A is another one, F and G fences, f and g their answers. */
const messages: Step[] = [
  [
    'the data worker takes a message',
    (w) => {
      const [first] = w.toData;
      if (first === undefined) return undefined;
      const next = { ...w, toData: w.toData.slice(1) };
      if (first === 'S') next.toTree += 'E';
      else if (first === 'D') next.knows = 0;
      else next.toTree += first.toLowerCase();
      return next;
    },
  ],
  [
    'the tree worker takes a message',
    (w) => {
      const [first] = w.toTree;
      if (first === undefined) return undefined;
      const next = { ...w, toTree: w.toTree.slice(1) };
      if (first === 'E') next.pending = [w.pending[0], 1];
      else next.at += 1;
      return next;
    },
  ],
];

function changing(omission: Omission): Step[] {
  return [
    [
      'B is committed',
      (w) => {
        if (w.pending[1] === 0) return undefined;
        return { ...w, pending: [w.pending[0], 0], tree: [w.tree[0], 1] };
      },
    ],
    ['the tree is synced', (w) => ({ ...w, durable: w.tree })],
    [
      'A is truncated',
      (w) => {
        if (w.truncated[0] === 1) return undefined;
        const truncated: [number, number] = [1, w.truncated[1]];
        return { ...w, truncated, tree: [0, w.tree[1]], toData: `${w.toData}D` };
      },
    ],
    [
      'B is truncated',
      (w) => {
        if (w.truncated[1] === 1) return undefined;
        return { ...w, truncated: [w.truncated[0], 1], pending: [0, 0], tree: [w.tree[0], 0] };
      },
    ],
    [
      'A is copied to B',
      (w) => {
        if (w.tree[0] === 0 || w.copied === 1) return undefined;
        const kept = w.active === 1 && omission !== 'keep what is copied' ? 1 : w.kept;
        return { ...w, copied: 1, kept, pending: [0, 1] };
      },
    ],
    [
      'something else is copied over A',
      (w) => {
        if (w.tree[0] === 0 || w.replaced !== 0) return undefined;
        return { ...w, replaced: 1, tree: [0, w.tree[1]] };
      },
    ],
    [
      'that copy ends',
      (w) => {
        if (w.replaced !== 1) return undefined;
        return { ...w, replaced: 2, toData: `${w.toData}D` };
      },
    ],
  ];
}

/** The steps of a collection, one after the other; what waits for a message goes on with it. */
function collecting(omission: Omission): Step[] {
  const unless = (which: Omission, step: (w: World) => World): ((w: World) => World) =>
    omission === which ? (w) => w : step;
  const quiesce = (w: World): World => ({
    ...w,
    awaits: [Math.min(w.settle, 1), w.read],
  });
  const quiet = (w: World): World | undefined => (w.awaits[0] + w.awaits[1] === 0 ? w : undefined);
  const keepIf = (held: number, w: World): World => ({ ...w, kept: Math.max(w.kept, held) });
  const steps: ((w: World) => World | undefined)[] = [
    (w) => ({ ...w, active: 1, kept: 0 }),
    unless('wait for movers first', quiesce),
    quiet,
    omission === 'wait for workers first' ? skip : (w) => ({ ...w, toData: `${w.toData}F` }),
    waitForMessage,
    unless('mark what is pending', (w) => keepIf(Math.max(...w.pending), w)),
    unless('mark the tree', (w) => keepIf(w.tree[1], w)),
    unless('mark the tree', (w) => keepIf(w.tree[0], w)),
    unless('sync the tree', (w) => ({ ...w, durable: w.tree })),
    (w) => (w.replaced === 1 && omission !== 'wait for copies' ? undefined : w),
    omission === 'wait for workers then' ? skip : (w) => ({ ...w, toData: `${w.toData}G` }),
    waitForMessage,
    unless('wait for movers then', quiesce),
    quiet,
    (w) => ({ ...w, object: Math.min(w.object, w.kept) }),
    (w) => ({ ...w, active: 0 }),
  ];
  return steps.map((step, at) => [
    `the collection takes step ${at}`,
    (w) => {
      const next = w.at === at ? step(w) : undefined;
      return next === undefined ? undefined : { ...next, at: next.at + 1 };
    },
  ]);
}

function waitForMessage(): undefined {
  return undefined;
}

/** Goes on without the message that would be waited for. */
function skip(w: World): World {
  return { ...w, at: w.at + 1 };
}

function check({ object, tree, pending, durable }: World): void {
  if (object === 1) return;
  if (tree[0] + tree[1] > 0) throw new Violation('the tree refers to nothing');
  if (pending[0] + pending[1] > 0) throw new Violation('what is pending refers to nothing');
  if (durable[0] + durable[1] > 0) throw new Violation('a loss of power brings a reference back');
}

const FIRST: World = {
  object: 1,
  active: 0,
  kept: 0,
  tree: [1, 0],
  pending: [0, 0],
  durable: [1, 0],
  knows: 1,
  settle: 0,
  settles: 0,
  read: 0,
  reads: 0,
  awaits: [0, 0],
  toData: '',
  toTree: '',
  copied: 0,
  replaced: 0,
  truncated: [0, 0],
  at: 0,
};

/** Goes through every world that can be reached: how many there are, or how the first wrong one came to be. */
function explore(omission: Omission): { worlds: number; deletions: number; wrong?: string } {
  const steps = [
    ...settling(omission),
    ...reading,
    ...messages,
    ...changing(omission),
    ...collecting(omission),
  ];
  const seen = new Set<string>([keyOf(FIRST)]);
  const open: { world: World; path: Path | undefined }[] = [{ world: FIRST, path: undefined }];
  let deletions = 0;
  for (let top = open.pop(); top !== undefined; top = open.pop()) {
    const { world, path } = top;
    for (const [name, step] of steps) {
      const here: Path = { name, before: path };
      try {
        const next = step(world);
        if (next === undefined) continue;
        check(next);
        if (world.object === 1 && next.object === 0) deletions += 1;
        const key = keyOf(next);
        if (seen.has(key)) continue;
        seen.add(key);
        open.push({ world: next, path: here });
      } catch (error) {
        if (!(error instanceof Violation)) throw error;
        return { worlds: seen.size, deletions, wrong: `${error.message}: ${story(here)}` };
      }
    }
  }
  return { worlds: seen.size, deletions };
}

interface Path {
  readonly name: string;
  readonly before: Path | undefined;
}

function story(path: Path): string {
  const names: string[] = [];
  for (let at: Path | undefined = path; at !== undefined; at = at.before) names.unshift(at.name);
  return names.join(', ');
}

function keyOf(w: World): string {
  const [a, b] = [w.tree[0] + 2 * w.tree[1], w.pending[0] + 2 * w.pending[1]];
  const [c, d] = [w.durable[0] + 2 * w.durable[1], w.awaits[0] + 2 * w.awaits[1]];
  const flags = w.object + 2 * w.active + 4 * w.kept + 8 * w.knows + 16 * w.read + 32 * w.copied;
  const counts = w.settles + 2 * w.reads + 4 * w.truncated[0] + 8 * w.truncated[1];
  const small = a + 4 * b + 16 * c + 64 * d + 256 * (counts + 16 * (w.settle + 5 * w.replaced));
  return `${small + 262_144 * flags},${w.at},${w.toData},${w.toTree}`;
}

test('no order of steps loses what somebody needs', () => {
  const { worlds, deletions, wrong } = explore('nothing');
  assert.equal(wrong, undefined);
  assert.ok(worlds > 10_000, `${worlds} worlds`);
  assert.ok(deletions > 0, 'nothing is ever deleted: this proves nothing');
});

const OMISSIONS: readonly Omission[] = [
  'the store keeps what is found or put',
  'keep before the look',
  'wait for movers first',
  'wait for workers first',
  'mark what is pending',
  'mark the tree',
  'keep what is copied',
  'sync the tree',
  'wait for copies',
  'wait for workers then',
  'wait for movers then',
];

for (const omission of OMISSIONS) {
  test(`without "${omission}" something is lost`, () => {
    assert.notEqual(explore(omission).wrong, undefined);
  });
}
