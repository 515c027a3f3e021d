import { TREE_WORKER } from '../../engine/layout.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import type { Commands, Message } from '../commands.ts';
import type { Barriers } from './barrier.ts';

/**
 * The workers that own regions, as one: the data workers, and the tree worker's own half. What all of them are told
 * they acknowledge with its token. Threads: the tree worker's own.
 */
export class Owners {
  readonly #memory: SharedMemory;
  readonly #commands: Commands;
  readonly #barriers: Barriers;

  constructor(memory: SharedMemory, commands: Commands, barriers: Barriers) {
    this.#memory = memory;
    this.#commands = commands;
    this.#barriers = barriers;
  }

  /** A token for so many messages to each of them; `done` gets the first errno, or 0, when all are acknowledged. */
  expect(messages: number, done: (errno: number) => void): number {
    const count = this.#memory.buffers.dataWorkers + 1;
    return this.#barriers.open(count * messages, done);
  }

  /** Sends a descriptor to each of them. */
  tell(message: Message): void {
    for (let worker = TREE_WORKER; worker <= this.#memory.buffers.dataWorkers; worker++) {
      this.#commands.push(worker, message.words);
    }
  }
}
