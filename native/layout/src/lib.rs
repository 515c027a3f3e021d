//! The one description of every byte that TypeScript and Rust share.
//!
//! Everything here is a number with a unit in its name. `cargo run -p millrace-layout` prints the same
//! numbers as `engine/layout.ts`; a test compares the two, so a drift fails the build.
//!
//! Three kinds of shared memory exist, all of them `SharedArrayBuffer`s that the engine allocates:
//!
//! ```text
//! slab     frames of FRAME_BYTES: plaintext on its way in (one or more shards of SHARD_FRAMES frames)
//! inline   one cell of INLINE_BYTES per inode slot: the content of an open small file
//! control  header | request slots | request bodies | inode slots | frame counts | rings
//! ```

/// One shared number, as the generator sees it.
#[derive(Clone, Copy, Debug)]
pub struct Constant {
    /// Name, the same in both languages.
    pub name: &'static str,
    /// Value, in the unit that its name or text says.
    pub value: u64,
    /// Text of the docstring.
    pub text: &'static str,
}

/// Declares constants and collects them in a `TABLE`, so that the generator cannot miss one.
macro_rules! layout {
    ($( $(#[doc = $text:literal])* $name:ident: $type:ty = $value:expr; )*) => {
        $( $(#[doc = $text])* pub const $name: $type = $value; )*
        /// The constants above, in order.
        pub const TABLE: &[$crate::Constant] = &[
            $( $crate::Constant { name: stringify!($name), value: $name as u64, text: concat!($($text, "\n"),*) }, )*
        ];
    };
}

layout! {
    /// A word is 32 bits: what a command, a descriptor and most cells are made of.
    WORD_BYTES: usize = 4;
    // ---- data ----
    /// Bytes of one frame: the largest payload of one FUSE request.
    FRAME_BYTES: usize = 1 << 20;
    /// Frames of one slab shard: a `SharedArrayBuffer` view is at most 4 GiB, so shards are 2 GiB.
    SHARD_FRAMES: usize = 2048;
    /// Bytes of a region: the unit that one worker owns (region 0: the tree worker, so that small files need no other), and the largest chunk of format v1.
    REGION_BYTES: usize = 4 << 20;
    /// Bytes of plaintext that are sealed together: the unit of random reads.
    SEGMENT_BYTES: usize = 16 << 10;
    /// The largest file content that lives in the tree instead of in a chunk, in bytes.
    INLINE_BYTES: usize = 4096;
    /// Bytes of a chunk id (BLAKE3).
    CHUNK_ID_BYTES: usize = 32;
    /// Packed payloads start at multiples of this inside a frame, in bytes: one behind the other, so that a stream of
    /// small writes stays one piece.
    PACK_BYTES: usize = 1;
    /// "No frame", "no request", "no slot".
    NONE: u32 = 0xffff_ffff;
    // ---- threads ----
    /// The most data workers of one mount; the tree worker comes on top.
    DATA_WORKERS_MAX: usize = 31;
    // ---- descriptors and rings ----
    /// Bytes of one descriptor: one cache line.
    DESCRIPTOR_BYTES: usize = 64;
    /// Descriptors that one ring holds; a power of two.
    RING_SLOTS: usize = 16384;
    /// Descriptors that fronts may have queued on one ring: the other half belongs to workers and movers.
    RING_FRONT_SLOTS: usize = RING_SLOTS / 2;
    /// Bytes before the first descriptor of a ring: tail, head and parked words on cache lines of their own.
    RING_HEADER_BYTES: usize = 256;
    /// Offset of the tail (next ticket of the producers) in the ring header.
    RING_TAIL: usize = 0;
    /// Offset of the head (first slot that is not consumed) in the ring header.
    RING_HEAD: usize = 64;
    /// Offset of the parked word (1: the consumer sleeps and must be woken) in the ring header.
    RING_PARKED: usize = 128;
    /// Bytes of one ring with its header.
    RING_BYTES: usize = RING_HEADER_BYTES + RING_SLOTS * DESCRIPTOR_BYTES;

    /// Bytes of the control header.
    HEADER_BYTES: usize = 4096;

    /// Request slots: what the kernel waits for.
    REQUEST_SLOTS: usize = 4096;
    /// Bytes of one request slot.
    REQUEST_BYTES: usize = 64;
    /// Bytes of a request's body that its slot holds; the rest of a longer body lies in a frame.
    REQUEST_BODY_BYTES: usize = 1024;

    /// Inode slots: inodes that are open (or still have data on its way) in this mount.
    INODE_SLOTS: usize = 65536;
    /// Bytes of one inode slot.
    INODE_BYTES: usize = 64;

    /// Bytes of one frame count (u32): pieces and holders that keep a frame from being reused.
    FRAME_COUNT_BYTES: usize = 4;

    /// Worker index of the tree worker; data worker n has index n + 1.
    TREE_WORKER: usize = 0;
    /// Words of a worker's command buffer.
    COMMAND_WORDS: usize = 65536;
    /// Bytes of a worker's out buffer: answers of metadata requests.
    OUT_BYTES: usize = 4 << 20;
}
/// Words of a descriptor.
pub mod descriptor {
    layout! {
        /// Ring protocol: ticket + 1 when published.
        SEQUENCE: usize = 0;
        /// One of [`super::kind`].
        KIND: usize = 1;
        /// Inode slot.
        INODE: usize = 2;
        /// Request slot, frame, job or worker: see the kind.
        A: usize = 3;
        /// Byte offset in the file, as f64 in words 4 and 5.
        OFFSET: usize = 4;
        /// Length in bytes.
        LENGTH: usize = 6;
        /// Offset in the frame or in the chunk, in bytes: see the kind.
        B: usize = 7;
        /// First of eight words: a chunk id or further arguments.
        PAYLOAD: usize = 8;
        /// Words of a descriptor.
        WORDS: usize = super::DESCRIPTOR_BYTES / super::WORD_BYTES;
    }
}

/// What a descriptor means. The comment names who sends it to whom, and its words.
pub mod kind {
    layout! {
        /// front → data: payload of a WRITE. A: frame, B: offset in the frame. The receiver owns one count of the frame.
        PIECE: u32 = 1;
        /// front → data: A: request, PAYLOAD\[0\]: frame to assemble in or NONE, PAYLOAD\[1\]: offset in that frame.
        READ: u32 = 2;
        /// front → data: make everything of the inode that came before durable, then count the request down. A: request. B: how many workers are asked.
        SYNC: u32 = 3;
        /// tree → data: discard the bytes OFFSET..OFFSET+PAYLOAD f64 of the inode (truncate, punch), then acknowledge. A: token.
        DISCARD: u32 = 4;
        /// tree → data: forget the inode slot (settling what is dirty first unless B is 1), then acknowledge. A: token.
        DROP: u32 = 5;
        /// data → tree: patch this extent into the file. A: chunk length, B: offset in the chunk, PAYLOAD: chunk id.
        EXTENT: u32 = 6;
        /// tree → data: the region at OFFSET is answered. B: errno or 0, LENGTH: inline bytes in the inode's cell, A: 1 when the region is inline.
        LOADED: u32 = 7;
        /// mover → data: settle job A is done. B: errno or 0, PAYLOAD: chunk id.
        SETTLED: u32 = 8;
        /// front → data: frames are short: settle and free what can be.
        PRESSURE: u32 = 9;
        /// front → tree: A: request.
        REQUEST: u32 = 10;
        /// front, last data worker → tree: commit the inode, then answer the request. A: request.
        COMMIT: u32 = 11;
        /// data → tree: which extents has the region at OFFSET? A: worker.
        QUERY: u32 = 12;
        /// data → tree: the inode's inline cell holds LENGTH bytes that replace region 0; acknowledge with INLINED.
        INLINE: u32 = 13;
        /// tree → data: the inline cell is free again.
        INLINED: u32 = 14;
        /// data → tree: DISCARD or DROP is done. A: token, B: errno or 0.
        ACK: u32 = 15;
        /// mover → tree: the store's barrier is done, or the jobs that a QUIESCE waits for. A: token, B: errno or 0.
        SYNCED: u32 = 16;
        /// tree → data: start settling what is dirty of every inode (autocommit, unmount), acknowledge when done. A: token.
        SETTLE_ALL: u32 = 17;
        /// tree → data: one extent of the region that was asked for, in the words of EXTENT.
        KNOWN: u32 = 18;
        /// tree → data: store what is dirty of the inode, forget what is known of its content, then acknowledge: the tree
        /// is about to change it, or has. A: token.
        RELOAD: u32 = 19;
        /// front → tree: the kernel holds the inode of the number in OFFSET no longer.
        FORGET: u32 = 20;
        /// front → tree: a WRITE took these privileges (bits of PRIVILEGES, in A) from the inode.
        STRIP: u32 = 21;
        /// tree → data: acknowledge when everything before is done, jobs of movers aside. A: token.
        FENCE: u32 = 22;
    }
}

/// What a worker asks of the addon, as words in its command buffer: operation, then arguments.
pub mod command {
    layout! {
        /// request, errno or 0, offset in the worker's out buffer, bytes (ignored with an errno)
        REPLY: u32 = 1;
        /// frame: count one owner more (the worker owns one already)
        HOLD: u32 = 2;
        /// request: give the slot back, the kernel wants no answer
        RELEASE_REQUEST: u32 = 3;
        /// frame: give one count back
        FREE: u32 = 4;
        /// worker, then the words 1..15 of the descriptor
        PUSH: u32 = 5;
        /// job, in place (1) or from a copy (0), bytes, source count, then the sources
        SETTLE: u32 = 6;
        /// request, frame or NONE, offset in the frame, bytes, urgent (1: here and now), source count, then the sources
        READ: u32 = 7;
        /// request, errno: one part of a SYNC is done; the last one sends COMMIT to the tree worker. Then the inode slot.
        SYNC_DONE: u32 = 8;
        /// inode slot, offset in the cell, source count, then the sources: gather into the inline cell, here and now
        INLINE: u32 = 9;
        /// token: make what is stored durable, then send SYNCED to this worker
        SYNC_STORE: u32 = 10;
        /// request, errno: a part of a READ that is assembled in a frame has failed
        FAIL_PART: u32 = 11;
        /// token: when movers have done every job of before, send SYNCED to this worker
        QUIESCE: u32 = 12;
    }
}

/// Where bytes come from, in a SETTLE, READ or INLINE command: source kind, then arguments.
pub mod source {
    layout! {
        /// frame, offset, bytes
        FRAME: u32 = 1;
        /// offset in the chunk, bytes, eight words of chunk id
        CHUNK: u32 = 2;
        /// inode slot, offset, bytes
        INLINE: u32 = 3;
        /// bytes of zeros
        ZERO: u32 = 4;
    }
}

// ---- control block ----

/// Byte offsets of the cells in the control header; u32 unless said otherwise.
pub mod header {
    layout! {
        /// 1: every thread leaves its loop.
        STOP: usize = 0;
        /// errno of the store while puts fail, else 0.
        STORE_ERRNO: usize = 4;
        /// Frames that are free now.
        FREE_FRAMES: usize = 8;
        /// Bumped whenever a frame or request becomes free while a front waits: the futex that fronts wait on.
        FREED: usize = 12;
        /// Fronts that wait on FREED.
        FRONTS_WAITING: usize = 16;
        /// 1: a PRESSURE episode is announced.
        PRESSURE: usize = 20;
        /// 1: a thread died; the mount is going down.
        FAILED: usize = 24;
        /// Settle jobs that movers have not finished: frames will come free.
        SETTLING: usize = 28;
        /// Inodes without a name that somebody may hold: while there are none, nobody wants to know what the kernel forgets.
        ORPHANS: usize = 32;
        /// 1: the store is full, and garbage is being collected: who gets no frame waits, as if the store were slow.
        MAKING_ROOM: usize = 36;
        /// Counters from here on are u64, each on a line of its own. Bytes that programs wrote.
        BYTES_IN: usize = 64;
        /// Bytes of plaintext hashed and sealed.
        BYTES_SEALED: usize = 128;
        /// Bytes of objects stored (deduplicated ones are not).
        BYTES_STORED: usize = 192;
        /// Bytes of plaintext that were in the store already.
        BYTES_DEDUPLICATED: usize = 256;
        /// Bytes that programs read.
        BYTES_OUT: usize = 320;
        /// Requests that fronts took from the kernel.
        REQUESTS: usize = 384;
    }
}

/// Byte offsets in a request slot; u32 unless said otherwise.
pub mod request {
    layout! {
        /// The kernel's number for the request, u64.
        UNIQUE: usize = 0;
        /// Descriptor of /dev/fuse that the request was read from.
        FD: usize = 8;
        /// Parts that are not done yet.
        PENDING: usize = 12;
        /// First errno of the parts.
        ERRNO: usize = 16;
        /// FUSE opcode.
        OPCODE: usize = 20;
        /// Inode that the request is about, f64.
        NODE: usize = 24;
        /// Caller.
        UID: usize = 32;
        /// Caller's group.
        GID: usize = 36;
        /// Caller's process.
        PID: usize = 40;
        /// Bytes of the whole body.
        BODY_LENGTH: usize = 44;
        /// Frame with the body's bytes from `REQUEST_BODY_BYTES` on, or NONE.
        FRAME: usize = 48;
        /// Offset of those bytes in the frame.
        FRAME_OFFSET: usize = 52;
        /// Bytes of the answer that is being assembled in FRAME (READ across regions).
        ANSWER_LENGTH: usize = 56;
    }
}

/// Byte offsets in an inode slot.
pub mod inode {
    layout! {
        /// Inode number, f64; 0 when the slot is free.
        INO: usize = 0;
        /// File size in bytes, f64 (its bits order like a u64, so fronts raise it with `fetch_max`).
        SIZE: usize = 8;
        /// Last modification, u64: seconds << 30 | nanoseconds.
        MTIME: usize = 16;
        /// Workers that received a piece since the slot was taken: bit n is the worker of ring n. u32.
        TOUCHED: usize = 24;
        /// First errno of a failed settle that no fsync or close has reported yet. u32.
        ERRNO: usize = 28;
        /// Content or size changed since the last commit: bumped by every WRITE. u32.
        WRITES: usize = 32;
        /// 1 once the slot was ever taken. u32.
        USED: usize = 36;
        /// Size in bytes when the slot was taken, f64: regions behind it are empty until this mount writes them.
        STORED: usize = 40;
        /// What a WRITE takes from the inode: bits of [`super::privilege`]. u32.
        PRIVILEGES: usize = 48;
        /// Bytes that programs wrote since the slot was taken, u64.
        WRITTEN: usize = 56;
    }
}

/// What makes a program more than its caller, as bits.
pub mod privilege {
    layout! {
        /// The set-user-id bit, or set-group-id with group execution: a WRITE by who lacks `CAP_FSETID` takes it.
        SET_ID: u32 = 1;
        /// Capabilities in an extended attribute: every WRITE takes them.
        CAPABILITY: u32 = 2;
    }
}

/// Byte offsets of the parts of the control block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// First request slot.
    pub requests: usize,
    /// First request body.
    pub bodies: usize,
    /// First inode slot.
    pub inodes: usize,
    /// First frame count.
    pub frames: usize,
    /// First ring: the tree worker's; data worker n has ring n + 1.
    pub rings: usize,
    /// Bytes of the whole block.
    pub bytes: usize,
}

impl Control {
    /// Where everything lies for this many frames and data workers.
    #[must_use]
    pub const fn new(frames: usize, data_workers: usize) -> Self {
        let requests = HEADER_BYTES;
        let bodies = requests + REQUEST_SLOTS * REQUEST_BYTES;
        let inodes = bodies + REQUEST_SLOTS * REQUEST_BODY_BYTES;
        let counts = inodes + INODE_SLOTS * INODE_BYTES;
        let rings = (counts + frames * FRAME_COUNT_BYTES).next_multiple_of(4096);
        Self {
            requests,
            bodies,
            inodes,
            frames: counts,
            rings,
            bytes: rings + (data_workers + 1) * RING_BYTES,
        }
    }
}

const _: () = {
    assert!(DESCRIPTOR_BYTES == 64);
    assert!(RING_SLOTS.is_power_of_two());
    assert!(RING_FRONT_SLOTS + REQUEST_SLOTS < RING_SLOTS);
    assert!(REGION_BYTES.is_multiple_of(FRAME_BYTES));
    assert!(FRAME_BYTES.is_multiple_of(SEGMENT_BYTES));
    assert!(INLINE_BYTES <= SEGMENT_BYTES);
    assert!(REQUEST_BODY_BYTES.is_multiple_of(64));
    assert!(RING_BYTES.is_multiple_of(64));
    assert!(DATA_WORKERS_MAX < 32);
};
