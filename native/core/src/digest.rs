//! Identity of content that lies in several chunks: the id that one chunk of the same bytes would have.
use crate::engine::Engine;
use crate::mover::Scratch;
use millrace_layout::SEGMENT_BYTES;
use millrace_vault::ChunkId;

/// Bytes that are read at a time.
const STEP_BYTES: usize = 1 << 20;

/// A run of bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A range of a chunk's plaintext.
    Chunk {
        /// The chunk.
        id: ChunkId,
        /// First byte.
        offset: usize,
        /// Bytes.
        bytes: usize,
    },
    /// So many zeros.
    Zeros(usize),
}

impl Engine {
    /// The id of the chunk whose plaintext is these pieces, one behind the other.
    ///
    /// Reads and opens what they name, a MiB at a time; on any thread, beside the movers.
    ///
    /// # Errors
    /// EIO when a chunk cannot be read or is not authentic; it is reported with its id.
    pub fn content_id(&self, pieces: &[Piece]) -> Result<ChunkId, i32> {
        let mut hasher = self.vault.chunk_hasher();
        let mut scratch = Scratch::new(STEP_BYTES + 2 * SEGMENT_BYTES);
        for piece in pieces {
            match *piece {
                Piece::Zeros(bytes) => hasher.update_zeros(bytes),
                Piece::Chunk { id, offset, bytes } => {
                    let mut done = 0;
                    while done < bytes {
                        let step = (bytes - done).min(STEP_BYTES);
                        let plain = scratch.bytes();
                        let range = self.open_range(&id, offset + done, step, plain)?;
                        hasher.update(&plain[range]);
                        done += step;
                    }
                }
            }
        }
        Ok(hasher.id())
    }

    /// Fill `out` with the plaintext of a chunk from an offset on; on any thread, beside the movers.
    ///
    /// # Errors
    /// EIO when the chunk cannot be read or is not authentic; it is reported with its id.
    pub fn read_chunk(&self, id: &ChunkId, offset: usize, out: &mut [u8]) -> Result<(), i32> {
        let mut scratch = Scratch::new(STEP_BYTES + 2 * SEGMENT_BYTES);
        for (number, part) in out.chunks_mut(STEP_BYTES).enumerate() {
            let plain = scratch.bytes();
            let range = self.open_range(id, offset + number * STEP_BYTES, part.len(), plain)?;
            part.copy_from_slice(&plain[range]);
        }
        Ok(())
    }
}
