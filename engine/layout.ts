// Generated from native/layout/src/lib.rs by `npm run layout`. Do not edit: a test compares the two.
// What the shared memory looks like is drawn there.

/** A word is 32 bits: what a command, a descriptor and most cells are made of. */
export const WORD_BYTES = 4;
/** Bytes of one frame: the largest payload of one FUSE request. */
export const FRAME_BYTES = 1_048_576;
/** Frames of one slab shard: a `SharedArrayBuffer` view is at most 4 GiB, so shards are 2 GiB. */
export const SHARD_FRAMES = 2048;
/** Bytes of a region: the unit that one worker owns (region 0: the tree worker, so that small files need no other), and the largest chunk of format v1. */
export const REGION_BYTES = 4_194_304;
/** Bytes of plaintext that are sealed together: the unit of random reads. */
export const SEGMENT_BYTES = 16384;
/** The largest file content that lives in the tree instead of in a chunk, in bytes. */
export const INLINE_BYTES = 4096;
/** Bytes of a chunk id (BLAKE3). */
export const CHUNK_ID_BYTES = 32;
/** Packed payloads start at multiples of this inside a frame, in bytes: one behind the other, so that a stream of small writes stays one piece. */
export const PACK_BYTES = 1;
/** "No frame", "no request", "no slot". */
export const NONE = 0xffff_ffff;
/** The most data workers of one mount; the tree worker comes on top. */
export const DATA_WORKERS_MAX = 31;
/** Bytes of one descriptor: one cache line. */
export const DESCRIPTOR_BYTES = 64;
/** Descriptors that one ring holds; a power of two. */
export const RING_SLOTS = 16384;
/** Descriptors that fronts may have queued on one ring: the other half belongs to workers and movers. */
export const RING_FRONT_SLOTS = 8192;
/** Bytes before the first descriptor of a ring: tail, head and parked words on cache lines of their own. */
export const RING_HEADER_BYTES = 256;
/** Offset of the tail (next ticket of the producers) in the ring header. */
export const RING_TAIL = 0;
/** Offset of the head (first slot that is not consumed) in the ring header. */
export const RING_HEAD = 64;
/** Offset of the parked word (1: the consumer sleeps and must be woken) in the ring header. */
export const RING_PARKED = 128;
/** Bytes of one ring with its header. */
export const RING_BYTES = 1_048_832;
/** Bytes of the control header. */
export const HEADER_BYTES = 4096;
/** Request slots: what the kernel waits for. */
export const REQUEST_SLOTS = 4096;
/** Bytes of one request slot. */
export const REQUEST_BYTES = 64;
/** Bytes of a request's body that its slot holds; the rest of a longer body lies in a frame. */
export const REQUEST_BODY_BYTES = 1024;
/** Inode slots: inodes that are open (or still have data on its way) in this mount. */
export const INODE_SLOTS = 65_536;
/** Bytes of one inode slot. */
export const INODE_BYTES = 64;
/** Bytes of one frame count (u32): pieces and holders that keep a frame from being reused. */
export const FRAME_COUNT_BYTES = 4;
/** Worker index of the tree worker; data worker n has index n + 1. */
export const TREE_WORKER = 0;
/** Words of a worker's command buffer. */
export const COMMAND_WORDS = 65_536;
/** Bytes of a worker's out buffer: answers of metadata requests. */
export const OUT_BYTES = 4_194_304;

export const descriptor = {
  /** Ring protocol: ticket + 1 when published. */
  SEQUENCE: 0,
  /** One of [`super::kind`]. */
  KIND: 1,
  /** Inode slot. */
  INODE: 2,
  /** Request slot, frame, job or worker: see the kind. */
  A: 3,
  /** Byte offset in the file, as f64 in words 4 and 5. */
  OFFSET: 4,
  /** Length in bytes. */
  LENGTH: 6,
  /** Offset in the frame or in the chunk, in bytes: see the kind. */
  B: 7,
  /** First of eight words: a chunk id or further arguments. */
  PAYLOAD: 8,
  /** Words of a descriptor. */
  WORDS: 16,
} as const;

export const kind = {
  /** front → data: payload of a WRITE. A: frame, B: offset in the frame. The receiver owns one count of the frame. */
  PIECE: 1,
  /** front → data: A: request, PAYLOAD[0]: frame to assemble in or NONE, PAYLOAD[1]: offset in that frame. */
  READ: 2,
  /** front → data: make everything of the inode that came before durable, then count the request down. A: request. B: how many workers are asked. */
  SYNC: 3,
  /** tree → data: discard the bytes OFFSET..OFFSET+PAYLOAD f64 of the inode (truncate, punch), then acknowledge. A: token. */
  DISCARD: 4,
  /** tree → data: forget the inode slot (settling what is dirty first unless B is 1), then acknowledge. A: token. */
  DROP: 5,
  /** data → tree: patch this extent into the file. A: chunk length, B: offset in the chunk, PAYLOAD: chunk id. */
  EXTENT: 6,
  /** tree → data: the region at OFFSET is answered. B: errno or 0, LENGTH: inline bytes in the inode's cell, A: 1 when the region is inline. */
  LOADED: 7,
  /** mover → data: settle job A is done. B: errno or 0, PAYLOAD: chunk id. */
  SETTLED: 8,
  /** front → data: frames are short: settle and free what can be. */
  PRESSURE: 9,
  /** front → tree: A: request. */
  REQUEST: 10,
  /** front, last data worker → tree: commit the inode, then answer the request. A: request. */
  COMMIT: 11,
  /** data → tree: which extents has the region at OFFSET? A: worker. */
  QUERY: 12,
  /** data → tree: the inode's inline cell holds LENGTH bytes that replace region 0; acknowledge with INLINED. */
  INLINE: 13,
  /** tree → data: the inline cell is free again. */
  INLINED: 14,
  /** data → tree: DISCARD or DROP is done. A: token, B: errno or 0. */
  ACK: 15,
  /** mover → tree: the store's barrier is done, or the jobs that a QUIESCE waits for. A: token, B: errno or 0. */
  SYNCED: 16,
  /** tree → data: start settling what is dirty of every inode (autocommit, unmount), acknowledge when done. A: token. */
  SETTLE_ALL: 17,
  /** tree → data: one extent of the region that was asked for, in the words of EXTENT. */
  KNOWN: 18,
  /** tree → data: store what is dirty of the inode, forget what is known of its content, then acknowledge: the tree is about to change it, or has. A: token. */
  RELOAD: 19,
  /** front → tree: the kernel holds the inode of the number in OFFSET no longer. */
  FORGET: 20,
  /** front → tree: a WRITE took these privileges (bits of PRIVILEGES, in A) from the inode. */
  STRIP: 21,
  /** tree → data: acknowledge when everything before is done, jobs of movers aside. A: token. */
  FENCE: 22,
} as const;

export const command = {
  /** request, errno or 0, offset in the worker's out buffer, bytes (ignored with an errno) */
  REPLY: 1,
  /** frame: count one owner more (the worker owns one already) */
  HOLD: 2,
  /** request: give the slot back, the kernel wants no answer */
  RELEASE_REQUEST: 3,
  /** frame: give one count back */
  FREE: 4,
  /** worker, then the words 1..15 of the descriptor */
  PUSH: 5,
  /** job, in place (1) or from a copy (0), bytes, source count, then the sources */
  SETTLE: 6,
  /** request, frame or NONE, offset in the frame, bytes, urgent (1: here and now), source count, then the sources */
  READ: 7,
  /** request, errno: one part of a SYNC is done; the last one sends COMMIT to the tree worker. Then the inode slot. */
  SYNC_DONE: 8,
  /** inode slot, offset in the cell, source count, then the sources: gather into the inline cell, here and now */
  INLINE: 9,
  /** token: make what is stored durable, then send SYNCED to this worker */
  SYNC_STORE: 10,
  /** request, errno: a part of a READ that is assembled in a frame has failed */
  FAIL_PART: 11,
  /** token: when movers have done every job of before, send SYNCED to this worker */
  QUIESCE: 12,
} as const;

export const source = {
  /** frame, offset, bytes */
  FRAME: 1,
  /** offset in the chunk, bytes, eight words of chunk id */
  CHUNK: 2,
  /** inode slot, offset, bytes */
  INLINE: 3,
  /** bytes of zeros */
  ZERO: 4,
} as const;

export const header = {
  /** 1: every thread leaves its loop. */
  STOP: 0,
  /** errno of the store while puts fail, else 0. */
  STORE_ERRNO: 4,
  /** Frames that are free now. */
  FREE_FRAMES: 8,
  /** Bumped whenever a frame or request becomes free while a front waits: the futex that fronts wait on. */
  FREED: 12,
  /** Fronts that wait on FREED. */
  FRONTS_WAITING: 16,
  /** 1: a PRESSURE episode is announced. */
  PRESSURE: 20,
  /** 1: a thread died; the mount is going down. */
  FAILED: 24,
  /** Settle jobs that movers have not finished: frames will come free. */
  SETTLING: 28,
  /** Inodes without a name that somebody may hold: while there are none, nobody wants to know what the kernel forgets. */
  ORPHANS: 32,
  /** 1: the store is full, and garbage is being collected: who gets no frame waits, as if the store were slow. */
  MAKING_ROOM: 36,
  /** Counters from here on are u64, each on a line of its own. Bytes that programs wrote. */
  BYTES_IN: 64,
  /** Bytes of plaintext hashed and sealed. */
  BYTES_SEALED: 128,
  /** Bytes of objects stored (deduplicated ones are not). */
  BYTES_STORED: 192,
  /** Bytes of plaintext that were in the store already. */
  BYTES_DEDUPLICATED: 256,
  /** Bytes that programs read. */
  BYTES_OUT: 320,
  /** Requests that fronts took from the kernel. */
  REQUESTS: 384,
} as const;

export const request = {
  /** The kernel's number for the request, u64. */
  UNIQUE: 0,
  /** Descriptor of /dev/fuse that the request was read from. */
  FD: 8,
  /** Parts that are not done yet. */
  PENDING: 12,
  /** First errno of the parts. */
  ERRNO: 16,
  /** FUSE opcode. */
  OPCODE: 20,
  /** Inode that the request is about, f64. */
  NODE: 24,
  /** Caller. */
  UID: 32,
  /** Caller's group. */
  GID: 36,
  /** Caller's process. */
  PID: 40,
  /** Bytes of the whole body. */
  BODY_LENGTH: 44,
  /** Frame with the body's bytes from `REQUEST_BODY_BYTES` on, or NONE. */
  FRAME: 48,
  /** Offset of those bytes in the frame. */
  FRAME_OFFSET: 52,
  /** Bytes of the answer that is being assembled in FRAME (READ across regions). */
  ANSWER_LENGTH: 56,
} as const;

export const privilege = {
  /** The set-user-id bit, or set-group-id with group execution: a WRITE by who lacks `CAP_FSETID` takes it. */
  SET_ID: 1,
  /** Capabilities in an extended attribute: every WRITE takes them. */
  CAPABILITY: 2,
} as const;

export const inode = {
  /** Inode number, f64; 0 when the slot is free. */
  INO: 0,
  /** File size in bytes, f64 (its bits order like a u64, so fronts raise it with `fetch_max`). */
  SIZE: 8,
  /** Last modification, u64: seconds << 30 | nanoseconds. */
  MTIME: 16,
  /** Workers that received a piece since the slot was taken: bit n is the worker of ring n. u32. */
  TOUCHED: 24,
  /** First errno of a failed settle that no fsync or close has reported yet. u32. */
  ERRNO: 28,
  /** Content or size changed since the last commit: bumped by every WRITE. u32. */
  WRITES: 32,
  /** 1 once the slot was ever taken. u32. */
  USED: 36,
  /** Size in bytes when the slot was taken, f64: regions behind it are empty until this mount writes them. */
  STORED: 40,
  /** What a WRITE takes from the inode: bits of [`super::privilege`]. u32. */
  PRIVILEGES: 48,
  /** Bytes that programs wrote since the slot was taken, u64. */
  WRITTEN: 56,
} as const;

/** Sizes of a mount and the offsets that native/layout works out for them; for tests. */
export const controlExamples = [
  {
    frames: 64,
    dataWorkers: 1,
    requests: 4096,
    bodies: 266_240,
    inodes: 4_460_544,
    rings: 8_658_944,
    bytes: 10_756_608,
  },
  {
    frames: 1024,
    dataWorkers: 2,
    requests: 4096,
    bodies: 266_240,
    inodes: 4_460_544,
    rings: 8_658_944,
    bytes: 11_805_440,
  },
  {
    frames: 1025,
    dataWorkers: 2,
    requests: 4096,
    bodies: 266_240,
    inodes: 4_460_544,
    rings: 8_663_040,
    bytes: 11_809_536,
  },
  {
    frames: 256,
    dataWorkers: 4,
    requests: 4096,
    bodies: 266_240,
    inodes: 4_460_544,
    rings: 8_658_944,
    bytes: 13_903_104,
  },
  {
    frames: 2049,
    dataWorkers: 7,
    requests: 4096,
    bodies: 266_240,
    inodes: 4_460_544,
    rings: 8_667_136,
    bytes: 17_057_792,
  },
  {
    frames: 65_536,
    dataWorkers: 31,
    requests: 4096,
    bodies: 266_240,
    inodes: 4_460_544,
    rings: 8_916_992,
    bytes: 42_479_616,
  },
] as const;
