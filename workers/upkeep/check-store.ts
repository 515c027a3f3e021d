/** The check of a store that is not mounted: its tree, then its chunks. */
import {
  ADVICE,
  FINDINGS_MAX,
  type Finding,
  Findings,
  identityOf,
  type ReportedFinding,
} from '../../engine/check/finding.ts';
import { Paths } from '../../engine/check/paths.ts';
import { RecordReader } from '../../engine/check/reader.ts';
import { repairTree } from '../../engine/check/repair.ts';
import { type CheckedTree, checkTree } from '../../engine/check/tree-check.ts';
import type { Kv } from '../../engine/kv/kv.ts';
import type { PageSurvey, ScrubReport } from '../../engine/native.ts';
import { systemTime } from '../../engine/tree/tree.ts';
import type { Sealer } from '../../engine/tree/types.ts';
import {
  installRebuilt,
  rebuildTreeFile,
  removeRebuilt,
  surveyTreeFile,
} from '../../engine/tree-rebuild.ts';
import type { CheckOutcome, CheckTask, UpkeepFailure, UpkeepProgress } from '../task.ts';
import { addChunkFindings } from './chunk-findings.ts';
import { chunkCounts, ExtentReferences } from './chunk-references.ts';
import { RECORDS_PER_REPORT, REPORT_MS, withTree } from './tree-file.ts';

/** Checks a store and, when that is asked for, repairs its tree. */
export async function checkStore(task: CheckTask): Promise<CheckOutcome | UpkeepFailure> {
  const { treeFile } = task;
  try {
    const survey = surveyTreeFile(treeFile);
    if (survey.flawed === 0) {
      return await withTree(task, (kv, sealer) => new StoreCheck(task, { kv, sealer }, []).run());
    }
    return await checkRebuilt(task, pageFindings(survey));
  } catch (error) {
    return { failure: error instanceof Error ? error.message : String(error) };
  }
}

/** Checks what can be read of a tree's file whose pages are damaged; a repair keeps it. */
async function checkRebuilt(
  task: CheckTask,
  damage: readonly Finding[],
): Promise<CheckOutcome | UpkeepFailure> {
  const { treeFile } = task;
  const rebuilt = await rebuildTreeFile(treeFile);
  try {
    let hasRoots = false;
    const outcome = await withTree(
      { treeFile: rebuilt, engine: task.engine },
      async (kv, sealer) => {
        const check = new StoreCheck(task, { kv, sealer }, damage);
        const told = await check.run();
        hasRoots = check.hasRoots;
        return told;
      },
    );
    if ('failure' in outcome || !task.repair) return outcome;
    // Without its root, the next mount would take the tree for one that was never used.
    if (!hasRoots) return { failure: 'a root directory lay in one of the damaged pages' };
    await installRebuilt(treeFile);
    return outcome;
  } finally {
    removeRebuilt(treeFile);
  }
}

function pageFindings({ flaws }: PageSurvey): Finding[] {
  return flaws.map(({ page, what }) => ({
    code: 'TREE_PAGE_DAMAGED',
    what: `page ${page} of the tree's file: ${what}`,
    inodes: [],
    subject: `page ${page}`,
  }));
}

class StoreCheck {
  readonly #task: CheckTask;
  readonly #kv: Kv;
  readonly #sealer: Sealer;
  /** What is wrong with the file that the tree was read from. */
  readonly #damage: readonly Finding[];
  #references: ExtentReferences;
  #records = 0;
  /** Whether the tree, as it is after a repair, has the roots of all its namespaces. */
  hasRoots = false;

  constructor(
    task: CheckTask,
    { kv, sealer }: { kv: Kv; sealer: Sealer },
    damage: readonly Finding[],
  ) {
    this.#task = task;
    this.#kv = kv;
    this.#damage = damage;
    this.#sealer = sealer;
    this.#references = new ExtentReferences(task.engine);
  }

  async run(): Promise<CheckOutcome> {
    const first = this.#checkTree();
    for (const finding of this.#damage) first.findings.add(finding);
    if (!this.#task.repair || first.findings.total === 0) {
      const report = await this.#checkChunks(first);
      return this.#outcome(first, [], report);
    }
    // As long as what is repaired is where it was found.
    const paths = this.#paths(first);
    const told = first.findings.list.map((finding) => ({ finding, paths: paths.of(finding) }));
    this.#repair(first);
    await this.#kv.sync();
    const second = this.#checkTree();
    const stillThere = new Set(second.findings.list.map(identityOf));
    // Where not all is named, nobody can say that something is not there any more.
    const isNamed = second.findings.total === second.findings.list.length;
    const repaired = told
      .filter(({ finding }) => isNamed && !stillThere.has(identityOf(finding)))
      .map(({ finding, paths }) => reported(finding, paths, true));
    const report = await this.#checkChunks(second);
    return this.#outcome(second, repaired, report);
  }

  #checkTree(): CheckedTree {
    const references = new ExtentReferences(this.#task.engine);
    this.#references = references;
    return checkTree({
      kv: this.#kv,
      sealer: this.#sealer,
      onExtent: (extent) => references.add(extent),
      onRecord: () => {
        if (++this.#records % RECORDS_PER_REPORT === 0) this.#tell();
      },
    });
  }

  #repair(checked: CheckedTree): void {
    const { owner } = this.#task;
    repairTree(checked, { kv: this.#kv, sealer: this.#sealer, owner, now: systemTime() });
  }

  async #checkChunks(checked: CheckedTree): Promise<ScrubReport> {
    const references = this.#references.seal();
    const timer = setInterval(() => this.#tell(), REPORT_MS);
    try {
      const report = await references.scrub(this.#task.threads);
      addChunkFindings(report, checked.findings, this.#reader());
      return report;
    } finally {
      clearInterval(timer);
    }
  }

  /** Reads records that were reported already. */
  #reader(): RecordReader {
    return new RecordReader({ kv: this.#kv, sealer: this.#sealer }, new Findings());
  }

  #paths({ inodes, findings }: CheckedTree): Paths {
    return new Paths({ reader: this.#reader(), inodes }, findings.list);
  }

  #outcome(
    checked: CheckedTree,
    repaired: readonly ReportedFinding[],
    report: ScrubReport,
  ): CheckOutcome {
    const { findings, inodes, names } = checked;
    this.hasRoots = !findings.counts.has('ROOT_MISSING');
    const paths = this.#paths(checked);
    const left = findings.list.map((finding) => reported(finding, paths.of(finding), false));
    const counts: Record<string, number> = Object.fromEntries(findings.counts);
    for (const { code } of repaired) counts[code] = (counts[code] ?? 0) + 1;
    return {
      findings: [...repaired, ...left].slice(0, FINDINGS_MAX),
      counts,
      left: findings.total,
      inodes: inodes.length,
      names,
      chunks: chunkCounts(report),
    };
  }

  #tell(): void {
    const [chunks, bytes] = this.#references.progress();
    const progress: UpkeepProgress = {
      records: this.#records,
      chunks,
      chunksTotal: this.#references.total,
      bytes,
    };
    this.#task.port.postMessage(progress);
  }
}

function reported(
  { code, what, subject }: Finding,
  paths: readonly string[],
  repaired: boolean,
): ReportedFinding {
  return { code, paths, what, subject, advice: ADVICE[code], repaired };
}
