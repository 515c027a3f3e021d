//! Chunk ids, and the sealing of chunks that lie in several pieces of memory.
//!
//! The cut of a chunk into segments is a function of its length alone. Two cuts of one plaintext
//! under the same key and nonces would break GCM, so no piece border may ever move a segment
//! border.
use crate::{CHUNK_BYTES_MAX, Damaged, FORMAT_VERSION, HeadBuf, TAG_BYTES, Vault};
use millrace_layout::{CHUNK_ID_BYTES, SEGMENT_BYTES};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use std::ops::Range;
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

fn nonce(segment: usize) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[..4].copy_from_slice(&(segment as u32).to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// One chunk's cipher: its key, and the data that every segment is bound to.
struct Cipher {
    key: LessSafeKey,
    aad: [u8; 1 + CHUNK_ID_BYTES],
}

impl Cipher {
    fn seal(&self, segment: usize, data: &mut [u8], head: &mut HeadBuf) {
        let tag = self.key.seal_in_place_separate_tag(nonce(segment), Aad::from(&self.aad), data);
        // GCM refuses only what is longer than 64 GiB. Going on would store plaintext, so never do.
        let tag = tag.unwrap_or_else(|_| unreachable!("AES-GCM refused a segment"));
        head.set_tag(segment, tag.as_ref());
    }

    fn open(&self, segment: usize, data: &mut [u8], tag: &[u8]) -> Result<(), Damaged> {
        let tag: [u8; TAG_BYTES] = tag.try_into().map_err(|_| Damaged)?;
        let aad = Aad::from(&self.aad);
        let opened =
            self.key.open_in_place_separate_tag(nonce(segment), aad, Tag::from(tag), data, 0..);
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
    fn contiguous(&mut self, bytes: usize) -> Option<RawPiece> {
        if self.left() < bytes {
            return None;
        }
        let first = self.pieces.first()?;
        let ptr = first.ptr.wrapping_add(self.used);
        self.used += bytes;
        Some(RawPiece { ptr, len: bytes })
    }

    /// Copy the next bytes to `out`, across pieces.
    ///
    /// # Safety
    /// The pieces must be readable.
    unsafe fn copy(&mut self, out: &mut [u8]) {
        let mut done = 0;
        while done < out.len() {
            let n = self.left().min(out.len() - done);
            let Some(run) = self.contiguous(n) else { return };
            // SAFETY: within a piece, by the caller's promise; `left` is 0 only behind the last
            // piece, so `run` is never an empty piece's pointer.
            let from = unsafe { std::slice::from_raw_parts(run.ptr, run.len) };
            out[done..done + n].copy_from_slice(from);
            done += n;
        }
    }
}

/// Append a run of ciphertext, joining it with the last one where memory continues.
///
/// `scratch` keeps apart what only happens to lie side by side: the caller's memory and the scratch
/// buffer.
fn push_run(out: &mut Vec<RawPiece>, run: RawPiece, scratch: &Range<*mut u8>) {
    match out.last_mut() {
        Some(last)
            if last.ptr.wrapping_add(last.len) == run.ptr
                && scratch.contains(&last.ptr) == scratch.contains(&run.ptr) =>
        {
            last.len += run.len;
        }
        _ => out.push(run),
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

impl Vault {
    /// The id of the chunk whose plaintext is these parts, one behind the other.
    pub fn chunk_id_of<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> ChunkId {
        let mut hasher = blake3::Hasher::new_keyed(&self.keys().id);
        for part in parts {
            hasher.update(part);
        }
        ChunkId(*hasher.finalize().as_bytes())
    }

    fn chunk_key(&self, id: &ChunkId) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*blake3::keyed_hash(&self.keys().chunk, &id.0).as_bytes())
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

    /// Seal a chunk that lies in `pieces`; `head` becomes its head, `out` its ciphertext in order.
    ///
    /// A segment that lies in one piece is sealed in place, without a copy. One that straddles
    /// pieces is gathered into `scratch` and sealed there; its source stays plaintext. `scratch`
    /// needs a segment for each border between pieces, and never more than the chunk. `out` grows
    /// by one run or less for each piece and each border.
    ///
    /// # Panics
    /// When `scratch` is too small, or the pieces hold no byte or more than [`CHUNK_BYTES_MAX`].
    ///
    /// # Safety
    /// `id` must be the id of the bytes that the pieces hold, and nobody else may use the pieces
    /// from the moment that it was computed until this returns: other bytes under the same id would
    /// be sealed with the same key and nonces. `out` points into the pieces and into `scratch`, and
    /// is good for as long as they are left alone.
    pub unsafe fn seal_pieces(
        &self,
        id: &ChunkId,
        pieces: &[RawPiece],
        scratch: &mut [u8],
        head: &mut HeadBuf,
        out: &mut Vec<RawPiece>,
    ) {
        let bytes = chunk_bytes(pieces);
        let cipher = self.cipher(id);
        head.begin(self, id, bytes);
        let mut walk = Walk { pieces, used: 0 };
        let bounds = scratch.as_mut_ptr_range();
        let mut spare = scratch;
        for (segment, length) in cut(bytes) {
            if let Some(run) = walk.contiguous(length) {
                // SAFETY: within a piece of the caller's.
                let data = unsafe { std::slice::from_raw_parts_mut(run.ptr, run.len) };
                cipher.seal(segment, data, head);
                push_run(out, run, &bounds);
            } else {
                let (data, rest) = spare.split_at_mut(length);
                spare = rest;
                // SAFETY: by the caller's promise.
                unsafe { walk.copy(data) };
                cipher.seal(segment, data, head);
                push_run(out, RawPiece { ptr: data.as_mut_ptr(), len: length }, &bounds);
            }
        }
    }

    /// Undo [`Vault::seal_pieces`]: open in place what was sealed in place, so that the pieces are
    /// plaintext again.
    ///
    /// # Safety
    /// Nobody else may use the pieces from the call of `seal_pieces` until this returns; they are
    /// cut as they were then.
    pub unsafe fn unseal_pieces(
        &self,
        id: &ChunkId,
        pieces: &[RawPiece],
        head: &HeadBuf,
    ) -> Result<(), Damaged> {
        let cipher = self.cipher(id);
        let mut walk = Walk { pieces, used: 0 };
        // Holds plaintext for a moment: what straddles pieces was never sealed there.
        let mut skipped = Zeroizing::new([0; SEGMENT_BYTES]);
        for (segment, length) in cut(chunk_bytes(pieces)) {
            if let Some(run) = walk.contiguous(length) {
                // SAFETY: within a piece of the caller's.
                let data = unsafe { std::slice::from_raw_parts_mut(run.ptr, run.len) };
                cipher.open(segment, data, head.tag(segment))?;
            } else {
                // SAFETY: by the caller's promise.
                unsafe { walk.copy(&mut skipped[..length]) };
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
        // One piece has no borders, so no scratch is needed.
        unsafe { self.seal_pieces(&id, &[piece], &mut [], head, &mut Vec::with_capacity(1)) };
        id
    }

    /// Open segments in place: `data` starts with segment `first`, `tags` holds exactly theirs.
    /// Nothing of `data` may be used when this fails.
    pub fn open_segments(
        &self,
        id: &ChunkId,
        first: usize,
        data: &mut [u8],
        tags: &[u8],
    ) -> Result<(), Damaged> {
        if tags.len() != data.len().div_ceil(SEGMENT_BYTES) * TAG_BYTES {
            return Err(Damaged);
        }
        let cipher = self.cipher(id);
        let segments = data.chunks_mut(SEGMENT_BYTES).zip(tags.chunks_exact(TAG_BYTES));
        for (segment, (bytes, tag)) in (first..).zip(segments) {
            cipher.open(segment, bytes, tag)?;
        }
        Ok(())
    }
}
