/** Open files of a mount: libfuse's binding has 32 bits for a handle, the engine's own have 64. */
export class Handles {
  readonly #nodes: number[] = [0];
  readonly #low: number[] = [0];
  readonly #high: number[] = [0];
  readonly #free: number[] = [];

  /** The number of a newly opened file, 1 or more, for the engine's handle in two words. */
  open(node: number, low: number, high: number): number {
    const handle = this.#free.pop() ?? this.#nodes.length;
    this.#nodes[handle] = node;
    this.#low[handle] = low;
    this.#high[handle] = high;
    return handle;
  }

  /** Frees a number. */
  close(handle: number): void {
    this.#nodes[handle] = 0;
    this.#free.push(handle);
  }

  /** The inode, or 0 for a number that nobody has open. */
  node(handle: number): number {
    return this.#nodes[handle] ?? 0;
  }

  /** Whether an inode is open. Looks at every handle. */
  isOpen(node: number): boolean {
    return this.#nodes.includes(node);
  }

  low(handle: number): number {
    return this.#low[handle] ?? 0;
  }

  high(handle: number): number {
    return this.#high[handle] ?? 0;
  }
}
