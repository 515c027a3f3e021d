/** A line on a terminal that says how far something is. */
import type { UpkeepProgress } from '../engine/store-upkeep.ts';

const MIB = 2 ** 20;
const ERASE_LINE = '\r\u001b[K';

/** Shows progress on stderr where that is a terminal; elsewhere nothing. */
export class ProgressLine {
  readonly #isTerminal = process.stderr.isTTY;
  #isShown = false;

  /** `verb` is what is done to the bytes. */
  show({ records, chunks, chunksTotal, bytes }: UpkeepProgress, verb = 'opened'): void {
    if (!this.#isTerminal) return;
    this.#isShown = true;
    const tree = `${records} records`;
    const opened = bytes > 0 ? `, ${Math.floor(bytes / MIB)} MiB ${verb}` : '';
    const store = chunksTotal > 0 ? `, ${chunks} of ${chunksTotal} chunks${opened}` : '';
    process.stderr.write(`${ERASE_LINE}${tree}${store}`);
  }

  /** Takes the line away. */
  end(): void {
    if (this.#isShown) process.stderr.write(ERASE_LINE);
    this.#isShown = false;
  }
}
