//! Under which keys the chunks of a store are sealed.
use crate::ChunkStore;
use crate::scrub::Flaw;
use crate::walk::{Stop, Unopened, Walk, WalkProgress};
use millrace_layout::SEGMENT_BYTES;
use millrace_vault::Vault;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Plaintext that a thread opens at a time.
const STEP_BYTES: usize = 64 * SEGMENT_BYTES;

/// The chunks of one epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpochChunks {
    /// How many.
    pub chunks: u64,
    /// Bytes of their plaintext.
    pub bytes: u64,
}

/// What a census found.
#[derive(Debug, Default)]
pub struct Counted {
    /// By epoch.
    pub epochs: BTreeMap<u32, EpochChunks>,
    /// Chunks that no key at hand opens.
    pub unopened: Unopened,
}

/// All chunks of a store that nobody else uses. Nothing is changed.
#[derive(Clone, Copy)]
pub struct Census<'a> {
    /// Keys.
    pub vault: &'a Vault,
    /// The store.
    pub store: &'a dyn ChunkStore,
    /// Told meanwhile: its bytes are those that were opened.
    pub progress: &'a WalkProgress,
}

impl std::fmt::Debug for Census<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Census").finish_non_exhaustive()
    }
}

impl Census<'_> {
    /// Authenticate the head of every chunk under the key of the epoch that it names; `deep` also
    /// all of its content.
    ///
    /// Memory: 32 bytes for each chunk, and a MiB for each thread. An errno when the store cannot
    /// be listed.
    pub fn run(&self, threads: usize, deep: bool) -> Result<Counted, i32> {
        let mut epochs = BTreeMap::<u32, EpochChunks>::new();
        let walk = Walk { vault: self.vault, store: self.store, progress: self.progress };
        let unopened = walk.run(
            threads,
            |id, chunk, buffer: &mut Vec<u8>| {
                let bytes = chunk.plain_bytes();
                if deep {
                    buffer.resize(STEP_BYTES, 0);
                    let mut hasher = self.vault.chunk_hasher();
                    for offset in (0..bytes).step_by(STEP_BYTES) {
                        let step = STEP_BYTES.min(bytes - offset);
                        let range = chunk.read_range(self.vault, offset, step, buffer)?;
                        hasher.update(&buffer[range]);
                        // ORDER: a number for people.
                        self.progress.bytes.fetch_add(step as u64, Ordering::Relaxed);
                    }
                    if hasher.id() != *id {
                        return Err(Stop::Unopened(Flaw::OtherContent));
                    }
                }
                Ok((chunk.epoch(), bytes as u64))
            },
            |(epoch, bytes)| {
                let counted = epochs.entry(epoch).or_default();
                counted.chunks += 1;
                counted.bytes += bytes;
            },
        )?;
        Ok(Counted { epochs, unopened })
    }
}
