//! Keys, and everything that is sealed with them: chunks, values of the tree, hashes of names.
//!
//! The formats are documented field by field in `engine/store/FORMAT.md`; this crate is their one
//! implementation, and the tests hold a second, independent one in TypeScript.

mod chunk;
mod header;
mod key_ring;
mod keys;
mod scattered;
mod value;
#[cfg(test)]
mod vectors;

pub use chunk::{ChunkHasher, ChunkId, RawPiece};
pub use header::{HEADER_BYTES, HeadBuf, Header};
pub use key_ring::{KeyRing, RotationError};
pub use keys::{EPOCHS_MAX, FIRST_EPOCH, Vault};
pub use value::{VALUE_OVERHEAD_BYTES, may_belong};

/// Bytes of an AES-GCM tag.
pub const TAG_BYTES: usize = 16;
/// Version of the chunk object and of the key ring.
pub const FORMAT_VERSION: u8 = 1;
/// The largest chunk that any version of the format allows, in bytes.
pub const CHUNK_BYTES_MAX: usize = 64 << 20;

/// What was sealed is not what is here now, or the key is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not authentic")
    }
}

impl std::error::Error for Damaged {}
