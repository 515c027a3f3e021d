import assert from 'node:assert/strict';
import { family, type Place } from '../support/family.ts';

/** Names of each fate. */
const EACH = 400;
/** Bytes of one getdents: a handful of names. */
const STEP = 256;
/** Changes of each kind between two steps. */
const CHANGES = 3;

type Entry = [name: string, cookie: number];

function named(fate: string): string[] {
  return Array.from({ length: EACH }, (_, number) => `${fate}-${number}`);
}

async function batch(p: Place, requests: unknown[][]): Promise<void> {
  const outcomes = (await p.own('batch', requests)) as object[];
  const failed = outcomes.findIndex((outcome) => 'errno' in outcome);
  if (failed >= 0) assert.fail(`${JSON.stringify([requests[failed], outcomes[failed]])}`);
}

async function make(p: Place, names: readonly string[]): Promise<void> {
  await batch(
    p,
    names.map((name) => ['mknod', p.at(`many/${name}`), 'file', 0o644]),
  );
}

/** Lists through an open directory from where it stands, with a step of changes between the parts. */
async function list(p: Place, between: () => Promise<void>): Promise<Entry[]> {
  const seen: Entry[] = [];
  for (;;) {
    const part = (await p.own('getdents', 'd', STEP)) as Entry[] | null;
    if (part === null) return seen;
    seen.push(...part);
    await between();
  }
}

async function openMany(p: Place, fates: readonly string[]): Promise<void> {
  await p.ok('mkdir', p.at('many'));
  for (const fate of fates) await make(p, named(fate));
  await p.ok('open', 'd', p.at('many'), ['O_RDONLY', 'O_DIRECTORY']);
}

/** Every name that stayed is listed once, and nothing twice. */
function assertListedOnce(entries: readonly Entry[], staying: readonly string[]): void {
  const names = entries.map(([name]) => name);
  const listed = new Set(names);
  assert.equal(listed.size, names.length, 'a name was listed twice');
  assert.deepEqual(
    staying.filter((name) => !listed.has(name)),
    [],
    'names that were there all the time were not listed',
  );
}

const nothing = async (): Promise<void> => undefined;

const { both, mountOnly } = family();

both(
  'in steps of a few names, while others are made, removed and renamed',
  async (p) => {
    await openMany(p, ['stays', 'goes', 'moves']);
    const [going, moving] = [named('goes'), named('moves')];
    let made = 0;
    const seen = await list(p, async () => {
      const late = Array.from({ length: CHANGES }, () => `late-${made++}`);
      await make(p, late);
      await batch(p, [
        ...going.splice(0, CHANGES).map((name) => ['unlink', p.at(`many/${name}`)]),
        ...moving
          .splice(-CHANGES)
          .map((name) => ['rename', p.at(`many/${name}`), p.at(`many/new-${name}`)]),
      ]);
    });
    assert.ok(made > EACH / 4, 'the listing was not interrupted often enough');
    assertListedOnce(seen, named('stays'));
    const known = /^(stays|goes|moves|new-moves|late)-\d+$/;
    assert.deepEqual(
      seen.filter(([name]) => !known.test(name)),
      [],
    );
  },
  { trees: 'none' },
);

mountOnly(
  'while names are replaced and trade places, which keep theirs',
  async (_mount, p) => {
    await openMany(p, ['stays', 'comes']);
    const coming = named('comes');
    const staying = named('stays');
    let round = 0;
    const seen = await list(p, async () => {
      round += 1;
      const [one, other] = [staying[(round * 7) % EACH], staying[(round * 11 + 1) % EACH]];
      const replacing = coming.pop();
      if (replacing === undefined || one === other) return;
      await batch(p, [
        ['rename', p.at(`many/${replacing}`), p.at(`many/${one}`)],
        ['renameat2', p.at(`many/${one}`), p.at(`many/${other}`), ['EXCHANGE']],
      ]);
    });
    assertListedOnce(seen, staying);
  },
  'renameat2',
);

mountOnly(
  'a cookie leads to the same place after changes and a remount',
  async (_mount, p) => {
    await openMany(p, ['stays', 'goes']);
    const before = await list(p, nothing);
    await batch(
      p,
      named('goes').map((name) => ['unlink', p.at(`many/${name}`)]),
    );
    await make(p, named('late'));
    const isStaying = ([name]: Entry): boolean => name.startsWith('stays-');
    const compareFrom = async (index: number): Promise<void> => {
      await p.own('lseek', 'd', before[index]?.[1], 'SEEK_SET');
      const behind = await list(p, nothing);
      assert.deepEqual(behind.filter(isStaying), before.slice(index + 1).filter(isStaying));
    };
    for (const index of [0, 1, EACH - 1, EACH, 2 * EACH - 1]) await compareFrom(index);
    await p.own('close', 'd');
    await p.remount();
    await p.own('open', 'd', p.at('many'), ['O_RDONLY', 'O_DIRECTORY']);
    for (const index of [0, EACH, 2 * EACH - 1]) await compareFrom(index);
  },
  'cookies',
);
