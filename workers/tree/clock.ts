/** When the tree worker does unasked what nobody has asked for: commits of dirty data, slots of closed files. */

/** How often it looks after closed files where nothing is committed without being asked, in milliseconds. */
const PERIOD_MS = 5000;

/** A timer that runs once for all who have armed it. Threads: the tree worker's own, on its event loop. */
export class Clock {
  /** Whether dirty data is committed without being asked. */
  readonly commits: boolean;
  readonly #periodMs: number;
  readonly #tick: () => void;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  /** `commitIntervalMs` 0: dirty data waits until it is asked for. */
  constructor(commitIntervalMs: number, tick: () => void) {
    this.commits = commitIntervalMs > 0;
    this.#periodMs = this.commits ? commitIntervalMs : PERIOD_MS;
    this.#tick = tick;
  }

  /** Lets `tick` run in a while, unless it will anyway. */
  arm(): void {
    if (this.#timer !== undefined || this.#stopped) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#tick();
    }, this.#periodMs);
  }

  /** No more ticks, whoever arms it. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  get isStopped(): boolean {
    return this.#stopped;
  }
}
