/** Asks the tree worker what is stored of a region: QUERY goes out, KNOWN for each extent and LOADED come back. */
import { descriptor, kind, REGION_BYTES, TREE_WORKER } from '../../engine/layout.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import { type Commands, extentAt, Message, regionAt } from '../commands.ts';
import type { Region } from './region.ts';
import type { RegionTable } from './region-table.ts';

/** Regions whose content is asked for. Threads: its worker's own. */
export class Loader {
  readonly #words: Uint32Array;
  readonly #commands: Commands;
  readonly #table: RegionTable;
  readonly #message = new Message();

  constructor(memory: SharedMemory, commands: Commands, table: RegionTable) {
    this.#words = memory.words;
    this.#commands = commands;
    this.#table = table;
  }

  /** Asks for a region, unless that has been done. */
  load(region: Region): void {
    if (region.loading) return;
    region.load();
    const message = this.#message.begin(kind.QUERY, region.slot, region.offset, REGION_BYTES);
    this.#commands.push(TREE_WORKER, message.a(this.#commands.worker).words);
  }

  /** One extent has arrived; the descriptor begins at `word`. */
  known(word: number): void {
    const words = this.#words;
    const region = this.loading(word);
    if (region === undefined) return;
    region.arrived.push(extentAt(words, word));
  }

  /** The region that the descriptor at `word` is about, if it waits for an answer: it may be forgotten by now. */
  loading(word: number): Region | undefined {
    const index = regionAt(this.#words, word + descriptor.OFFSET);
    const region = this.#table.find(this.#words[word + descriptor.INODE], index);
    return region?.loading ? region : undefined;
  }
}
