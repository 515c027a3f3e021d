import { getSystemErrorName } from 'node:util';
import type { SharedMemory } from '../../../engine/shared-memory.ts';
import { takeSnapshot } from '../../../engine/snapshot.ts';
import type { TreeDigest, TreeHasher } from '../../../engine/tree/hasher.ts';
import type { Tree } from '../../../engine/tree/tree.ts';
import type { Result } from '../../../engine/tree/types.ts';
import { VERSION } from '../../../engine/version.ts';
import type { Answer } from '../answer.ts';
import type { Outcome } from '../request.ts';
import type { Control } from './control.ts';

/** What the control files need of the tree worker. */
export interface ControlHost {
  readonly isDirty: boolean;
  /** Inodes that are open, and those of which something is not in the tree yet. */
  countInodes(): { open: number; dirty: number };
  /** How collections of garbage go. */
  collectionStatus(): object;
  /** Settles and commits everything, makes it durable, then calls `done`. In a turn. */
  settleAll(done: (errno: number) => void): void;
  answerLater(slot: number, write: (answer: Answer) => Outcome): void;
}

/** What a {@link MountControl} is made of. */
export interface MountControlOptions {
  memory: SharedMemory;
  tree: Tree;
  digest: TreeDigest;
  host: ControlHost;
  wake: () => void;
}

/** How long one step of hashing may take, in milliseconds. */
const STEP_MS = 2;

/** The mount as its control files show it: how commits went, counters, hashes of trees. */
export class MountControl implements Control {
  readonly #options: MountControlOptions;
  /** Made when it is first asked: until then nothing has to watch for changes. */
  #hasher: TreeHasher | undefined;
  #lastError = '';
  #lastCommit: string | null = null;

  constructor(options: MountControlOptions) {
    this.#options = options;
  }

  get isDirty(): boolean {
    return this.#options.host.isDirty;
  }

  get lastError(): string {
    return this.#lastError;
  }

  commitEverything(done: (errno: number) => void): void {
    this.#options.host.settleAll(done);
  }

  /** A commit of everything has ended. */
  committed(errno: number): void {
    if (errno === 0) {
      this.#lastError = '';
      return;
    }
    const { dirty } = this.#options.host.countInodes();
    const what = `not everything could be stored (files: ${dirty}); it is kept and tried again`;
    this.#lastError = `${getSystemErrorName(-errno)}: ${what}\n`;
  }

  /** What was committed is durable. */
  synced(): void {
    this.#lastCommit = new Date().toISOString();
  }

  hash(root: number, done: (result: Result<Uint8Array>) => void): void {
    const { tree, digest, wake } = this.#options;
    this.#hasher ??= tree.newHasher(digest, wake);
    this.#hasher.ask(root, done);
  }

  /** Whether a hash is being made. */
  get isHashing(): boolean {
    return this.#hasher?.isBusy === true;
  }

  /** Goes on with the hash that is being made, for a moment; true: there is more to do now. */
  hashSome(): boolean {
    return this.#hasher?.work(STEP_MS) === true;
  }

  status(namespace: string): object {
    const { memory, tree, host } = this.#options;
    const seen = takeSnapshot(memory);
    const { open, dirty } = host.countInodes();
    return {
      version: VERSION,
      namespace,
      dirty: host.isDirty,
      inodes: tree.statistics().inodes,
      openInodes: open,
      dirtyInodes: dirty,
      frames: { used: seen.framesTotal - seen.framesFree, total: seen.framesTotal },
      bytes: {
        in: seen.bytesIn,
        out: seen.bytesOut,
        sealed: seen.bytesSealed,
        stored: seen.bytesStored,
        deduplicated: seen.bytesDeduplicated,
      },
      requests: seen.requests,
      gc: host.collectionStatus(),
      lastCommit: this.#lastCommit,
      lastError: this.#lastError === '' ? null : this.#lastError.trimEnd(),
    };
  }

  answerLater(slot: number, write: (answer: Answer) => Outcome): void {
    this.#options.host.answerLater(slot, write);
  }
}
