//! One page, and the nodes in it.
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// Bytes of a page's header: number, transaction, padding, flags, bounds.
pub(crate) const HEADER_BYTES: usize = 24;
/// Bytes of a node before its key.
pub(crate) const NODE_BYTES: usize = 8;
/// Bytes that stand in a leaf for a value which has pages of its own.
pub(crate) const OVERFLOW_BYTES: usize = 24;
/// A node's value has pages of its own.
pub(crate) const BIG_DATA: u16 = 1;

/// What a page is, as its flags say.
pub(crate) mod kind {
    pub(crate) const BRANCH: u16 = 1;
    pub(crate) const LEAF: u16 = 2;
    pub(crate) const OVERFLOW: u16 = 4;
    pub(crate) const META: u16 = 8;
}

/// The file, as pages.
#[derive(Debug)]
pub(crate) struct Pages {
    file: File,
    pub(crate) page_bytes: usize,
    /// Whole pages that the file holds.
    pub(crate) count: u64,
}

impl Pages {
    pub(crate) fn new(file: File, page_bytes: usize) -> io::Result<Self> {
        let count = file.metadata()?.len() / page_bytes as u64;
        Ok(Self { file, page_bytes, count })
    }

    /// Have the kernel read the whole file ahead, in the order in which it lies on the disk.
    pub(crate) fn will_need(&self) {
        // SAFETY: a hint about a descriptor that is open.
        unsafe { libc::posix_fadvise(self.file.as_raw_fd(), 0, 0, libc::POSIX_FADV_WILLNEED) };
    }

    /// Read pages from `number` on, as many as fit. They must lie inside of the file.
    pub(crate) fn read(&self, number: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, number * self.page_bytes as u64)
    }
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// A page's bytes, with accessors of its header.
#[derive(Clone, Copy)]
pub(crate) struct Page<'a>(pub(crate) &'a [u8]);

impl<'a> Page<'a> {
    pub(crate) fn number(self) -> u64 {
        u64_at(self.0, 0)
    }

    pub(crate) fn transaction(self) -> u64 {
        u64_at(self.0, 8)
    }

    pub(crate) fn flags(self) -> u16 {
        u16_at(self.0, 18)
    }

    /// Pages of a value that begins here.
    pub(crate) fn overflow_pages(self) -> u32 {
        u32_at(self.0, 20)
    }

    /// Where nodes begin; offsets count from the end of the header, as LMDB counts them.
    fn upper(self) -> usize {
        usize::from(u16_at(self.0, 22))
    }

    fn lower(self) -> usize {
        usize::from(u16_at(self.0, 20))
    }

    /// Number of nodes; none where the bounds make no sense.
    pub(crate) fn nodes(self) -> Option<usize> {
        let room = self.0.len() - HEADER_BYTES;
        let fits = self.lower().is_multiple_of(2)
            && self.lower() <= self.upper()
            && self.upper() <= room
            && self.upper().is_multiple_of(2);
        fits.then_some(self.lower() / 2)
    }

    /// A node of a leaf or branch; none where it does not lie inside of the page.
    pub(crate) fn node(self, index: usize, leaf: bool) -> Option<Node<'a>> {
        let at = usize::from(u16_at(self.0, HEADER_BYTES + 2 * index));
        let body = &self.0[HEADER_BYTES..];
        if at < self.upper() || !at.is_multiple_of(2) || at + NODE_BYTES > body.len() {
            return None;
        }
        let head = &body[at..];
        let (low, high) = (u16_at(head, 0), u16_at(head, 2));
        let (flags, key_bytes) = (u16_at(head, 4), usize::from(u16_at(head, 6)));
        let word = u64::from(low) | u64::from(high) << 16;
        let data_bytes = match (leaf, flags & BIG_DATA) {
            (false, _) => 0,
            (true, 0) => word as usize,
            (true, _) => OVERFLOW_BYTES,
        };
        let end = NODE_BYTES + key_bytes + data_bytes;
        if end > head.len() {
            return None;
        }
        Some(Node {
            flags,
            key: &head[NODE_BYTES..NODE_BYTES + key_bytes],
            data: &head[NODE_BYTES + key_bytes..end],
            word,
            bytes: end.next_multiple_of(2),
        })
    }

    /// Bytes that all nodes together take up.
    pub(crate) fn node_bytes(self) -> usize {
        self.0.len() - HEADER_BYTES - self.upper()
    }
}

/// A node of a page.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    pub(crate) flags: u16,
    pub(crate) key: &'a [u8],
    /// The value; where that has pages of its own, what stands for it.
    pub(crate) data: &'a [u8],
    word: u64,
    /// Bytes that it takes up.
    pub(crate) bytes: usize,
}

impl Node<'_> {
    /// The page that a node of a branch leads to.
    pub(crate) fn child(self) -> u64 {
        self.word | u64::from(self.flags) << 32
    }

    /// Bytes of the value.
    pub(crate) fn value_bytes(self) -> u64 {
        self.word
    }
}
