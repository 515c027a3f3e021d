/**
 * An asynchronous step that many ask for and nobody needs alone: whoever asks while it runs waits for one further run,
 * which begins behind everything that they did before.
 *
 * Threads: one thread uses one SharedRun.
 */
export class SharedRun {
  readonly #step: () => Promise<void>;
  #running: Promise<void> | undefined;
  #queued: Promise<void> | undefined;

  constructor(step: () => Promise<void>) {
    this.#step = step;
  }

  /** Resolves when a run that began after this call has ended; rejects with what it failed with. */
  run(): Promise<void> {
    if (this.#running === undefined) return this.#start();
    if (this.#queued === undefined) {
      const start = (): Promise<void> => this.#start();
      this.#queued = this.#running.then(start, start);
    }
    return this.#queued;
  }

  /** Resolves, however they ended, when nothing runs any more of what was asked for until now. */
  async idle(): Promise<void> {
    await (this.#queued ?? this.#running)?.catch(() => {});
  }

  #start(): Promise<void> {
    this.#queued = undefined;
    const running = this.#step();
    this.#running = running;
    // While another one is queued, the ended one stays: nobody may start beside it.
    const ended = (): void => {
      if (this.#queued === undefined) this.#running = undefined;
    };
    running.then(ended, ended);
    return running;
  }
}
