//! The head of a chunk object: header, tags, padding. See FORMAT.md.
use crate::{CHUNK_BYTES_MAX, ChunkId, Damaged, FIRST_EPOCH, FORMAT_VERSION, TAG_BYTES, Vault};
use millrace_layout::SEGMENT_BYTES;
use std::ops::Range;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
const MAGIC: [u8; 8] = *b"MRCHUNK1";
/// AES-256-GCM with BLAKE3 ids.
const ALGORITHM: u16 = 1;
/// Header bytes before the check, which covers them.
const FIELDS_BYTES: usize = 48;
/// From this many plaintext bytes on, the ciphertext starts at a block of a disk.
const BLOCK_ALIGNED_FROM: usize = 64 << 10;
const BLOCK_BYTES: usize = 4096;
const LINE_BYTES: usize = 64;

/// What a chunk object says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Epoch of the key that it is sealed under.
    pub epoch: u32,
    /// Plaintext bytes (and ciphertext bytes: GCM adds none).
    pub plain_bytes: usize,
    /// Segments, and so tags.
    pub segments: usize,
    /// Where the ciphertext starts in the object.
    pub data_offset: usize,
}

impl Header {
    /// The header of a chunk of this many bytes, sealed in the first epoch.
    #[must_use]
    pub fn of(plain_bytes: usize) -> Self {
        let segments = plain_bytes.div_ceil(SEGMENT_BYTES);
        let align = if plain_bytes >= BLOCK_ALIGNED_FROM { BLOCK_BYTES } else { LINE_BYTES };
        let data_offset = (HEADER_BYTES + segments * TAG_BYTES).next_multiple_of(align);
        Self { epoch: FIRST_EPOCH, plain_bytes, segments, data_offset }
    }

    /// The same, sealed in another epoch.
    #[must_use]
    pub fn in_epoch(self, epoch: u32) -> Self {
        Self { epoch, ..self }
    }

    /// The epoch that an object says it was sealed in, which nothing has vouched for; `None` when
    /// the bytes are no header.
    #[must_use]
    pub fn claimed_epoch(bytes: &[u8]) -> Option<u32> {
        let fields = bytes.get(..HEADER_BYTES)?;
        let epoch = fields[12..16].try_into().ok()?;
        fields.starts_with(&MAGIC).then_some(u32::from_le_bytes(epoch))
    }

    /// The fields as they are stored, without the check. What is not named is reserved and zero.
    fn fields(self) -> [u8; FIELDS_BYTES] {
        let mut out = [0; FIELDS_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&u16::from(FORMAT_VERSION).to_le_bytes());
        out[10..12].copy_from_slice(&ALGORITHM.to_le_bytes());
        out[12..16].copy_from_slice(&self.epoch.to_le_bytes());
        out[16..24].copy_from_slice(&(self.plain_bytes as u64).to_le_bytes());
        out[24..28].copy_from_slice(&(SEGMENT_BYTES as u32).to_le_bytes());
        out[28..32].copy_from_slice(&(self.segments as u32).to_le_bytes());
        out[32..36].copy_from_slice(&(self.data_offset as u32).to_le_bytes());
        out
    }

    /// Read the header of the object that is said to hold chunk `id`. Never panics, whatever the
    /// bytes are. One of an epoch whose keys the vault does not have is damaged to it.
    pub fn parse(bytes: &[u8], vault: &Vault, id: &ChunkId) -> Result<Self, Damaged> {
        let (fields, check) = bytes
            .get(..HEADER_BYTES)
            .and_then(|head| head.split_at_checked(FIELDS_BYTES))
            .ok_or(Damaged)?;
        let plain_bytes: [u8; 8] = fields[16..24].try_into().map_err(|_| Damaged)?;
        let plain_bytes = usize::try_from(u64::from_le_bytes(plain_bytes)).map_err(|_| Damaged)?;
        if !(1..=CHUNK_BYTES_MAX).contains(&plain_bytes) {
            return Err(Damaged);
        }
        let epoch: [u8; 4] = fields[12..16].try_into().map_err(|_| Damaged)?;
        let epoch = u32::from_le_bytes(epoch);
        // Length and epoch decide everything else, so there is one good header for them. Nothing
        // here is secret: an early exit of a comparison tells nothing that the object does not say.
        let header = Self::of(plain_bytes).in_epoch(epoch);
        let authentic = check == vault.keys().of(epoch)?.header_check(id, fields);
        if authentic && fields == header.fields() { Ok(header) } else { Err(Damaged) }
    }

    /// Where the tags lie in the object.
    #[must_use]
    pub fn tags(&self) -> Range<usize> {
        HEADER_BYTES..HEADER_BYTES + self.segments * TAG_BYTES
    }

    /// Bytes of the whole object; a shorter or longer one is damaged.
    #[must_use]
    pub fn object_bytes(&self) -> usize {
        self.data_offset + self.plain_bytes
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
        let header = Header::of(plain_bytes).in_epoch(vault.epoch());
        self.blocks.resize(header.data_offset.div_ceil(BLOCK_BYTES), Block([0; BLOCK_BYTES]));
        self.bytes = header.data_offset;
        let all = self.all();
        all.fill(0);
        let fields = header.fields();
        all[..FIELDS_BYTES].copy_from_slice(&fields);
        let check = vault.keys().current().header_check(id, &fields);
        all[FIELDS_BYTES..HEADER_BYTES].copy_from_slice(&check);
    }

    fn all(&mut self) -> &mut [u8] {
        // SAFETY: the blocks are plain bytes, one behind the other, and `bytes` is at most what
        // they hold.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever has the key can make a check, so fields are held against each other as well.
    #[test]
    fn fields_that_contradict_each_other_are_refused_even_when_the_check_is_right() {
        let vault = Vault::from_kek(&[7; 32]);
        let mut head = HeadBuf::new();
        let id = vault.seal_buffer(&mut [1; 100], &mut head);
        let mut forged = head.bytes().to_vec();
        assert_eq!(Header::parse(&forged, &vault, &id), Ok(Header::of(100)));
        for bit in 0..FIELDS_BYTES * 8 {
            forged[bit / 8] ^= 1 << (bit % 8);
            let check = vault.keys().current().header_check(&id, &forged[..FIELDS_BYTES]);
            forged[FIELDS_BYTES..HEADER_BYTES].copy_from_slice(&check);
            // Bits 0 to 13 of the length give other lengths of one segment: headers of another
            // chunk.
            let other_chunk = (128..128 + 14).contains(&bit);
            assert_eq!(Header::parse(&forged, &vault, &id).is_ok(), other_chunk, "bit {bit}");
            forged[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
