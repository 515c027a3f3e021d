/** Measures how long a worker's JavaScript takes: for `npm run bench`, not for tests. */

/** Sums the time between turns. With `MILLRACE_METER=1` in the environment it says so when the worker ends. */
export class Meter {
  readonly #name: string;
  #since = 0;
  #micros = 0;
  #turns = 0;
  #descriptors = 0;

  private constructor(name: string) {
    this.#name = name;
  }

  /** A meter, or undefined when nobody asked for one. */
  static ofEnvironment(name: string): Meter | undefined {
    return process.env['MILLRACE_METER'] === '1' ? new Meter(name) : undefined;
  }

  /** A turn has handed over this many descriptors: JavaScript begins. */
  begin(descriptors: number): void {
    this.#turns += 1;
    this.#descriptors += descriptors;
    this.#since = performance.now();
  }

  /** JavaScript has handed over its commands. */
  end(): void {
    this.#micros += (performance.now() - this.#since) * 1000;
  }

  /** Prints one JSON line on stderr. */
  report(): void {
    const each = this.#descriptors === 0 ? 0 : this.#micros / this.#descriptors;
    const line = {
      worker: this.#name,
      turns: this.#turns,
      descriptors: this.#descriptors,
      microsPerDescriptor: Number(each.toFixed(2)),
    };
    process.stderr.write(`${JSON.stringify(line)}\n`);
  }
}
