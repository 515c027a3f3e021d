import type { Result } from '../../../engine/tree/types.ts';
import type { Answer } from '../answer.ts';
import type { Outcome } from '../request.ts';

/** What the virtual files show and do: the mount, as they see it. Threads: the tree worker's. */
export interface Control {
  /** Whether anything is not durable yet. */
  readonly isDirty: boolean;
  /** Why the last commit of everything failed, as a line; empty when it did not. */
  readonly lastError: string;
  /** Makes everything durable; `done` is called outside of this turn, with 0 or an errno. */
  commitEverything(done: (errno: number) => void): void;
  /** Hash of the tree below a directory: at once, or outside of this turn. */
  hash(root: number, done: (result: Result<Uint8Array>) => void): void;
  /** The numbers of the mount, as they are written as JSON. */
  status(namespace: string): object;
  /** Answers a request that was PENDING, outside of a turn. */
  answerLater(slot: number, write: (answer: Answer) => Outcome): void;
}
