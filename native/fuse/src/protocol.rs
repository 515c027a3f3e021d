//! The part of linux/fuse.h (7.45) that the front itself understands. All structures are little-endian words.
use millrace_layout::FRAME_BYTES;

/// Opcodes that the front handles or routes; the tree worker knows the others.
pub(crate) mod opcode {
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const FLUSH: u32 = 25;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const INTERRUPT: u32 = 36;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const LSEEK: u32 = 46;
}

/// Bytes of `struct fuse_in_header`.
pub(crate) const IN_HEADER_BYTES: usize = 40;
/// Bytes of `struct fuse_write_in` (and of `fuse_read_in`, which has the same layout).
pub(crate) const TRANSFER_BYTES: usize = 40;
/// What precedes the payload of a WRITE.
pub(crate) const HEAD_BYTES: usize = IN_HEADER_BYTES + TRANSFER_BYTES;

/// Flag of WRITE: the caller may not keep set-id bits of what it writes to.
pub(crate) const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// Bytes of `struct fuse_batch_forget_in`, and of each `struct fuse_forget_one` behind it.
pub(crate) const BATCH_FORGET_BYTES: usize = 8;
pub(crate) const FORGET_ONE_BYTES: usize = 16;

/// What the header of a request says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) opcode: u32,
    pub(crate) unique: u64,
    pub(crate) node: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The first 80 bytes of a request, read apart from its payload.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct Head(pub(crate) [u8; HEAD_BYTES]);

impl Head {
    /// A header as the kernel would write it, without a body.
    pub(crate) fn new(request: &Request) -> Self {
        let mut head = Self([0; HEAD_BYTES]);
        head.0[4..8].copy_from_slice(&request.opcode.to_le_bytes());
        head.0[8..16].copy_from_slice(&request.unique.to_le_bytes());
        head.0[16..24].copy_from_slice(&request.node.to_le_bytes());
        head.0[24..28].copy_from_slice(&request.uid.to_le_bytes());
        head.0[28..32].copy_from_slice(&request.gid.to_le_bytes());
        head
    }

    /// Take the first bytes of a body in and set the length; yields the bytes that are behind them.
    pub(crate) fn fill<'a>(&mut self, body: [&'a [u8]; 2]) -> [&'a [u8]; 2] {
        let bytes = IN_HEADER_BYTES + body[0].len() + body[1].len();
        self.0[..4].copy_from_slice(&(bytes as u32).to_le_bytes());
        let mut near = &mut self.0[IN_HEADER_BYTES..];
        body.map(|piece| {
            let (here, behind) = piece.split_at(piece.len().min(near.len()));
            let (to, rest) = std::mem::take(&mut near).split_at_mut(here.len());
            to.copy_from_slice(here);
            near = rest;
            behind
        })
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
    fn long(&self, at: usize) -> u64 {
        u64::from(self.word(at)) | u64::from(self.word(at + 4)) << 32
    }
    /// Bytes of the whole request, this header included.
    pub(crate) fn length(&self) -> usize {
        self.word(0) as usize
    }
    pub(crate) fn opcode(&self) -> u32 {
        self.word(4)
    }
    pub(crate) fn unique(&self) -> u64 {
        self.long(8)
    }
    pub(crate) fn node(&self) -> u64 {
        self.long(16)
    }
    pub(crate) fn uid(&self) -> u32 {
        self.word(24)
    }
    pub(crate) fn gid(&self) -> u32 {
        self.word(28)
    }
    pub(crate) fn pid(&self) -> u32 {
        self.word(32)
    }
    /// File handle of READ, WRITE, FLUSH and FSYNC.
    pub(crate) fn handle(&self) -> u64 {
        self.long(IN_HEADER_BYTES)
    }
    /// File offset of READ and WRITE.
    pub(crate) fn offset(&self) -> u64 {
        self.long(IN_HEADER_BYTES + 8)
    }
    /// Payload bytes of READ and WRITE.
    pub(crate) fn size(&self) -> usize {
        self.word(IN_HEADER_BYTES + 16) as usize
    }
    /// `FUSE_WRITE_*` flags of WRITE.
    pub(crate) fn write_flags(&self) -> u32 {
        self.word(IN_HEADER_BYTES + 20)
    }
    /// A word of the body, by index; only the first ten are here.
    pub(crate) fn body_word(&self, index: usize) -> u32 {
        self.word(IN_HEADER_BYTES + index * 4)
    }
}

/// A file handle as the tree worker made it: inode slot in the low word, flags above.
pub(crate) mod handle {
    use millrace_layout::NONE;

    /// Opened for writing.
    pub(crate) const WRITE: u64 = 1 << 32;
    /// The inode slot.
    pub(crate) fn slot(handle: u64) -> usize {
        (handle & 0xffff_ffff) as usize
    }
    /// Whether it has no slot: a directory, or a virtual file, which the tree worker serves.
    pub(crate) fn is_virtual(handle: u64) -> bool {
        handle as u32 == NONE
    }
}

mod init {
    pub(super) const ASYNC_READ: u32 = 1 << 0;
    pub(super) const BIG_WRITES: u32 = 1 << 5;
    pub(super) const DO_READDIRPLUS: u32 = 1 << 13;
    pub(super) const READDIRPLUS_AUTO: u32 = 1 << 14;
    pub(super) const ASYNC_DIO: u32 = 1 << 15;
    pub(super) const PARALLEL_DIROPS: u32 = 1 << 18;
    pub(super) const MAX_PAGES: u32 = 1 << 22;
    pub(super) const CACHE_SYMLINKS: u32 = 1 << 23;
    pub(super) const HANDLE_KILLPRIV_V2: u32 = 1 << 28;
    pub(super) const INIT_EXT: u32 = 1 << 30;
    /// Of the second word of flags: shared mappings of files that bypass the cache (Linux 6.6).
    pub(super) const DIRECT_IO_ALLOW_MMAP: u32 = 1 << 4;
}

/// Our protocol version.
const MAJOR: u32 = 7;
const MINOR: u32 = 40;
/// Oldest kernel protocol that has `MAX_PAGES` (Linux 4.20); older ones are refused.
const MINOR_MIN: u32 = 28;
/// Bytes of `struct fuse_init_out`.
pub(crate) const INIT_OUT_BYTES: usize = 64;

/// The answer to INIT: large requests, a deep queue, parallel everything. `None`: the kernel is too old.
///
/// Files that are open for writing bypass the kernel's cache. With `shared_mmap` they may be mapped all the same: the kernel
/// then writes dirty pages before it lets a READ or WRITE pass beside them; without it, a shared mapping of them is
/// refused. Set-id bits and capabilities are taken off here: a WRITE then says
/// whether its caller may keep them, and needs no request besides.
pub(crate) fn init_answer(head: &Head, shared_mmap: bool) -> Option<[u8; INIT_OUT_BYTES]> {
    let (major, minor) = (head.body_word(0), head.body_word(1));
    let (readahead, flags) = (head.body_word(2), head.body_word(3));
    // Kernels without the second word leave it out of the request, and this bit is zero then.
    let flags2 = if flags & init::INIT_EXT == 0 { 0 } else { head.body_word(4) };
    if major != MAJOR || minor < MINOR_MIN {
        return None;
    }
    let want = init::ASYNC_READ
        | init::BIG_WRITES
        | init::DO_READDIRPLUS
        | init::READDIRPLUS_AUTO
        | init::ASYNC_DIO
        | init::PARALLEL_DIROPS
        | init::MAX_PAGES
        | init::CACHE_SYMLINKS
        | init::HANDLE_KILLPRIV_V2
        | init::INIT_EXT;
    let words = [
        MAJOR,
        minor.min(MINOR),
        readahead.max(FRAME_BYTES as u32),
        want & flags,
        256 | 192 << 16, // max_background, congestion_threshold: the kernel's 12 and 9 starve a deep pipeline
        FRAME_BYTES as u32,
        1,                           // time granularity in ns
        (FRAME_BYTES / 4096) as u32, // max_pages; map_alignment is 0
        if shared_mmap { init::DIRECT_IO_ALLOW_MMAP & flags2 } else { 0 },
    ];
    let mut out = [0; INIT_OUT_BYTES];
    for (to, word) in out.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    Some(out)
}
