//! Chunk ids, and the sealing of chunks that lie in several pieces of memory.
//!
//! The cut of a chunk into segments is a function of its length alone. Two cuts of one plaintext under the same key
//! and nonces would break GCM, so no piece border may ever move a segment border.
use crate::{Damaged, FORMAT_VERSION, HeadBuf, TAG_BYTES, Vault};
use millrace_layout::{CHUNK_ID_BYTES, SEGMENT_BYTES};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use zeroize::Zeroizing;

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
        // GCM refuses only what is longer than 64 GiB.
        if let Ok(tag) = tag {
            head.set_tag(segment, tag.as_ref());
        }
    }

    fn open(&self, segment: usize, data: &mut [u8], tag: &[u8]) -> Result<(), Damaged> {
        let tag: [u8; TAG_BYTES] = tag.try_into().map_err(|_| Damaged)?;
        let aad = Aad::from(&self.aad);
        let opened = self.key.open_in_place_separate_tag(nonce(segment), aad, Tag::from(tag), data, 0..);
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
    /// The next `bytes` bytes if they lie in one piece; otherwise `None`, and nothing is consumed.
    fn contiguous(&mut self, bytes: usize) -> Option<RawPiece> {
        while let Some(first) = self.pieces.first() {
            if self.used < first.len {
                break;
            }
            self.pieces = &self.pieces[1..];
            self.used = 0;
        }
        let first = self.pieces.first()?;
        if first.len - self.used < bytes {
            return None;
        }
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
            let Some(first) = self.pieces.first() else { return };
            let n = (first.len - self.used).min(out.len() - done);
            // SAFETY: within the piece, by the caller's promise.
            let from = unsafe { std::slice::from_raw_parts(first.ptr.add(self.used), n) };
            out[done..done + n].copy_from_slice(from);
            done += n;
            self.used += n;
            if self.used == first.len {
                self.pieces = &self.pieces[1..];
                self.used = 0;
            }
        }
    }
}

/// Append a run of ciphertext, joining it with the last one where memory continues.
fn push_run(out: &mut Vec<RawPiece>, run: RawPiece) {
    match out.last_mut() {
        Some(last) if last.ptr.wrapping_add(last.len) == run.ptr => last.len += run.len,
        _ => out.push(run),
    }
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
    pub(crate) fn header_check(&self, id: &ChunkId, header: &[u8]) -> [u8; 16] {
        let key = blake3::derive_key("millrace v1 chunk header", self.chunk_key(id).as_slice());
        let mut hasher = blake3::Hasher::new_keyed(&Zeroizing::new(key));
        hasher.update(header);
        let mut check = [0; 16];
        check.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        check
    }

    /// Seal a chunk that lies in `pieces`; `head` becomes its head, `out` its ciphertext in order.
    ///
    /// A segment that lies in one piece is sealed in place, without a copy. One that straddles pieces is gathered
    /// into `scratch` and sealed there; its source stays plaintext. `scratch` needs a segment for each border
    /// between pieces, and never more than the chunk.
    ///
    /// # Panics
    /// When `scratch` is too small.
    ///
    /// # Safety
    /// Nobody else may use the pieces during the call. `out` points into the pieces and into `scratch`.
    pub unsafe fn seal_pieces(
        &self,
        id: &ChunkId,
        pieces: &[RawPiece],
        scratch: &mut [u8],
        head: &mut HeadBuf,
        out: &mut Vec<RawPiece>,
    ) {
        let bytes: usize = pieces.iter().map(|p| p.len).sum();
        let cipher = self.cipher(id);
        head.begin(self, id, bytes);
        let mut walk = Walk { pieces, used: 0 };
        let mut spare = scratch;
        for segment in 0..bytes.div_ceil(SEGMENT_BYTES) {
            let length = SEGMENT_BYTES.min(bytes - segment * SEGMENT_BYTES);
            if let Some(run) = walk.contiguous(length) {
                // SAFETY: within a piece of the caller's.
                let data = unsafe { std::slice::from_raw_parts_mut(run.ptr, run.len) };
                cipher.seal(segment, data, head);
                push_run(out, run);
            } else {
                let (data, rest) = spare.split_at_mut(length);
                spare = rest;
                // SAFETY: by the caller's promise.
                unsafe { walk.copy(data) };
                cipher.seal(segment, data, head);
                push_run(out, RawPiece { ptr: data.as_mut_ptr(), len: length });
            }
        }
    }

    /// Undo [`Vault::seal_pieces`]: open in place what was sealed in place, so that the pieces are plaintext again.
    ///
    /// # Safety
    /// As for `seal_pieces`; the pieces must not have changed since.
    pub unsafe fn unseal_pieces(&self, id: &ChunkId, pieces: &[RawPiece], head: &HeadBuf) -> Result<(), Damaged> {
        let bytes: usize = pieces.iter().map(|p| p.len).sum();
        let cipher = self.cipher(id);
        let mut walk = Walk { pieces, used: 0 };
        let mut skipped = [0; SEGMENT_BYTES];
        for segment in 0..bytes.div_ceil(SEGMENT_BYTES) {
            let length = SEGMENT_BYTES.min(bytes - segment * SEGMENT_BYTES);
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

    /// Open segments in place: `data` starts with segment `first`, `tags` holds theirs. Nothing of `data` may be used
    /// when this fails.
    pub fn open_segments(&self, id: &ChunkId, first: usize, data: &mut [u8], tags: &[u8]) -> Result<(), Damaged> {
        let cipher = self.cipher(id);
        let mut tags = tags.chunks_exact(TAG_BYTES);
        for (segment, bytes) in (first..).zip(data.chunks_mut(SEGMENT_BYTES)) {
            cipher.open(segment, bytes, tags.next().ok_or(Damaged)?)?;
        }
        Ok(())
    }
}
