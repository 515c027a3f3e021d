//! Which chunks a collection of garbage must not delete.
//!
//! ```text
//! begin ─► keep: all that is referred to (the mark), all that is put or found present meanwhile
//!          delete: what is not kept goes ─► end
//! ```
//!
//! A put keeps its chunk before it looks whether the store has it; a sweep looks whether a chunk is
//! kept and deletes it under the same lock. So either the sweep is first, and the put stores the
//! chunk again, or the put is, and the sweep leaves the chunk alone. Nothing between the two can go
//! wrong, however old the chunk is. Whatever was looked up before `begin` must be referred to before
//! the mark begins: the caller waits for that.
use crate::sync::{Mutex, MutexGuard};
use millrace_vault::ChunkId;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::PoisonError;

/// Locks, and sets under them, by the first byte of an id.
#[cfg(not(loom))]
const SHARDS: usize = 256;
#[cfg(loom)]
const SHARDS: usize = 1;

/// Ids are keyed hashes: bits of them need no further hashing.
#[derive(Clone, Copy, Debug, Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Chunks by 64 bits of their ids, beside the byte that chooses the shard. Two that share them are
/// kept together, which costs room until a later collection, and happens to none of 2^64 pairs.
type Prints = HashSet<u64, BuildHasherDefault<Itself>>;

/// What the collection that runs keeps; nothing while there is none.
///
/// Memory: 20 bytes at most for each chunk that is kept, while a collection runs. Threads: any.
pub struct Kept {
    shards: Vec<Mutex<Option<Prints>>>,
    /// Held by the collection that runs.
    running: Mutex<bool>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::new(None)).collect(), running: Mutex::new(false) }
    }
}

impl Kept {
    /// Begin a collection: from now on it is remembered what is kept. False: one runs already.
    #[must_use]
    pub fn begin(&self) -> bool {
        if std::mem::replace(&mut *lock(&self.running), true) {
            return false;
        }
        for shard in &self.shards {
            *lock(shard) = Some(Prints::default());
        }
        true
    }

    /// The collection is over: nothing is remembered any more.
    pub fn end(&self) {
        for shard in &self.shards {
            *lock(shard) = None;
        }
        *lock(&self.running) = false;
    }

    /// Have the collection that runs, if any, leave this chunk alone, whether the store has it or not.
    pub fn keep(&self, id: &ChunkId) {
        if let Some(prints) = lock(self.shard(id)).as_mut() {
            prints.insert(print(id));
        }
    }

    /// Whether a collection runs and must leave this chunk alone.
    #[must_use]
    pub fn keeps(&self, id: &ChunkId) -> bool {
        lock(self.shard(id)).as_ref().is_some_and(|prints| prints.contains(&print(id)))
    }

    /// Call `delete` unless the chunk is kept; nobody can begin to keep it meanwhile. `None`: it is
    /// kept, or no collection runs.
    pub(crate) fn unless_kept<T>(&self, id: &ChunkId, delete: impl FnOnce() -> T) -> Option<T> {
        let shard = lock(self.shard(id));
        let kept = shard.as_ref().is_none_or(|prints| prints.contains(&print(id)));
        if kept { None } else { Some(delete()) }
    }

    fn shard(&self, id: &ChunkId) -> &Mutex<Option<Prints>> {
        &self.shards[usize::from(id.0[0]) % SHARDS]
    }
}

fn print(id: &ChunkId) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.0[1..9]);
    u64::from_le_bytes(bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn id(number: u32) -> ChunkId {
        let mut id = [0; 32];
        // Scattered over all bytes that are looked at, as real ids are.
        for (i, byte) in id[..9].iter_mut().enumerate() {
            *byte = (number.wrapping_mul(0x9e37_79b1) >> (i % 4 * 8)) as u8;
        }
        ChunkId(id)
    }

    #[test]
    fn what_is_kept_is_spared_until_the_collection_ends() {
        let kept = Kept::default();
        kept.keep(&id(1));
        assert!(!kept.keeps(&id(1)), "nothing is remembered without a collection");
        assert_eq!(kept.unless_kept(&id(1), || ()), None, "and nothing is deleted");
        assert!(kept.begin());
        assert!(!kept.begin(), "one collection at a time");
        for number in 0..20_000 {
            kept.keep(&id(number));
        }
        for number in 0..20_000 {
            assert!(kept.keeps(&id(number)));
            assert_eq!(kept.unless_kept(&id(number), || ()), None);
        }
        let deleted = (20_000..40_000).filter(|&n| kept.unless_kept(&id(n), || n) == Some(n));
        assert_eq!(deleted.count(), 20_000);
        kept.end();
        assert!(!kept.keeps(&id(1)));
        assert!(kept.begin(), "there can be another one");
        assert_eq!(kept.unless_kept(&id(1), || 7), Some(7), "which knows nothing of the first");
    }
}

/// The race of a put or a dedup hit with the sweep, in every order: `test/all.sh` runs it.
#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, Ordering};

    const ID: ChunkId = ChunkId([7; 32]);

    /// A store of one chunk, and whether a file needs it.
    struct Model {
        kept: Kept,
        present: AtomicBool,
        referred_to: AtomicBool,
    }

    impl Model {
        /// A collection has begun, and what was before it has been waited for.
        fn collecting(present: bool) -> Arc<Self> {
            let model = Self {
                kept: Kept::default(),
                present: AtomicBool::new(present),
                referred_to: AtomicBool::new(false),
            };
            assert!(model.kept.begin());
            Arc::new(model)
        }

        /// As a mover does: keep, look, store what is not there, report.
        fn settle(&self) {
            self.kept.keep(&ID);
            if !self.present.load(Ordering::SeqCst) {
                self.present.store(true, Ordering::SeqCst);
            }
            self.referred_to.store(true, Ordering::SeqCst);
        }

        /// As the tree worker does, and then the sweep.
        fn collect(&self) {
            if self.referred_to.load(Ordering::SeqCst) {
                self.kept.keep(&ID);
            }
            let delete = || self.present.store(false, Ordering::SeqCst);
            if self.present.load(Ordering::SeqCst) {
                self.kept.unless_kept(&ID, delete);
            }
            self.kept.end();
        }

        fn check(&self) {
            let (present, needed) =
                (self.present.load(Ordering::SeqCst), self.referred_to.load(Ordering::SeqCst));
            assert!(present || !needed, "a chunk that is needed was deleted");
        }
    }

    #[test]
    fn kept_or_stored_again() {
        for present in [true, false] {
            loom::model(move || {
                let model = Model::collecting(present);
                let settler = {
                    let model = model.clone();
                    loom::thread::spawn(move || model.settle())
                };
                model.collect();
                settler.join().unwrap();
                model.check();
            });
        }
    }

    #[test]
    fn two_settles_of_the_same_content() {
        loom::model(|| {
            let model = Model::collecting(true);
            let settlers: Vec<_> = (0..2)
                .map(|_| {
                    let model = model.clone();
                    loom::thread::spawn(move || model.settle())
                })
                .collect();
            model.collect();
            for settler in settlers {
                settler.join().unwrap();
            }
            model.check();
        });
    }

    /// Looking first and keeping then is what this file exists to rule out: the model must see it fail.
    #[test]
    #[should_panic(expected = "a chunk that is needed was deleted")]
    fn a_look_before_the_keep_would_lose_a_chunk() {
        loom::model(|| {
            let model = Model::collecting(true);
            let settler = {
                let model = model.clone();
                loom::thread::spawn(move || {
                    let present = model.present.load(Ordering::SeqCst);
                    model.kept.keep(&ID);
                    if !present {
                        model.present.store(true, Ordering::SeqCst);
                    }
                    model.referred_to.store(true, Ordering::SeqCst);
                })
            };
            model.collect();
            settler.join().unwrap();
            model.check();
        });
    }
}
