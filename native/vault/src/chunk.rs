//! Chunk ids, and the sealing of chunks that lie in several pieces of memory.
//!
//! The cut of a chunk into segments is a function of its length alone. Two cuts of one plaintext
//! under the same key and nonces would break GCM, so no piece border may ever move a segment
//! border.
use crate::keys::EpochKeys;
use crate::scattered::Scattered;
use crate::{CHUNK_BYTES_MAX, Damaged, FORMAT_VERSION, HeadBuf, TAG_BYTES, Vault};
use millrace_layout::{CHUNK_ID_BYTES, SEGMENT_BYTES};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use std::cell::OnceCell;
use zeroize::Zeroizing;

/// Label of the key of header checks; part of the format.
const HEADER_LABEL: &str = "millrace v1 chunk header";

/// The keyed hash of a chunk's plaintext.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId(pub [u8; CHUNK_ID_BYTES]);

impl ChunkId {
    /// 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('?');
        self.0.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
    }
}

impl std::fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}

/// A piece of memory whose owner promises exclusive use for the length of a call.
#[derive(Clone, Copy, Debug)]
pub struct RawPiece {
    /// First byte.
    pub ptr: *mut u8,
    /// Bytes.
    pub len: usize,
}

fn nonce(segment: usize) -> [u8; NONCE_LEN] {
    let mut bytes = [0; NONCE_LEN];
    bytes[..4].copy_from_slice(&(segment as u32).to_le_bytes());
    bytes
}

impl EpochKeys {
    fn chunk_key(&self, id: &ChunkId) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*blake3::keyed_hash(&self.chunk, &id.0).as_bytes())
    }

    fn cipher(&self, id: &ChunkId) -> Cipher {
        let mut aad = [FORMAT_VERSION; 1 + CHUNK_ID_BYTES];
        aad[1..].copy_from_slice(&id.0);
        let key = UnboundKey::new(&AES_256_GCM, self.chunk_key(id).as_slice());
        // A key of 32 bytes is what AES-256 takes, always.
        Cipher { key: LessSafeKey::new(key.unwrap_or_else(|_| unreachable!())), aad }
    }

    /// The check at the end of a chunk's header.
    pub(crate) fn header_check(&self, id: &ChunkId, fields: &[u8]) -> [u8; 16] {
        let key = Zeroizing::new(blake3::derive_key(HEADER_LABEL, self.chunk_key(id).as_slice()));
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(fields);
        hasher.update(&id.0);
        let mut check = [0; 16];
        check.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        check
    }
}

/// One chunk's cipher: its key, and the data that every segment is bound to.
struct Cipher {
    key: LessSafeKey,
    aad: [u8; 1 + CHUNK_ID_BYTES],
}

impl Cipher {
    fn seal(&self, segment: usize, data: &mut [u8], head: &mut HeadBuf) {
        let nonce = Nonce::assume_unique_for_key(nonce(segment));
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(&self.aad), data);
        // GCM refuses only what is longer than 64 GiB. Going on would store plaintext, so never do.
        let tag = tag.unwrap_or_else(|_| unreachable!("AES-GCM refused a segment"));
        head.set_tag(segment, tag.as_ref());
    }

    fn open(&self, segment: usize, data: &mut [u8], tag: &[u8]) -> Result<(), Damaged> {
        let tag: [u8; TAG_BYTES] = tag.try_into().map_err(|_| Damaged)?;
        let nonce = Nonce::assume_unique_for_key(nonce(segment));
        let aad = Aad::from(&self.aad);
        let opened = self.key.open_in_place_separate_tag(nonce, aad, Tag::from(tag), data, 0..);
        opened.map(|_| ()).map_err(|_| Damaged)
    }
}

/// Walks the pieces of a chunk segment by segment.
struct Walk<'a> {
    pieces: &'a [RawPiece],
    /// Bytes of the first piece that are behind us.
    used: usize,
}

impl Walk<'_> {
    /// Bytes that are left in the piece at hand, after skipping what is used up; 0 only at the end.
    fn left(&mut self) -> usize {
        while let Some(first) = self.pieces.first() {
            if self.used < first.len {
                return first.len - self.used;
            }
            self.pieces = &self.pieces[1..];
            self.used = 0;
        }
        0
    }

    /// The next `bytes` bytes if they lie in one piece; otherwise `None`, and nothing is consumed.
    ///
    /// # Safety
    /// The caller has exclusive use of the pieces for as long as it keeps what this returns.
    unsafe fn contiguous<'b>(&mut self, bytes: usize) -> Option<&'b mut [u8]> {
        if self.left() < bytes {
            return None;
        }
        let first = self.pieces.first()?;
        let ptr = first.ptr.wrapping_add(self.used);
        self.used += bytes;
        // SAFETY: within a piece, by the caller's promise; no byte is handed out twice.
        Some(unsafe { std::slice::from_raw_parts_mut(ptr, bytes) })
    }

    /// Hand the next `bytes` bytes to `each`, run by run.
    ///
    /// # Safety
    /// The caller has exclusive use of the pieces during this call.
    unsafe fn scattered(&mut self, bytes: usize, mut each: impl FnMut(&mut [u8])) {
        let mut rest = bytes;
        while rest > 0 {
            let n = self.left().min(rest);
            // SAFETY: by the caller's promise; the run is gone when `each` returns.
            let Some(run) = (unsafe { self.contiguous(n) }) else { return };
            each(run);
            rest -= n;
        }
    }
}

/// The bytes of all pieces together.
///
/// # Panics
/// When that is no chunk: empty, or beyond the format's bound.
fn chunk_bytes(pieces: &[RawPiece]) -> usize {
    let bytes = pieces.iter().map(|p| p.len).sum();
    assert!((1..=CHUNK_BYTES_MAX).contains(&bytes), "no chunk has {bytes} bytes");
    bytes
}

/// The segments of a chunk: number and bytes. The one place where the cut is decided.
fn cut(bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..bytes.div_ceil(SEGMENT_BYTES))
        .map(move |n| (n, SEGMENT_BYTES.min(bytes - n * SEGMENT_BYTES)))
}

/// Makes the id of a chunk from plaintext that comes in parts.
pub struct ChunkHasher(blake3::Hasher);

impl ChunkHasher {
    /// Add plaintext behind what came before.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// Add so many zeros.
    pub fn update_zeros(&mut self, mut bytes: usize) {
        const ZEROS: [u8; SEGMENT_BYTES] = [0; SEGMENT_BYTES];
        while bytes > 0 {
            let part = bytes.min(ZEROS.len());
            self.0.update(&ZEROS[..part]);
            bytes -= part;
        }
    }

    /// The id of the chunk whose plaintext was added.
    #[must_use]
    pub fn id(&self) -> ChunkId {
        ChunkId(*self.0.finalize().as_bytes())
    }
}

impl std::fmt::Debug for ChunkHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkHasher")
    }
}

impl Vault {
    /// Starts the id of a chunk.
    #[must_use]
    pub fn chunk_hasher(&self) -> ChunkHasher {
        ChunkHasher(blake3::Hasher::new_keyed(&self.keys().id))
    }

    /// The id of the chunk whose plaintext is these parts, one behind the other.
    pub fn chunk_id_of<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> ChunkId {
        let mut hasher = blake3::Hasher::new_keyed(&self.keys().id);
        for part in parts {
            hasher.update(part);
        }
        ChunkId(*hasher.finalize().as_bytes())
    }

    /// Seal a chunk where it lies, in the current epoch: `pieces` become its ciphertext, `head` its
    /// head. No byte is copied, wherever pieces meet.
    ///
    /// # Panics
    /// When the pieces hold no byte or more than [`CHUNK_BYTES_MAX`].
    ///
    /// # Safety
    /// `id` must be the id of the bytes that the pieces hold, and nobody else may use the pieces
    /// from the moment that it was computed until this returns: other bytes under the same id would
    /// be sealed with the same key and nonces.
    pub unsafe fn seal_pieces(&self, id: &ChunkId, pieces: &[RawPiece], head: &mut HeadBuf) {
        let bytes = chunk_bytes(pieces);
        let keys = self.keys().current();
        let cipher = keys.cipher(id);
        let straddling = OnceCell::new();
        head.begin(self, id, bytes);
        let mut walk = Walk { pieces, used: 0 };
        for (segment, length) in cut(bytes) {
            // SAFETY: by the caller's promise; used up before the next is asked for.
            if let Some(data) = unsafe { walk.contiguous(length) } {
                cipher.seal(segment, data, head);
            } else {
                let key = straddling.get_or_init(|| Scattered::new(&keys.chunk_key(id)));
                let mut message = key.message(&nonce(segment), &cipher.aad);
                // SAFETY: by the caller's promise.
                unsafe { walk.scattered(length, |run| message.seal(run)) };
                head.set_tag(segment, &message.tag());
            }
        }
    }

    /// Undo [`Vault::seal_pieces`], so that the pieces are plaintext again.
    ///
    /// # Safety
    /// Nobody else may use the pieces from the call of `seal_pieces` until this returns.
    pub unsafe fn unseal_pieces(
        &self,
        id: &ChunkId,
        pieces: &[RawPiece],
        head: &HeadBuf,
    ) -> Result<(), Damaged> {
        let keys = self.keys().current();
        let cipher = keys.cipher(id);
        let straddling = OnceCell::new();
        let mut walk = Walk { pieces, used: 0 };
        for (segment, length) in cut(chunk_bytes(pieces)) {
            let tag = head.tag(segment);
            // SAFETY: by the caller's promise; used up before the next is asked for.
            if let Some(data) = unsafe { walk.contiguous(length) } {
                cipher.open(segment, data, tag)?;
            } else {
                let key = straddling.get_or_init(|| Scattered::new(&keys.chunk_key(id)));
                let mut message = key.message(&nonce(segment), &cipher.aad);
                // SAFETY: by the caller's promise.
                unsafe { walk.scattered(length, |run| message.open(run)) };
                message.verify(tag.try_into().map_err(|_| Damaged)?)?;
            }
        }
        Ok(())
    }

    /// Seal a chunk that lies in one piece, in place; `head` becomes its head.
    ///
    /// # Panics
    /// When the buffer is empty or longer than [`CHUNK_BYTES_MAX`].
    pub fn seal_buffer(&self, buffer: &mut [u8], head: &mut HeadBuf) -> ChunkId {
        let id = self.chunk_id_of([&*buffer]);
        let piece = RawPiece { ptr: buffer.as_mut_ptr(), len: buffer.len() };
        // SAFETY: the buffer is borrowed exclusively, and was since the id was computed from it.
        unsafe { self.seal_pieces(&id, &[piece], head) };
        id
    }

    /// Open segments of a chunk of an epoch in place: `data` starts with segment `first`, `tags`
    /// holds exactly theirs. Nothing of `data` may be used when this fails.
    pub fn open_segments(
        &self,
        epoch: u32,
        id: &ChunkId,
        first: usize,
        data: &mut [u8],
        tags: &[u8],
    ) -> Result<(), Damaged> {
        if tags.len() != data.len().div_ceil(SEGMENT_BYTES) * TAG_BYTES {
            return Err(Damaged);
        }
        let cipher = self.keys().of(epoch)?.cipher(id);
        let segments = data.chunks_mut(SEGMENT_BYTES).zip(tags.chunks_exact(TAG_BYTES));
        for (segment, (bytes, tag)) in (first..).zip(segments) {
            cipher.open(segment, bytes, tag)?;
        }
        Ok(())
    }
}
