//! A walk through every chunk of a store that nobody else uses, on several threads.
use crate::ChunkStore;
use crate::cache::OpenChunk;
use crate::scrub::{Flaw, flaw};
use millrace_vault::{ChunkId, Vault};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Chunks that could not be opened that are named; more are counted.
const NAMED_MAX: usize = 100;

/// A chunk that no key at hand opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnopenedChunk {
    /// The chunk.
    pub id: ChunkId,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// The chunks of a walk that could not be opened.
#[derive(Debug, Default)]
pub struct Unopened {
    /// How many.
    pub count: u64,
    /// Some of them, 100 at most.
    pub named: Vec<UnopenedChunk>,
}

/// How far a walk is; any thread may read it meanwhile.
#[derive(Debug, Default)]
pub struct WalkProgress {
    /// Chunks of the store.
    pub total: AtomicU64,
    /// Chunks that were looked at.
    pub done: AtomicU64,
    /// Bytes of plaintext that were worked on.
    pub bytes: AtomicU64,
}

/// What ends the work on one chunk.
pub(crate) enum Stop {
    /// It cannot be opened: the others can.
    Unopened(Flaw),
    /// The store refuses to take objects.
    Refused(i32),
}

impl From<crate::ReadError> for Stop {
    fn from(error: crate::ReadError) -> Self {
        Self::Unopened(flaw(error))
    }
}

/// What a walk goes through, and with which keys.
#[derive(Clone, Copy)]
pub(crate) struct Walk<'a> {
    pub(crate) vault: &'a Vault,
    pub(crate) store: &'a dyn ChunkStore,
    pub(crate) progress: &'a WalkProgress,
}

impl Walk<'_> {
    /// Call `each` with every chunk, open, and a state of the thread's own; `found` hears what it
    /// yields, one at a time. Ends with the store's first errno.
    ///
    /// Memory: 32 bytes for each chunk.
    pub(crate) fn run<S: Default, T>(
        &self,
        threads: usize,
        each: impl Fn(&ChunkId, &OpenChunk, &mut S) -> Result<T, Stop> + Sync,
        found: impl FnMut(T) + Send,
    ) -> Result<Unopened, i32> {
        // All ids first: a listing of a directory whose entries are replaced promises nothing.
        let mut ids = Vec::new();
        self.store.list(&mut |object| {
            ids.push(object.id);
            true
        })?;
        // ORDER: these are numbers for people.
        self.progress.total.store(ids.len() as u64, Ordering::Relaxed);
        let next = AtomicUsize::new(0);
        let all = Mutex::new((Unopened::default(), None, found));
        let work = || {
            let mut state = S::default();
            loop {
                // ORDER: only that no two threads take the same matters.
                let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                let result = OpenChunk::open(self.vault, self.store, id)
                    .map_err(Stop::from)
                    .and_then(|chunk| each(id, &chunk, &mut state));
                self.progress.done.fetch_add(1, Ordering::Relaxed);
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                let (unopened, refused, found) = &mut *all;
                match result {
                    Ok(yielded) => found(yielded),
                    Err(Stop::Unopened(flaw)) => {
                        unopened.count += 1;
                        if unopened.named.len() < NAMED_MAX {
                            unopened.named.push(UnopenedChunk { id: *id, flaw });
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
        };
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(work);
            }
        });
        let (unopened, refused, _) = all.into_inner().unwrap_or_else(PoisonError::into_inner);
        refused.map_or(Ok(unopened), Err)
    }
}
