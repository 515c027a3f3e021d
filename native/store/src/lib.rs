//! Where chunk objects live. One trait; a directory is the embedded implementation.

mod cache;
mod census;
mod directory;
mod entry;
mod faults;
mod guarded;
mod journal;
mod kept;
mod key_search;
mod kill;
mod object;
mod references;
mod reseal;
mod scrub;
mod sweep;
mod sync;
mod walk;

pub use cache::{HandleCache, OpenChunk, ReadError};
pub use census::{Census, Counted, EpochChunks};
pub use directory::DirectoryStore;
pub use faults::{faulty, with_faults};
pub use guarded::GuardedStore;
pub use journal::{JournaledStore, Place};
pub use kept::Kept;
pub use key_search::{FoundKey, KeySearch, SearchProgress, Searched};
pub use kill::{KILL_POINTS, KillPoint, kills, pass};
pub use references::{Reference, References};
pub use reseal::{Reseal, Resealed};
pub use scrub::{DamagedChunk, Flaw, Progress, Scrub, Scrubbed};
pub use sweep::{Sweep, Swept};
pub use walk::{Unopened, UnopenedChunk, WalkProgress};

use millrace_vault::ChunkId;
use std::io::IoSlice;
use std::time::SystemTime;

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// The object was there already: content-addressed objects are never written twice.
    pub present: bool,
}

/// Room in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes that are free for us.
    pub free_bytes: u64,
}

/// An object that is in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The chunk that it holds.
    pub id: ChunkId,
    /// Bytes of the object.
    pub bytes: u64,
    /// When it was written.
    pub modified: SystemTime,
}

/// An object that is open for reading.
pub trait ChunkReader: Send + Sync {
    /// Fill `buffer` from this offset on; an errno, EIO when the object is too short.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), i32>;
    /// Bytes of the object.
    fn bytes(&self) -> u64;
}

/// A store of objects by chunk id, immutable but for the key that they are sealed under. All calls block, and any thread may make them. Errors
/// are errnos.
pub trait ChunkStore: Send + Sync {
    /// Store an object whole, or not at all. After it returns, every reader finds it; an error
    /// leaves nothing behind.
    fn put(&self, id: &ChunkId, object: &[IoSlice<'_>]) -> Result<Put, i32>;
    /// Store an object in the place of the one of this chunk, in a way that every reader finds the
    /// one or the other, whole; an error leaves the one before.
    fn replace(&self, id: &ChunkId, object: &[IoSlice<'_>]) -> Result<(), i32>;
    /// Whether the object is there.
    fn has(&self, id: &ChunkId) -> Result<bool, i32>;
    /// Open an object.
    fn open(&self, id: &ChunkId) -> Result<Box<dyn ChunkReader>, i32>;
    /// A barrier: what `put` or `replace` had stored, or `has` had found, before is durable when this returns,
    /// names included.
    fn sync(&self) -> Result<(), i32>;
    /// Whether `sync` does anything: false where a put is as durable as it will ever be.
    fn needs_sync(&self) -> bool;
    /// Remove an object; nothing happens when it is not there.
    fn delete(&self, id: &ChunkId) -> Result<(), i32>;
    /// Call `visit` with every object, in no order, until it returns false. `visit` may delete the
    /// object that it is called with.
    fn list(&self, visit: &mut dyn FnMut(Listed) -> bool) -> Result<(), i32>;
    /// Room in the store.
    fn space(&self) -> Result<Space, i32>;
}

fn last_errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
