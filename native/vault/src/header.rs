//! The head of a chunk object: header, tags, padding. See FORMAT.md.
use crate::{CHUNK_BYTES_MAX, ChunkId, Damaged, FORMAT_VERSION, TAG_BYTES, Vault};
use millrace_layout::SEGMENT_BYTES;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
const MAGIC: [u8; 8] = *b"MRCHUNK1";
/// AES-256-GCM with BLAKE3 ids.
const ALGORITHM: u16 = 1;
const EPOCH: u32 = 1;
/// Header bytes that the check at the end covers.
const CHECKED_BYTES: usize = 48;
/// From this many plaintext bytes on, the ciphertext starts at a block of a disk.
const BLOCK_ALIGNED_FROM: usize = 64 << 10;
const BLOCK_BYTES: usize = 4096;
const LINE_BYTES: usize = 64;

/// What a chunk object says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Plaintext bytes (and ciphertext bytes: GCM adds none).
    pub plain_bytes: usize,
    /// Segments, and so tags.
    pub segments: usize,
    /// Where the ciphertext starts in the object.
    pub data_offset: usize,
}

impl Header {
    /// The header of a chunk of this many bytes.
    #[must_use]
    pub fn of(plain_bytes: usize) -> Self {
        let segments = plain_bytes.div_ceil(SEGMENT_BYTES);
        let align = if plain_bytes >= BLOCK_ALIGNED_FROM { BLOCK_BYTES } else { LINE_BYTES };
        let data_offset = (HEADER_BYTES + segments * TAG_BYTES).next_multiple_of(align);
        Self { plain_bytes, segments, data_offset }
    }

    fn encode(self, vault: &Vault, id: &ChunkId, out: &mut [u8]) {
        out[..HEADER_BYTES].fill(0);
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&u16::from(FORMAT_VERSION).to_le_bytes());
        out[10..12].copy_from_slice(&ALGORITHM.to_le_bytes());
        out[12..16].copy_from_slice(&EPOCH.to_le_bytes());
        out[16..24].copy_from_slice(&(self.plain_bytes as u64).to_le_bytes());
        out[24..28].copy_from_slice(&(SEGMENT_BYTES as u32).to_le_bytes());
        out[28..32].copy_from_slice(&(self.segments as u32).to_le_bytes());
        out[32..36].copy_from_slice(&(self.data_offset as u32).to_le_bytes());
        let check = vault.header_check(id, &out[..CHECKED_BYTES]);
        out[CHECKED_BYTES..HEADER_BYTES].copy_from_slice(&check);
    }

    /// Read the header of the object that is said to hold chunk `id`. Never panics, whatever the bytes are.
    pub fn parse(bytes: &[u8], vault: &Vault, id: &ChunkId) -> Result<Self, Damaged> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or(Damaged)?;
        let check = vault.header_check(id, &bytes[..CHECKED_BYTES]);
        // Both sides are public values of the same length: an early exit of the comparison tells nothing.
        if bytes[CHECKED_BYTES..] != check {
            return Err(Damaged);
        }
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let known = bytes[..8] == MAGIC
            && word(8) == u32::from(FORMAT_VERSION) | u32::from(ALGORITHM) << 16
            && word(12) == EPOCH
            && word(20) == 0
            && word(24) as usize == SEGMENT_BYTES;
        let header = Self::of(word(16) as usize);
        let consistent = header.plain_bytes > 0
            && header.plain_bytes <= CHUNK_BYTES_MAX
            && word(28) as usize == header.segments
            && word(32) as usize == header.data_offset;
        if known && consistent { Ok(header) } else { Err(Damaged) }
    }
}

/// A reusable buffer for heads, page aligned so that it can go to a disk without a copy.
#[derive(Debug)]
pub struct HeadBuf {
    blocks: Vec<Block>,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_BYTES]);

impl HeadBuf {
    /// An empty head.
    #[must_use]
    pub fn new() -> Self {
        Self { blocks: Vec::new(), bytes: 0 }
    }

    /// Begin the head of a chunk: header, room for tags, zero padding.
    pub(crate) fn begin(&mut self, vault: &Vault, id: &ChunkId, plain_bytes: usize) {
        let header = Header::of(plain_bytes);
        self.blocks.resize(header.data_offset.div_ceil(BLOCK_BYTES), Block([0; BLOCK_BYTES]));
        self.bytes = header.data_offset;
        let all = self.all();
        all.fill(0);
        header.encode(vault, id, all);
    }

    fn all(&mut self) -> &mut [u8] {
        // SAFETY: the blocks are plain bytes, one behind the other.
        unsafe { std::slice::from_raw_parts_mut(self.blocks.as_mut_ptr().cast(), self.bytes) }
    }

    pub(crate) fn set_tag(&mut self, segment: usize, tag: &[u8]) {
        self.all()[HEADER_BYTES + segment * TAG_BYTES..][..TAG_BYTES].copy_from_slice(tag);
    }

    pub(crate) fn tag(&self, segment: usize) -> &[u8] {
        &self.bytes()[HEADER_BYTES + segment * TAG_BYTES..][..TAG_BYTES]
    }

    /// The head as it is stored.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: as in `all`.
        unsafe { std::slice::from_raw_parts(self.blocks.as_ptr().cast(), self.bytes) }
    }
}

impl Default for HeadBuf {
    fn default() -> Self {
        Self::new()
    }
}
