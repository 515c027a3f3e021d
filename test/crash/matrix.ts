/**
 * `npm run crash`: mounts that are killed at every point of `engine/kill-points.ts`, and at any time, on a disk, in
 * memory, with the power gone, and on a store whose objects (faults) or whose tree and log (tree-faults, with the power
 * gone as well) refuse what is written; what was promised must be there afterwards.
 */
import { Option } from 'commander';
import { KILL_POINTS, type KillPoint } from '../../engine/kill-points.ts';
import { mountProblem, rootProblem } from '../support/mount.ts';
import { Draws, testSeed } from '../support/random.ts';
import { positiveNumber, seed, tool } from '../support/tool-flags.ts';
import { Chain, type ChainKind, type Ending, FIRST_POINTS } from './chain.ts';

const SECONDS = 110;
/** How much longer it may take until each point has had its turn. */
const LATE_SECONDS = 120;
/** The latest passage of a point that is asked for; a round passes some of them less often. */
const PASSAGES = [1, 2, 3, 5, 8, 13, 21, 34] as const;
/** Rounds of a chain before it starts with another store. */
const ROUNDS = 60;
/** A store in memory waits for no disk. */
const ON_DISK = new Set<string>([
  'barrier-begun',
  'barrier-directory',
  'barrier-ended',
  'log-sync',
  'log-synced',
]);

const KINDS: readonly ChainKind[] = ['disk', 'power', 'memory', 'faults', 'tree-faults'];

/** Other tests pass the other points. */
const POINTS = (Object.keys(KILL_POINTS) as KillPoint[]).filter(
  (point) => !['collection', 'keys', 'journal'].includes(KILL_POINTS[point]),
);

const flags = tool('crash', 'Kills mounts at every named point, and compares what they promised.')
  .option('--seconds <n>', 'how long, once each point has had its turn', positiveNumber, SECONDS)
  .option('--seed <n>', 'taken from the clock unless given; a loss names its own', seed)
  .addOption(new Option('--point <name>', 'this one alone').choices(POINTS))
  .addOption(new Option('--kind <name>', 'what the store lies on: this kind alone').choices(KINDS))
  .parse()
  .opts<{ seconds: number; seed?: number; point?: KillPoint; kind?: ChainKind }>();

const kinds = KINDS.filter((kind) => flags.kind === undefined || flags.kind === kind);
const deadline = Date.now() + flags.seconds * 1000;
const lastDeadline = deadline + LATE_SECONDS * 1000;
/** Kinds that pass each of their points sooner or later: a tree that fails may not. */
const RELIABLE = kinds.filter((kind) => kind !== 'tree-faults' || kinds.length === 1);
const firstSeed = flags.seed ?? testSeed();
const kills = new Map<string, number>();
const losses: string[] = [];
let rounds = 0;
let checks = 0;

function points(kind: ChainKind): KillPoint[] {
  return POINTS.filter((point) => {
    if (flags.point !== undefined && flags.point !== point) return false;
    if (KILL_POINTS[point] === 'first') return false;
    if (KILL_POINTS[point] === 'power') return kind === 'power';
    return kind === 'disk' || kind === 'power' || !ON_DISK.has(point);
  });
}

/** What the rounds of one kind end with: its share of the points at their first passage, then whatever chance picks. */
class Endings {
  readonly #all: readonly KillPoint[];
  readonly #first: KillPoint[] = [];
  readonly #draws: Draws;

  constructor(kind: ChainKind, draws: Draws) {
    this.#all = points(kind);
    this.#draws = draws;
    for (const point of new Set(kinds.flatMap(points))) {
      const able = RELIABLE.filter((other) => points(other).includes(point));
      if (able[point.length % able.length] === kind) this.#first.push(point);
    }
  }

  /** Whether a point has not had its turn. */
  get mustGoOn(): boolean {
    return this.#first.length > 0;
  }

  next(): Ending {
    const { length } = this.#first;
    if (length > 0) return { point: this.#first[this.#draws.below(length)], passage: 1 };
    if (flags.point === undefined && this.#draws.below(4) === 0) return 'any time';
    return { point: this.#draws.pick(this.#all), passage: this.#draws.pick(PASSAGES) };
  }

  /** These points were passed: they need no further turn. */
  passed(causes: Iterable<string>): void {
    for (const cause of causes) {
      const at = this.#first.indexOf(cause as KillPoint);
      if (at >= 0) this.#first.splice(at, 1);
    }
  }
}

function isOver(all: Endings): boolean {
  return Date.now() > (all.mustGoOn ? lastDeadline : deadline);
}

/** Chains of one kind, one after the other, until the time is over or something is lost. */
async function runKind(kind: ChainKind): Promise<void> {
  const all = new Endings(kind, new Draws(firstSeed));
  for (let seed = firstSeed; !isOver(all); seed += 1) {
    const chain = new Chain(kind, seed);
    let ending: Ending = 'any time';
    let isLost = false;
    try {
      await chain.begin();
      for (let round = 0; round < ROUNDS && !isOver(all); round += 1) {
        ending = all.next();
        rounds += 1;
        await chain.round(ending);
        all.passed(chain.kills.keys());
      }
      await chain.round('any time');
    } catch (error) {
      isLost = true;
      const at = ending === 'any time' ? ending : `${ending.point}:${ending.passage}`;
      const told = error instanceof Error ? error.message : String(error);
      losses.push(`${kind}, seed ${seed}, around ${at}: ${told}`);
    }
    const place = await chain.end(isLost);
    checks += chain.checks;
    for (const [cause, count] of chain.kills) kills.set(cause, (kills.get(cause) ?? 0) + count);
    if (isLost) {
      process.stdout.write(`${losses.at(-1)}\n  its store: ${place}\n`);
      return;
    }
  }
}

const problem = mountProblem() ?? rootProblem();
if (problem !== undefined) {
  process.stderr.write(`the crash matrix cannot run, which proves nothing: ${problem}\n`);
  process.exit(1);
}
await Promise.all(kinds.map(runKind));
let total = 0;
for (const count of kills.values()) total += count;
// The other kinds make their stores with one of these points alone.
const isWhole = kinds.includes('disk') || kinds.includes('power');
const wanted = new Set<string>([...RELIABLE.flatMap(points), ...(isWhole ? FIRST_POINTS : [])]);
const missed = [...wanted].filter((point) => !kills.has(point));
for (const [cause, count] of [...kills].sort()) {
  process.stdout.write(`${String(count).padStart(5)} kills at ${cause}\n`);
}
process.stdout.write(
  `crash matrix: ${wanted.size} points, ${rounds} rounds, ${total} kills, ${checks} comparisons, ` +
    `${losses.length} losses; seed ${firstSeed}\n`,
);
if (missed.length > 0) process.stderr.write(`never passed: ${missed.join(', ')}\n`);
process.exit(losses.length > 0 || missed.length > 0 ? 1 : 0);
