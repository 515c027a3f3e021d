/**
 * The shared memory of one mount, as typed arrays. What lies where is generated from native/layout: this file only
 * adds the offsets that depend on the number of frames and workers, as `Control::new` does there.
 */
import {
  DESCRIPTOR_BYTES,
  FRAME_BYTES,
  FRAME_COUNT_BYTES,
  HEADER_BYTES,
  INLINE_BYTES,
  INODE_BYTES,
  INODE_SLOTS,
  REQUEST_BODY_BYTES,
  REQUEST_BYTES,
  REQUEST_SLOTS,
  RING_BYTES,
  RING_HEADER_BYTES,
  RING_SLOTS,
  SHARD_FRAMES,
} from './layout.ts';

/** The buffers that threads pass to each other, and the two numbers that their layout depends on. */
export interface SharedBuffers {
  readonly control: SharedArrayBuffer;
  readonly shards: readonly SharedArrayBuffer[];
  readonly inline: SharedArrayBuffer;
  readonly frames: number;
  readonly dataWorkers: number;
  /** Bytes before the control block in its buffer, so that it starts on a cache line. */
  readonly controlSkip: number;
  /** Bytes before the first frame of each shard, so that frames start on a huge page. */
  readonly shardSkips: readonly number[];
}

/** Slack of each buffer: frames start at the next 2 MiB, the control block at a cache line. */
const ALIGN_BYTES = 2 * 1024 * 1024;
const PAGE_BYTES = 4096;
const CACHE_LINE_BYTES = 64;

/** Byte offsets in the control block. */
export interface ControlOffsets {
  readonly requests: number;
  readonly bodies: number;
  readonly inodes: number;
  readonly rings: number;
  readonly bytes: number;
}

/** Where everything lies for this many frames and data workers; `Control::new` of native/layout, asserted by a test. */
export function controlOffsets(frames: number, dataWorkers: number): ControlOffsets {
  const requests = HEADER_BYTES;
  const bodies = requests + REQUEST_SLOTS * REQUEST_BYTES;
  const inodes = bodies + REQUEST_SLOTS * REQUEST_BODY_BYTES;
  const counts = inodes + INODE_SLOTS * INODE_BYTES;
  const rings = Math.ceil((counts + frames * FRAME_COUNT_BYTES) / PAGE_BYTES) * PAGE_BYTES;
  return { requests, bodies, inodes, rings, bytes: rings + (dataWorkers + 1) * RING_BYTES };
}

/**
 * Allocates the shared memory of a mount: `frames` frames and what `dataWorkers` workers need.
 * `skip` tells how many bytes a view lies before the next multiple of an alignment (only native code sees addresses).
 */
export function allocateBuffers(size: {
  frames: number;
  dataWorkers: number;
  skip: (view: Uint8Array, alignment: number) => number;
}): SharedBuffers {
  const { frames, dataWorkers } = size;
  const shards: SharedArrayBuffer[] = [];
  for (let first = 0; first < frames; first += SHARD_FRAMES) {
    const count = Math.min(SHARD_FRAMES, frames - first);
    shards.push(new SharedArrayBuffer(count * FRAME_BYTES + ALIGN_BYTES));
  }
  const control = new SharedArrayBuffer(controlOffsets(frames, dataWorkers).bytes + PAGE_BYTES);
  return {
    control,
    shards,
    inline: new SharedArrayBuffer(INODE_SLOTS * INLINE_BYTES),
    frames,
    dataWorkers,
    controlSkip: size.skip(new Uint8Array(control), CACHE_LINE_BYTES),
    shardSkips: shards.map((shard) => size.skip(new Uint8Array(shard), ALIGN_BYTES)),
  };
}

/** One thread's views over the shared memory. */
export class SharedMemory {
  readonly buffers: SharedBuffers;
  readonly offsets: ControlOffsets;
  /** The control block from its first byte. */
  readonly control: Uint8Array;
  readonly words: Uint32Array;
  readonly signed: Int32Array;
  readonly doubles: Float64Array;
  readonly inline: Uint8Array;

  constructor(buffers: SharedBuffers) {
    this.buffers = buffers;
    this.offsets = controlOffsets(buffers.frames, buffers.dataWorkers);
    const bytes = this.offsets.bytes;
    const skip = buffers.controlSkip;
    this.control = new Uint8Array(buffers.control, skip, bytes);
    this.words = new Uint32Array(buffers.control, skip, bytes / 4);
    this.signed = new Int32Array(buffers.control, skip, bytes / 4);
    this.doubles = new Float64Array(buffers.control, skip, Math.floor(bytes / 8));
    this.inline = new Uint8Array(buffers.inline);
  }

  /** Views as the addon takes them. */
  views(): { control: Uint8Array; shards: Uint8Array[]; inline: Uint8Array } {
    return {
      control: this.control,
      shards: this.buffers.shards.map((shard) => new Uint8Array(shard)),
      inline: this.inline,
    };
  }

  /** Index in `words` of the descriptor of `ticket` on a worker's ring. */
  descriptorWord(worker: number, ticket: number): number {
    const slot = ticket & (RING_SLOTS - 1);
    const ring = this.offsets.rings + worker * RING_BYTES + RING_HEADER_BYTES;
    return (ring + slot * DESCRIPTOR_BYTES) >>> 2;
  }

  /** Index in `words` of a request slot's cell. */
  requestWord(slot: number, cell: number): number {
    return (this.offsets.requests + slot * REQUEST_BYTES + cell) >>> 2;
  }

  /** Byte offset of a request's body in `control`. */
  bodyByte(slot: number): number {
    return this.offsets.bodies + slot * REQUEST_BODY_BYTES;
  }

  /** Index in `words` of an inode slot's cell; half of it is the index in `doubles`. */
  inodeWord(slot: number, cell: number): number {
    return (this.offsets.inodes + slot * INODE_BYTES + cell) >>> 2;
  }

  /** The inline cell of an inode slot. */
  inlineCell(slot: number, bytes: number): Uint8Array {
    return this.inline.subarray(slot * INLINE_BYTES, slot * INLINE_BYTES + bytes);
  }

  /** The first bytes of a frame. Frames lie behind the shard's first 2 MiB border, which `shardSkips` knows. */
  frameBytes(frame: number, bytes: number): Uint8Array {
    const shard = Math.floor(frame / SHARD_FRAMES);
    const skip = this.buffers.shardSkips[shard];
    const at = skip + (frame % SHARD_FRAMES) * FRAME_BYTES;
    return new Uint8Array(this.buffers.shards[shard], at, bytes);
  }
}
