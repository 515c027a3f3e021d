/** What a resident task is told when it starts, and what it says to the main thread. Structured-cloned: plain data. */
import type { MessagePort } from 'node:worker_threads';
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
  /** Namespaces that the mount shows; those that are new are made. */
  readonly namespaces: readonly string[];
  /** Owner of the root directories of new namespaces. */
  readonly owner: { uid: number; gid: number };
}

/** Lists the namespaces of a store that is not mounted: yields their names. */
export interface NamespacesTask {
  readonly role: 'namespaces';
  readonly engine: number;
  /** File of the Kv. */
  readonly treeFile: string;
}

export type WorkerTask = DataTask | TreeTask | NamespacesTask;

/** Main thread → tree worker. */
export type TreeOrder =
  /** Settle and commit everything, make it durable, and say how that went. */
  | { type: 'drain' }
  /** Let go of the Kv; the last order. */
  | { type: 'close' };

/** Tree worker → main thread. */
export type TreeReport =
  | { type: 'ready' }
  /** errno 0: all is durable. Else these inodes are not. */
  | { type: 'drained'; errno: number; inodes: number[] }
  | { type: 'closed'; error?: string }
  /** A record of the tree cannot be read. */
  | { type: 'damaged'; what: string };
