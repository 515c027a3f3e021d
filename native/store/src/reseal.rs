//! Sealing anew, under the key of the current epoch, what earlier keys have sealed.
use crate::ChunkStore;
use crate::cache::OpenChunk;
use crate::scrub::{Flaw, flaw};
use millrace_vault::{ChunkId, HeadBuf, Vault};
use std::io::IoSlice;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Chunks that could not be opened that are named; more are counted.
const NAMED_MAX: usize = 100;
const PAGE_BYTES: usize = 4096;

/// A chunk that no key at hand opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnopenedChunk {
    /// The chunk.
    pub id: ChunkId,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// How far it is; any thread may read it meanwhile.
#[derive(Debug, Default)]
pub struct ResealProgress {
    /// Chunks of the store.
    pub total: AtomicU64,
    /// Chunks that were looked at.
    pub done: AtomicU64,
    /// Bytes of plaintext that were sealed anew.
    pub bytes: AtomicU64,
}

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
    pub unopened: u64,
    /// Some of them, 100 at most.
    pub named: Vec<UnopenedChunk>,
}

/// A walk through all chunks of a store that nobody else uses.
#[derive(Clone, Copy)]
pub struct Reseal<'a> {
    /// Keys of all epochs that are in the store.
    pub vault: &'a Vault,
    /// The store.
    pub store: &'a dyn ChunkStore,
    /// Told meanwhile.
    pub progress: &'a ResealProgress,
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

impl Drop for Buffers {
    fn drop(&mut self) {
        // What a chunk that would not open has left is plaintext.
        self.pages.fill(Page([0; PAGE_BYTES]));
        std::hint::black_box(&self.pages);
    }
}

/// What ended the work on one chunk.
enum Stop {
    /// It cannot be opened: the others can.
    Unopened(Flaw),
    /// The store refuses to take objects.
    Refused(i32),
}

impl Reseal<'_> {
    /// Seal every chunk of an earlier epoch anew, on so many threads; what is replaced is durable
    /// when this returns. Each object is replaced as a whole, so whoever was stopped in the middle
    /// can start again, and goes on from there.
    ///
    /// Memory: 32 bytes for each chunk of the store, and the largest chunk for each thread. The
    /// store's first errno when it cannot be listed or takes no objects.
    pub fn run(&self, threads: usize) -> Result<Resealed, i32> {
        // All ids first: a listing of a directory whose entries are replaced promises nothing.
        let mut ids = Vec::new();
        self.store.list(&mut |object| {
            ids.push(object.id);
            true
        })?;
        // ORDER: these are numbers for people.
        self.progress.total.store(ids.len() as u64, Ordering::Relaxed);
        let next = AtomicUsize::new(0);
        let outcome = Mutex::new((Resealed::default(), None));
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| self.work(&ids, &next, &outcome));
            }
        });
        let (resealed, refused) = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(errno) = refused {
            return Err(errno);
        }
        self.store.sync()?;
        Ok(resealed)
    }

    fn work(&self, ids: &[ChunkId], next: &AtomicUsize, all: &Mutex<(Resealed, Option<i32>)>) {
        let mut buffers = Buffers::default();
        loop {
            // ORDER: only that no two threads take the same matters.
            let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            let result = self.one(id, &mut buffers);
            self.progress.done.fetch_add(1, Ordering::Relaxed);
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            let (found, refused) = &mut *all;
            match result {
                Ok(None) => found.current += 1,
                Ok(Some(bytes)) => {
                    found.resealed += 1;
                    found.resealed_bytes += bytes as u64;
                }
                Err(Stop::Unopened(flaw)) => {
                    found.unopened += 1;
                    if found.named.len() < NAMED_MAX {
                        found.named.push(UnopenedChunk { id: *id, flaw });
                    }
                }
                Err(Stop::Refused(errno)) => {
                    *refused = Some(errno);
                    // The others find no more work.
                    next.store(ids.len(), Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    /// Bytes of plaintext that were sealed anew; `None` when the chunk is of this epoch.
    fn one(&self, id: &ChunkId, buffers: &mut Buffers) -> Result<Option<usize>, Stop> {
        let unopened = |error| Stop::Unopened(flaw(error));
        let chunk = OpenChunk::open(self.vault, self.store, id).map_err(unopened)?;
        if chunk.epoch() == self.vault.epoch() {
            return Ok(None);
        }
        let bytes = chunk.plain_bytes();
        let plain = bytes_of(&mut buffers.pages, bytes);
        let head = &mut buffers.head;
        chunk.read_range(self.vault, 0, bytes, plain).map_err(unopened)?;
        // Sealed under the id of what is there: another one than was asked for is not stored.
        if self.vault.seal_buffer(plain, head) != *id {
            return Err(Stop::Unopened(Flaw::OtherContent));
        }
        let object = [IoSlice::new(head.bytes()), IoSlice::new(plain)];
        self.store.replace(id, &object).map_err(Stop::Refused)?;
        self.progress.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(Some(bytes))
    }
}
