/** What a resident task is told when it starts, and what it says to the main thread. Structured-cloned: plain data. */
import type { MessagePort } from 'node:worker_threads';
import type { ReportedFinding } from '../engine/check/finding.ts';
import type { ExportedFile } from '../engine/journal/export.ts';
import type { JournalTask } from '../engine/journal/owner.ts';
import type { ReplayNotice } from '../engine/journal/replay.ts';
import type { ShownJournal } from '../engine/journal/show.ts';
import type { CensusReport, ResealReport, ScrubReport, SweepReport } from '../engine/native.ts';
import type { SharedBuffers } from '../engine/shared-memory.ts';

/** Owns regions of open inodes; `worker` is its ring, 1 or more. */
export interface DataTask {
  readonly role: 'data';
  readonly engine: number;
  readonly buffers: SharedBuffers;
  readonly worker: number;
}

/** Owns names, attributes and extents. */
export interface TreeTask {
  readonly role: 'tree';
  readonly engine: number;
  readonly buffers: SharedBuffers;
  readonly port: MessagePort;
  /** File of the Kv. */
  readonly treeFile: string;
  readonly ttlMs: number;
  readonly commitIntervalMs: number;
  readonly storeNeedsSync: boolean;
  /** Milliseconds between two collections of garbage that nobody asks for; 0: there are none. */
  readonly collectIntervalMs: number;
  /** Files that may be open at once. */
  readonly openFilesMax: number;
  /** Namespaces that the mount shows; those that are new are made. */
  readonly namespaces: readonly string[];
  /** Owner of the root directories of new namespaces. */
  readonly owner: { uid: number; gid: number };
  readonly journal: JournalTask;
}

/** Lists the namespaces of a store that is not mounted: yields their names. */
export interface NamespacesTask {
  readonly role: 'namespaces';
  readonly engine: number;
  /** File of the Kv. */
  readonly treeFile: string;
}

/** Checks a store that is not mounted: yields a {@link CheckOutcome}. */
export interface CheckTask {
  readonly role: 'check';
  readonly engine: number;
  readonly treeFile: string;
  /** Threads that open every chunk; 0: chunks are only looked for. */
  readonly threads: number;
  readonly repair: boolean;
  /** Owner of directories that a repair makes. */
  readonly owner: { uid: number; gid: number };
  /** Told of {@link UpkeepProgress} meanwhile. */
  readonly port: MessagePort;
}

/** Deletes chunks that no file of a store needs, which is not mounted: yields a {@link SweepOutcome}. */
export interface SweepTask {
  readonly role: 'sweep';
  readonly engine: number;
  readonly treeFile: string;
  readonly graceSeconds: number;
  readonly journal: JournalTask;
  readonly dryRun: boolean;
  readonly port: MessagePort;
}

/** Seals a store that is not mounted anew under the key of its current epoch: yields a {@link ResealOutcome}. */
export interface ResealTask {
  readonly role: 'reseal';
  readonly engine: number;
  readonly treeFile: string;
  /** Threads that seal chunks. */
  readonly threads: number;
  readonly port: MessagePort;
}

/** Counts by epoch what is in a store that is not mounted: yields a {@link CensusOutcome}. */
export interface CensusTask {
  readonly role: 'census';
  readonly engine: number;
  readonly treeFile: string;
  readonly threads: number;
  /** Open all of each chunk rather than authenticate its head. */
  readonly deep: boolean;
  readonly port: MessagePort;
}

/** Reads or replays the recovery journals of a store that is not mounted: yields a {@link RecoverOutcome}. */
export interface RecoverTask {
  readonly role: 'recover';
  readonly engine: number;
  readonly treeFile: string;
  readonly journal: JournalTask;
  readonly action: 'show' | 'replay' | 'export';
  /** Directory that 'export' writes to. */
  readonly target: string;
  readonly owner: { uid: number; gid: number };
  readonly port: MessagePort;
}

/** What was found or done. */
export type RecoverOutcome =
  | { readonly journals: readonly ShownJournal[] }
  | { readonly notices: readonly ReplayNotice[] }
  | { readonly exported: readonly ExportedFile[] };

/** How far a check, a sweep, a reseal or a census is. */
export interface UpkeepProgress {
  readonly records: number;
  readonly chunks: number;
  readonly chunksTotal: number;
  readonly bytes: number;
}

/** Why the tree could not be read at all. */
export interface UpkeepFailure {
  readonly failure: string;
}

/** What a check found. */
export interface CheckOutcome {
  readonly findings: readonly ReportedFinding[];
  /** How many there are of each code, those that are not among `findings` included. */
  readonly counts: Readonly<Record<string, number>>;
  /** What is wrong still, when all was done. */
  readonly left: number;
  readonly inodes: number;
  readonly names: number;
  readonly chunks: Omit<ScrubReport, 'named' | 'damaged'>;
}

/** How a collection of garbage in a mount ended. */
export type CollectionOutcome = { readonly swept: SweepReport } | { readonly failure: string };

/** What a sweep did; it does nothing to a tree that has findings, nor while a journal waits that cannot be read. */
export type SweepOutcome =
  | { readonly journal: string }
  | { readonly findings: number }
  | { readonly swept: SweepReport; readonly orphans: number };

/** What a reseal did; where a value does not open, nothing. */
export type ResealOutcome =
  | { readonly chunks: ResealReport; readonly values: number }
  | { readonly damagedValue: string };

/** Under which keys a store is sealed: chunks and values of the tree. */
export interface CensusOutcome {
  readonly chunks: CensusReport;
  /** Values by epoch, in order. */
  readonly values: readonly { readonly epoch: number; readonly values: number }[];
  /** Values that no key at hand opens. */
  readonly unopenedValues: number;
}

export type WorkerTask =
  | DataTask
  | TreeTask
  | NamespacesTask
  | CheckTask
  | SweepTask
  | ResealTask
  | CensusTask
  | RecoverTask;

/** Main thread → tree worker. */
export type TreeOrder =
  /** Settle and commit everything, make it durable, and say how that went. */
  | { type: 'drain' }
  /** Collect garbage, and say how that went under the same number. */
  | { type: 'collect'; number: number; graceSeconds: number; dryRun: boolean }
  /** Seal what is not in the store into a journal, and say how that went; only `close` may follow. */
  | { type: 'journal'; errno: number; cause: string; lost: number[]; limitMs: number }
  /** Let go of the Kv; the last order. */
  | { type: 'close' };

/** Tree worker → main thread. */
export type TreeReport =
  | { type: 'ready' }
  /** errno 0: all is durable. Else these inodes are not. */
  | { type: 'drained'; errno: number; inodes: number[] }
  /** The journal, or why there is none, or neither: nothing was left; inodes whose data is not in it. */
  | { type: 'journaled'; file?: string; error?: string; lost: readonly number[] }
  | { type: 'closed'; error?: string }
  | { type: 'collected'; number: number; outcome: CollectionOutcome }
  /** What became of the journals that waited; comes before 'ready', where there were any. */
  | { type: 'replayed'; notices: ReplayNotice[] }
  /** A record of the tree cannot be read. */
  | { type: 'damaged'; what: string }
  /** Programs have reached a bound: which, and what to do. */
  | { type: 'limit'; what: string };
