/** Which regions a worker remembers, and in what state they are. */
import { inode as inodeCell, REGION_BYTES } from '../../engine/layout.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import { LinkedList } from './links.ts';
import { type PieceList, pieceLists } from './pieces.ts';
import { Pool } from './pool.ts';
import { Region } from './region.ts';

/** Regions of one inode that a worker remembers without need. */
const REGIONS_KEPT = 4096;
/** Objects of forgotten regions that are kept for new ones. */
const REGIONS_POOLED = 4096;

/** What a worker knows of one inode slot. */
export class InodeRegions {
  readonly slot: number;
  readonly regions: Map<number, Region> = new Map();
  /** Regions that are not settled. */
  readonly active: LinkedList<Region> = new LinkedList();
  /** Regions from this index on that are not in `regions` are empty in the store. */
  emptyFrom: number;
  /** How many regions there may be before idle ones are looked for. */
  pruneAt: number = REGIONS_KEPT;
  /** Behind the last region that was ever in `regions`. */
  #end = 0;

  constructor(slot: number, emptyFrom: number) {
    this.slot = slot;
    this.emptyFrom = emptyFrom;
  }

  /** Remembers a region that begins. */
  add(region: Region): void {
    this.regions.set(region.index, region);
    this.#end = Math.max(this.#end, region.index + 1);
  }

  /**
   * The remembered regions from `first` (inclusive) to `end` (exclusive, may be Infinity). Cost: those that lie there,
   * remembered or not, or those that are remembered, whichever are fewer.
   */
  between(first: number, end: number): Region[] {
    const found: Region[] = [];
    const behind = Math.min(end, this.#end);
    if (behind - first < this.regions.size) {
      for (let index = first; index < behind; index++) {
        const region = this.regions.get(index);
        if (region !== undefined) found.push(region);
      }
    } else {
      for (const region of this.regions.values()) {
        if (region.index >= first && region.index < behind) found.push(region);
      }
    }
    return found;
  }
}

/** The regions of one worker. Objects of forgotten regions are used again. Threads: its worker's own. */
export class RegionTable {
  readonly #memory: SharedMemory;
  readonly #inodes = new Map<number, InodeRegions>();
  readonly #lists: Pool<PieceList> = pieceLists();
  readonly #regions = new Pool<Region>(REGIONS_POOLED, () => new Region(this.#lists));
  /** Regions with dirty bytes that no job has, in the order in which they became dirty. */
  readonly dirty: LinkedList<Region> = new LinkedList();
  /** Regions with clean pieces, whose frames can be had at any time. */
  readonly clean: LinkedList<Region> = new LinkedList();
  /** Regions whose last settle failed. */
  readonly failing: Set<Region> = new Set();

  constructor(memory: SharedMemory) {
    this.#memory = memory;
  }

  /** All inodes that the worker knows. */
  inodes(): Iterable<InodeRegions> {
    return this.#inodes.values();
  }

  /** What is known of an inode slot, if anything. */
  inode(slot: number): InodeRegions | undefined {
    return this.#inodes.get(slot);
  }

  /** A region that is remembered, if it is. */
  find(slot: number, index: number): Region | undefined {
    return this.#inodes.get(slot)?.regions.get(index);
  }

  /** A region, remembered from now on. */
  region(slot: number, index: number): Region {
    const inode = this.#inodes.get(slot) ?? this.#addInode(slot);
    return inode.regions.get(index) ?? this.#addRegion(inode, index);
  }

  #addInode(slot: number): InodeRegions {
    const stored = this.#memory.doubles[this.#memory.inodeWord(slot, inodeCell.STORED) >>> 1];
    const inode = new InodeRegions(slot, Math.ceil(stored / REGION_BYTES));
    this.#inodes.set(slot, inode);
    return inode;
  }

  #addRegion(inode: InodeRegions, index: number): Region {
    if (inode.regions.size >= inode.pruneAt) this.#prune(inode);
    const region = this.#regions.take();
    region.begin(inode, index);
    if (index >= inode.emptyFrom) region.becomesHole();
    inode.add(region);
    return region;
  }

  /**
   * Forgets the oldest regions of an inode that need no work: the tree can tell them again. Looks again only when there
   * are twice as many as it had to leave, so that a new region costs the same however many others are dirty.
   */
  #prune(inode: InodeRegions): void {
    for (const region of inode.regions.values()) {
      if (inode.regions.size <= REGIONS_KEPT / 2) break;
      if (!region.isIdle) continue;
      inode.regions.delete(region.index);
      inode.emptyFrom = Math.max(inode.emptyFrom, region.index + 1);
      this.#recycle(region);
    }
    inode.pruneAt = Math.max(REGIONS_KEPT, 2 * inode.regions.size);
  }

  #recycle(region: Region): void {
    this.rests(region);
    this.clean.remove(region.cleanLink);
    region.inode = undefined;
    this.#regions.give(region);
  }

  /** The region has got dirty bytes. */
  wrote(region: Region): void {
    this.dirty.add(region.dirtyLink);
    region.inode?.active.add(region.activeLink);
  }

  /** The region has nothing to store. */
  rests(region: Region): void {
    region.inode?.active.remove(region.activeLink);
    this.dirty.remove(region.dirtyLink);
    this.failing.delete(region);
  }

  /** Forgets an inode, all of whose regions must be settled and hold neither pieces nor READs. */
  forget(inode: InodeRegions): void {
    for (const region of inode.regions.values()) this.#recycle(region);
    inode.regions.clear();
    this.#inodes.delete(inode.slot);
  }
}
