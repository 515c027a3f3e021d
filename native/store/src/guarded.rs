//! A store whose garbage can be collected while others put.
use crate::kept::Kept;
use crate::{ChunkReader, ChunkStore, Listed, Put, Space};
use millrace_vault::ChunkId;
use std::io::IoSlice;
use std::sync::Arc;

/// A store that tells the collection that runs, if any, what is put and what is found present.
pub struct GuardedStore {
    below: Arc<dyn ChunkStore>,
    kept: Kept,
}

impl std::fmt::Debug for GuardedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardedStore").finish_non_exhaustive()
    }
}

impl GuardedStore {
    /// Over the store where the chunks are.
    #[must_use]
    pub fn new(below: Arc<dyn ChunkStore>) -> Self {
        Self { below, kept: Kept::default() }
    }

    /// What the collection that runs keeps.
    #[must_use]
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Remove an object, unless the collection that runs keeps it; whether it was removed.
    pub(crate) fn delete_unless_kept(&self, id: &ChunkId) -> Result<bool, i32> {
        self.kept
            .unless_kept(id, || self.below.delete(id))
            .map_or(Ok(false), |deleted| deleted.map(|()| true))
    }
}

impl ChunkStore for GuardedStore {
    fn put(&self, id: &ChunkId, object: &[IoSlice<'_>]) -> Result<Put, i32> {
        // Before anything is looked at: see kept.rs.
        self.kept.keep(id);
        self.below.put(id, object)
    }

    fn replace(&self, id: &ChunkId, object: &[IoSlice<'_>]) -> Result<(), i32> {
        self.kept.keep(id);
        self.below.replace(id, object)
    }

    fn has(&self, id: &ChunkId) -> Result<bool, i32> {
        self.kept.keep(id);
        self.below.has(id)
    }

    fn open(&self, id: &ChunkId) -> Result<Box<dyn ChunkReader>, i32> {
        self.below.open(id)
    }

    fn sync(&self) -> Result<(), i32> {
        self.below.sync()
    }

    fn needs_sync(&self) -> bool {
        self.below.needs_sync()
    }

    fn delete(&self, id: &ChunkId) -> Result<(), i32> {
        self.below.delete(id)
    }

    fn list(&self, visit: &mut dyn FnMut(Listed) -> bool) -> Result<(), i32> {
        self.below.list(visit)
    }

    fn space(&self) -> Result<Space, i32> {
        self.below.space()
    }
}
