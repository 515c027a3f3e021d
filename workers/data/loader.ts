/** Asks the tree worker what is stored of a region: QUERY goes out, KNOWN for each extent and LOADED come back. */
import { descriptor, kind, REGION_BYTES, TREE_WORKER } from '../../engine/layout.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import { type Commands, extentAt, Message, regionAt } from '../commands.ts';
import type { Region } from './region.ts';
import type { InodeRegions, RegionTable } from './region-table.ts';

/** Regions whose content is asked for. Threads: its worker's own. */
export class Loader {
  readonly #words: Uint32Array;
  readonly #commands: Commands;
  readonly #table: RegionTable;
  readonly #message = new Message();
  /** Answers on their way to regions that are forgotten: how many, by slot and region. Whoever comes after asks anew. */
  readonly #stale = new Map<number, number>();

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
    if (this.#stale.size > 0 && this.#stale.has(this.#keyAt(word))) return;
    this.#loading(word)?.arrived.push(extentAt(words, word));
  }

  /** The region that the LOADED at `word` answers; undefined where it is forgotten by now. */
  answered(word: number): Region | undefined {
    return this.#stale.size > 0 && this.#wasStale(word) ? undefined : this.#loading(word);
  }

  /** The inode is forgotten: what is on its way to its regions tells nothing of those that follow. */
  forget(inode: InodeRegions): void {
    for (const region of inode.regions.values()) {
      if (!region.loading) continue;
      const key = keyOf(region.slot, region.index);
      this.#stale.set(key, (this.#stale.get(key) ?? 0) + 1);
    }
  }

  #wasStale(word: number): boolean {
    const key = this.#keyAt(word);
    const answers = this.#stale.get(key);
    if (answers === undefined) return false;
    if (answers > 1) this.#stale.set(key, answers - 1);
    else this.#stale.delete(key);
    return true;
  }

  #keyAt(word: number): number {
    return keyOf(
      this.#words[word + descriptor.INODE],
      regionAt(this.#words, word + descriptor.OFFSET),
    );
  }

  #loading(word: number): Region | undefined {
    const index = regionAt(this.#words, word + descriptor.OFFSET);
    const region = this.#table.find(this.#words[word + descriptor.INODE], index);
    return region?.loading ? region : undefined;
  }
}

/** A number for a region of a slot: region indices are below 2^31. */
function keyOf(slot: number, index: number): number {
  return slot * 0x8000_0000 + index;
}
