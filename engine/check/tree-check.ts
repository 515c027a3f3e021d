import type { Kv } from '../kv/kv.ts';
import { COUNTERS_KEY, inodeOf, KEY } from '../tree/keys.ts';
import { isCreatable, isDirectory, isRegular, S_IFDIR, S_IFLNK, typeOf } from '../tree/mode.ts';
import { type Counters, type Inode, ROOT_INO } from '../tree/records.ts';
import type { Extent, Sealer } from '../tree/types.ts';
import { checkAttributes, checkRegions } from './content-check.ts';
import { Findings } from './finding.ts';
import { InodeTable, STATE } from './inode-table.ts';
import { NameCheck } from './name-check.ts';
import { checkReachability } from './reachability.ts';
import { RecordReader, subjectOf } from './reader.ts';

/** What the counters may be off by after a kill. */
const COUNTERS_SLACK = 1024;
const NO_INO = 0;

/** What a check of a tree reads. */
export interface TreeCheckOptions {
  kv: Kv;
  sealer: Sealer;
  /**
   * Told of each extent that can be used, in the order of files and offsets, and whether its file is
   * deleted: an orphan.
   */
  onExtent?: (extent: Extent, isOrphan: boolean) => void;
  /** Called for each record. */
  onRecord?: () => void;
}

/** What a check of a tree found out. */
export interface CheckedTree {
  readonly findings: Findings;
  readonly inodes: InodeTable;
  /** Names, of the inodes in all directories. */
  readonly names: number;
  /** The counters as they are stored, where they can be read. */
  readonly counters: Counters | undefined;
  /** No inode has a number from here on. */
  readonly nextIno: number;
  /** Orphans' marks that lead to no inode. */
  readonly strayOrphans: readonly number[];
  /** Roots of namespaces without a record. */
  readonly lostRoots: readonly number[];
}

/**
 * Reads every record of a tree and holds them against one another. Changes nothing.
 *
 * Each kind of record is read once, in the order of its keys. Memory: the {@link InodeTable}, and
 * what {@link Findings} keeps; nothing grows with names, regions or attributes. Nobody else may
 * change the tree meanwhile.
 */
export function checkTree({ kv, sealer, onExtent, onRecord }: TreeCheckOptions): CheckedTree {
  const findings = new Findings();
  const reader = new RecordReader({ kv, sealer }, findings, onRecord);
  const inodes = new InodeTable();
  reader.eachUnknown();
  readInodes(reader, inodes);
  const strayOrphans = readOrphans(reader, inodes);
  const lostRoots = readNamespaces(reader, inodes);
  const names = new NameCheck(reader, inodes);
  names.run();
  checkReachability(inodes, findings);
  checkNames(inodes, findings);
  checkRegions({ reader, inodes, onExtent });
  checkAttributes({ reader, inodes });
  const last = inodes.length === 0 ? ROOT_INO : inodes.ino[inodes.length - 1];
  const nextIno = Math.max(last, names.largestIno) + 1;
  const counters = readCounters(reader, { nextIno, inodes: inodes.length });
  return { findings, inodes, names: names.count, counters, nextIno, strayOrphans, lostRoots };
}

function readInodes(reader: RecordReader, table: InodeTable): void {
  const { findings } = reader;
  reader.each(KEY.INODE, (key, sealed) => {
    const ino = inodeOf(key);
    const row = table.add(ino);
    const inode = reader.inode(key, sealed);
    if (typeof inode === 'string') {
      const what = `the record of inode ${ino} ${inode}`;
      findings.add({ code: 'INODE_DAMAGED', what, inodes: [ino], subject: subjectOf(key) });
      table.mark(row, STATE.DAMAGED);
      return;
    }
    const problem = problemOf(inode);
    if (problem !== undefined) {
      const what = `inode ${ino} ${problem}`;
      findings.add({ code: 'INODE_INVALID', what, inodes: [ino], subject: subjectOf(key) });
    }
    table.mode[row] = inode.mode;
    table.nlink[row] = inode.nlink;
    table.parent[row] = inode.parent;
    table.namespace[row] = inode.namespace;
    table.size[row] = inode.size;
    table.unaccounted[row] = inode.allocated;
    table.xattrs[row] = inode.xattrs;
  });
}

/** What makes no sense about an inode by itself. */
function problemOf(inode: Inode): string | undefined {
  const { mode, nlink, size, allocated, target } = inode;
  const isLink = typeOf(mode) === S_IFLNK;
  if (!isLink && !isDirectory(inode) && !isCreatable(mode)) return 'is of no type';
  if (!Number.isSafeInteger(size) || size < 0) return 'has no possible size';
  if (!Number.isSafeInteger(nlink) || nlink < 0) return 'has no possible link count';
  if (isLink ? target.length !== size || size === 0 : target.length > 0) {
    return 'has a target that is not as long as it says';
  }
  if (isRegular(inode) ? allocated < 0 : allocated !== 0) return 'has no possible content';
  return undefined;
}

function readOrphans(reader: RecordReader, table: InodeTable): number[] {
  const { findings } = reader;
  const stray: number[] = [];
  reader.each(KEY.ORPHAN, (key, sealed) => {
    const ino = inodeOf(key);
    const subject = subjectOf(key);
    if (!reader.isAuthentic(key, sealed)) {
      const what = `the mark that inode ${ino} is deleted is not authentic`;
      findings.add({ code: 'ORPHAN_DAMAGED', what, inodes: [ino], subject });
    }
    const row = table.find(ino);
    if (row >= 0) {
      table.mark(row, STATE.ORPHAN);
      return;
    }
    const what = `inode ${ino} is marked as deleted, and is not there`;
    findings.add({ code: 'ORPHAN_STRAY', what, inodes: [], subject });
    stray.push(ino);
  });
  return stray;
}

/** Roots without a record. */
function readNamespaces(reader: RecordReader, table: InodeTable): number[] {
  const { findings } = reader;
  const lost: number[] = [];
  const check = (ino: number): void => {
    checkRoot(table, ino, findings);
    if (table.find(ino) < 0) lost.push(ino);
  };
  check(ROOT_INO);
  reader.each(KEY.NAMESPACE, (key, sealed) => {
    const subject = subjectOf(key);
    const record = reader.name(key, sealed);
    if (typeof record === 'string') {
      const what = `the record of a namespace ${record}`;
      findings.add({ code: 'NAMESPACE_DAMAGED', what, inodes: [], subject });
      return;
    }
    if (!reader.isHashOf({ key, at: 1 }, NO_INO, record.name)) {
      const what = 'the record of a namespace lies where another one belongs';
      findings.add({ code: 'NAMESPACE_DAMAGED', what, inodes: [record.ino], subject });
    }
    check(record.ino);
  });
  return lost;
}

function checkRoot(table: InodeTable, ino: number, findings: Findings): void {
  const row = table.find(ino);
  if (row >= 0) table.mark(row, STATE.ROOT);
  if (row >= 0 && table.has(row, STATE.DAMAGED)) return;
  const isRoot = row >= 0 && typeOf(table.mode[row]) === S_IFDIR && table.namespace[row] === ino;
  if (isRoot) return;
  const what = `inode ${ino}, the root directory of a namespace, is not there`;
  findings.add({ code: 'ROOT_MISSING', what, inodes: [ino], subject: `i${ino}` });
}

/** Link counts, and inodes that no name leads to. */
function checkNames(table: InodeTable, findings: Findings): void {
  for (let row = 0; row < table.length; row++) {
    const ino = table.ino[row];
    const inodes = [ino];
    const subject = `i${ino}`;
    const isOrphan = table.has(row, STATE.ORPHAN);
    if (isOrphan && table.names[row] > 0) {
      const what = `inode ${ino} is marked as deleted, but has ${table.names[row]} names`;
      findings.add({ code: 'ORPHAN_NAMED', what, inodes, subject });
    }
    if (!isOrphan && table.names[row] === 0 && !table.has(row, STATE.ROOT)) {
      findings.add(unreachable(table, row));
      continue;
    }
    if (table.has(row, STATE.DAMAGED)) continue;
    const expected = linksOf(table, row);
    if (expected === table.nlink[row]) continue;
    const what = `inode ${ino} has a link count of ${table.nlink[row]} in place of ${expected}`;
    findings.add({ code: 'LINK_COUNT_WRONG', what, inodes, subject });
  }
}

function unreachable(table: InodeTable, row: number): Findings['list'][number] {
  const ino = table.ino[row];
  const subject = `i${ino}`;
  if (isLostRoot(table, row)) {
    const what = `inode ${ino} is the root directory of a namespace that has no name`;
    return { code: 'NAMESPACE_LOST', what, inodes: [], subject };
  }
  const hint = table.parent[row];
  const what = `no name leads to inode ${ino}${hint === 0 ? '' : ', which lay here'}`;
  const place = hint === 0 || hint === ino ? {} : { place: { parent: hint, name: undefined } };
  return { code: 'INODE_UNREACHABLE', what, inodes: [ino], ...place, subject };
}

/** Whether an inode without a name is the root of a namespace that lost its name. */
export function isLostRoot(table: InodeTable, row: number): boolean {
  return typeOf(table.mode[row]) === S_IFDIR && table.namespace[row] === table.ino[row];
}

/** The link count that an inode should have. */
export function linksOf(table: InodeTable, row: number): number {
  if (typeOf(table.mode[row]) !== S_IFDIR) return table.names[row];
  const isNamed = table.names[row] > 0 || table.has(row, STATE.ROOT);
  return isNamed ? 2 + table.subdirectories[row] : 0;
}

function readCounters(reader: RecordReader, expected: Counters): Counters | undefined {
  const counters = reader.counters();
  const add = (code: 'COUNTERS_DAMAGED' | 'COUNTERS_WRONG', what: string): void =>
    reader.findings.add({ code, what, inodes: [], subject: subjectOf(COUNTERS_KEY) });
  if (counters === undefined || typeof counters === 'string') {
    add('COUNTERS_DAMAGED', `the record of the counters ${counters ?? 'is missing'}`);
    return undefined;
  }
  if (counters.nextIno < expected.nextIno) {
    add('COUNTERS_WRONG', `the next inode would get number ${counters.nextIno}, which is taken`);
  } else if (Math.abs(counters.inodes - expected.inodes) > COUNTERS_SLACK) {
    const { inodes } = counters;
    add('COUNTERS_WRONG', `the counters say ${inodes} inodes, there are ${expected.inodes}`);
  }
  return counters;
}
