//! Sealing anew, under the key of the current epoch, what earlier keys have sealed.
use crate::ChunkStore;
use crate::cache::OpenChunk;
use crate::scrub::Flaw;
use crate::walk::{Stop, Unopened, Walk, WalkProgress};
use millrace_vault::{ChunkId, HeadBuf, Vault};
use std::io::IoSlice;
use std::sync::atomic::Ordering;

const PAGE_BYTES: usize = 4096;

/// What was done.
#[derive(Debug, Default)]
pub struct Resealed {
    /// Chunks that were sealed anew.
    pub resealed: u64,
    /// Bytes of their plaintext.
    pub resealed_bytes: u64,
    /// Chunks that were of the current epoch already.
    pub current: u64,
    /// Chunks that could not be opened, and stay as they are.
    pub unopened: Unopened,
}

/// All chunks of a store that nobody else uses.
#[derive(Clone, Copy)]
pub struct Reseal<'a> {
    /// Keys of all epochs that are in the store.
    pub vault: &'a Vault,
    /// The store.
    pub store: &'a dyn ChunkStore,
    /// Told meanwhile: its bytes are those that were sealed anew.
    pub progress: &'a WalkProgress,
}

impl std::fmt::Debug for Reseal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reseal").field("epoch", &self.vault.epoch()).finish_non_exhaustive()
    }
}

/// Memory for a chunk, aligned so that it goes to a disk past the page cache.
#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_BYTES]);

#[derive(Default)]
struct Buffers {
    pages: Vec<Page>,
    head: HeadBuf,
}

/// The first so many bytes of pages, of which there will be enough.
fn bytes_of(pages: &mut Vec<Page>, bytes: usize) -> &mut [u8] {
    if pages.len() < bytes.div_ceil(PAGE_BYTES) {
        pages.resize(bytes.div_ceil(PAGE_BYTES), Page([0; PAGE_BYTES]));
    }
    // SAFETY: pages are plain bytes, one behind the other, and there are enough of them.
    unsafe { std::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), bytes) }
}

impl Reseal<'_> {
    /// Seal every chunk of an earlier epoch anew, on so many threads; what is replaced is durable
    /// when this returns. Each object is replaced as a whole, so whoever was stopped in the middle
    /// can start again, and goes on from there.
    ///
    /// Memory: 32 bytes for each chunk of the store, and the largest chunk for each thread. The
    /// store's first errno when it cannot be listed or takes no objects.
    pub fn run(&self, threads: usize) -> Result<Resealed, i32> {
        let mut done = Resealed::default();
        let walk = Walk { vault: self.vault, store: self.store, progress: self.progress };
        let unopened = walk.run(
            threads,
            |id, chunk, buffers| self.one(id, chunk, buffers),
            |resealed| match resealed {
                None => done.current += 1,
                Some(bytes) => {
                    done.resealed += 1;
                    done.resealed_bytes += bytes as u64;
                }
            },
        )?;
        self.store.sync()?;
        Ok(Resealed { unopened, ..done })
    }

    /// Bytes of plaintext that were sealed anew; `None` when the chunk is of this epoch.
    fn one(
        &self,
        id: &ChunkId,
        chunk: &OpenChunk,
        buffers: &mut Buffers,
    ) -> Result<Option<usize>, Stop> {
        if chunk.epoch() == self.vault.epoch() {
            return Ok(None);
        }
        let bytes = chunk.plain_bytes();
        let plain = bytes_of(&mut buffers.pages, bytes);
        chunk.read_range(self.vault, 0, bytes, plain)?;
        // Sealed under the id of what is there: another one than was asked for is not stored.
        if self.vault.seal_buffer(plain, &mut buffers.head) != *id {
            return Err(Stop::Unopened(Flaw::OtherContent));
        }
        let object = [IoSlice::new(buffers.head.bytes()), IoSlice::new(plain)];
        self.store.replace(id, &object).map_err(Stop::Refused)?;
        // ORDER: a number for people.
        self.progress.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(Some(bytes))
    }
}
