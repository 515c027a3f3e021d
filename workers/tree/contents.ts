/**
 * Tells data workers what a region holds: their QUERY is answered by a KNOWN for each extent, then LOADED.
 *
 * What counts is what the tree has, under all that is pending of the inode, in order.
 */
import { constants } from 'node:os';
import { kind, REGION_BYTES } from '../../engine/layout.ts';
import type { SharedMemory } from '../../engine/shared-memory.ts';
import { patchExtents } from '../../engine/tree/content.ts';
import type { Tree } from '../../engine/tree/tree.ts';
import type { Extent } from '../../engine/tree/types.ts';
import { type Commands, Message } from '../commands.ts';
import type { Slots } from './slots.ts';

/** Content of open inodes, as of now. Threads: the tree worker's own. */
export class Contents {
  readonly #memory: SharedMemory;
  readonly #commands: Commands;
  readonly #tree: Tree;
  readonly #slots: Slots;
  readonly #message = new Message();

  constructor(memory: SharedMemory, commands: Commands, parts: { tree: Tree; slots: Slots }) {
    this.#memory = memory;
    this.#commands = commands;
    this.#tree = parts.tree;
    this.#slots = parts.slots;
  }

  /** Answers a data worker that asks for the region at a byte offset. */
  query(slot: number, offset: number, worker: number): void {
    const open = this.#slots.bySlot(slot);
    const index = Math.floor(offset / REGION_BYTES);
    const stored = open === undefined ? constants.errno.EBADF : this.#tree.region(open.ino, index);
    if (typeof stored === 'number') {
      return this.#tell(worker, this.#message.begin(kind.LOADED, slot, offset, 0).b(stored));
    }
    let inline = 'inline' in stored ? stored.inline : undefined;
    let extents = 'inline' in stored ? [] : stored.extents;
    for (const change of open?.pending ?? []) {
      if (change.kind === 'inline') {
        if (index !== 0) continue;
        inline = change.bytes;
        extents = [];
      } else if (change.kind === 'discard') {
        extents = patchExtents(extents, change);
        if (inline !== undefined && index === 0) inline = discardInline(inline, change);
      } else if (Math.floor(change.extent.offset / REGION_BYTES) === index) {
        extents = patchExtents(extents, change);
        inline = undefined; // A region is one or the other: who stores extents takes the inline bytes along.
      }
    }
    this.#tellRegion(worker, { slot, offset }, inline, extents);
  }

  #tellRegion(
    worker: number,
    at: { slot: number; offset: number },
    inline: Uint8Array | undefined,
    extents: readonly Extent[],
  ): void {
    const { slot, offset } = at;
    for (const extent of extents) {
      const message = this.#message.begin(kind.KNOWN, slot, extent.offset, extent.length);
      this.#tell(worker, message.a(extent.chunkLength).b(extent.chunkOffset).id(extent.id));
    }
    const bytes = inline?.length ?? 0;
    if (inline !== undefined) this.#memory.inlineCell(slot, bytes).set(inline);
    const isInline = inline === undefined ? 0 : 1;
    this.#tell(worker, this.#message.begin(kind.LOADED, slot, offset, bytes).a(isInline));
  }

  #tell(worker: number, message: Message): void {
    this.#commands.push(worker, message.words);
  }
}

/** Inline bytes after a discard: cut off, or zeroed where bytes follow. */
function discardInline(inline: Uint8Array, change: { offset: number; length: number }): Uint8Array {
  const end = change.offset + change.length;
  if (change.offset >= inline.length) return inline;
  if (end >= inline.length) return inline.slice(0, change.offset);
  const rest = inline.slice();
  rest.fill(0, change.offset, end);
  return rest;
}
