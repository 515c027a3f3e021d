//! Whether a store holds every chunk that is referred to, as it was stored.
use crate::cache::OpenChunk;
use crate::references::{Reference, range_of};
use crate::{ChunkStore, ReadError};
use millrace_layout::SEGMENT_BYTES;
use millrace_vault::{ChunkId, Header, Vault};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Plaintext that a thread reads at a time.
const STEP_BYTES: usize = 64 * SEGMENT_BYTES;
/// Damaged chunks that are named; more are counted.
const NAMED_MAX: usize = 10_000;

/// What is wrong with a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// There is no object.
    Missing,
    /// The object is shorter or longer than a chunk of this length has.
    Length,
    /// The store refuses to read it, with this errno.
    Unreadable(i32),
    /// It does not open: header, tags, padding or ciphertext are not what was stored.
    Damaged,
    /// It is sealed under the key of this epoch, which is not there.
    Epoch(u32),
    /// It opens, but holds what has another id.
    OtherContent,
}

/// A chunk that is referred to and cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedChunk {
    /// Who refers to it.
    pub reference: Reference,
    /// Why it cannot be used.
    pub flaw: Flaw,
}

/// How far a scrub is; any thread may read it meanwhile.
#[derive(Debug, Default)]
pub struct Progress {
    /// Chunks that were looked at.
    pub done: AtomicU64,
    /// Bytes that were read and opened.
    pub bytes: AtomicU64,
}

/// What a scrub found.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// Objects that are referred to.
    pub used: u64,
    /// Their bytes.
    pub used_bytes: u64,
    /// Objects that nothing refers to.
    pub unused: u64,
    /// Their bytes.
    pub unused_bytes: u64,
    /// References that lead to no usable chunk.
    pub damaged: u64,
    /// Some of them, 10,000 at most, in the order of their ids.
    pub named: Vec<DamagedChunk>,
}

/// One look at a store. Nothing is changed.
#[derive(Clone, Copy)]
pub struct Scrub<'a> {
    /// Keys.
    pub vault: &'a Vault,
    /// The store.
    pub store: &'a dyn ChunkStore,
    /// What is referred to: a sealed set.
    pub references: &'a [Reference],
    /// Told meanwhile.
    pub progress: &'a Progress,
}

impl std::fmt::Debug for Scrub<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrub").field("references", &self.references.len()).finish_non_exhaustive()
    }
}

impl Scrub<'_> {
    /// Look for every object and at its length; with `threads` above 0 also open each and hash its
    /// plaintext, on that many threads.
    ///
    /// Memory: a byte for each reference, and a MiB with a head for each thread. An errno when the
    /// store cannot be listed.
    pub fn run(&self, threads: usize) -> Result<Scrubbed, i32> {
        let mut flaws: Vec<Option<Flaw>> = vec![Some(Flaw::Missing); self.references.len()];
        let mut found = Scrubbed::default();
        self.store.list(&mut |object| {
            let range = range_of(self.references, &object.id);
            if range.is_empty() {
                found.unused += 1;
                found.unused_bytes += object.bytes;
                return true;
            }
            found.used += 1;
            found.used_bytes += object.bytes;
            for index in range {
                flaws[index] = length_flaw(self.references[index], object.bytes);
                // ORDER: a number for people.
                self.progress.done.fetch_add(u64::from(threads == 0), Ordering::Relaxed);
            }
            true
        })?;
        if threads > 0 {
            self.open_all(&mut flaws, threads);
        }
        for (&reference, flaw) in self.references.iter().zip(flaws) {
            let Some(flaw) = flaw else { continue };
            found.damaged += 1;
            if found.named.len() < NAMED_MAX {
                found.named.push(DamagedChunk { reference, flaw });
            }
        }
        Ok(found)
    }

    fn open_all(&self, flaws: &mut [Option<Flaw>], threads: usize) {
        let next = AtomicUsize::new(0);
        let worse = Mutex::new(Vec::new());
        let known: &[Option<Flaw>] = flaws;
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut buffer = vec![0; STEP_BYTES];
                    loop {
                        // ORDER: only that no two threads take the same matters.
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(reference) = self.references.get(index) else { return };
                        if known[index].is_none()
                            && let Err(flaw) = self.open(&reference.id, &mut buffer)
                        {
                            let mut worse = worse.lock().unwrap_or_else(PoisonError::into_inner);
                            worse.push((index, flaw));
                        }
                        self.progress.done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        for (index, flaw) in worse.into_inner().unwrap_or_else(PoisonError::into_inner) {
            flaws[index] = Some(flaw);
        }
    }

    /// Read all of a chunk.
    fn open(&self, id: &ChunkId, buffer: &mut [u8]) -> Result<(), Flaw> {
        let chunk = OpenChunk::open(self.vault, self.store, id).map_err(flaw)?;
        let mut hasher = self.vault.chunk_hasher();
        let mut offset = 0;
        while offset < chunk.plain_bytes() {
            let step = STEP_BYTES.min(chunk.plain_bytes() - offset);
            let range = chunk.read_range(self.vault, offset, step, buffer).map_err(flaw)?;
            hasher.update(&buffer[range]);
            offset += step;
            self.progress.bytes.fetch_add(step as u64, Ordering::Relaxed);
        }
        if hasher.id() == *id { Ok(()) } else { Err(Flaw::OtherContent) }
    }
}

pub(crate) fn flaw(error: ReadError) -> Flaw {
    match error {
        ReadError::Errno(libc::ENOENT) => Flaw::Missing,
        ReadError::Errno(errno) => Flaw::Unreadable(errno),
        ReadError::Damaged => Flaw::Damaged,
        ReadError::Epoch(epoch) => Flaw::Epoch(epoch),
    }
}

fn length_flaw(reference: Reference, object_bytes: u64) -> Option<Flaw> {
    let expected = Header::of(reference.plain_bytes as usize).object_bytes() as u64;
    (object_bytes != expected).then_some(Flaw::Length)
}
