//! Deletion of what nothing refers to.
use crate::ChunkStore;
use crate::references::{Reference, range_of};
use std::time::{Duration, SystemTime};

/// What a sweep deleted and kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Objects that are referred to.
    pub used: u64,
    /// Their bytes.
    pub used_bytes: u64,
    /// Objects that nothing refers to, but that are too young.
    pub young: u64,
    /// Their bytes.
    pub young_bytes: u64,
    /// Objects that were deleted, or would be.
    pub deleted: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
}

/// Which objects go.
///
/// The caller keeps writers out: an object that a put found present between the mark and the sweep
/// would be deleted under whoever refers to it next.
#[derive(Clone, Copy)]
pub struct Sweep<'a> {
    /// The store.
    pub store: &'a dyn ChunkStore,
    /// What is referred to: a sealed set, and durable.
    pub references: &'a [Reference],
    /// What was written after this moment stays.
    pub written_before: SystemTime,
    /// Delete nothing, only count.
    pub dry_run: bool,
}

impl std::fmt::Debug for Sweep<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sweep").field("references", &self.references.len()).finish_non_exhaustive()
    }
}

impl Sweep<'_> {
    /// The moment before which objects have to be written to be older than `grace` now.
    #[must_use]
    pub fn before(grace: Duration) -> SystemTime {
        SystemTime::now().checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Delete; ends with the store's first errno, and what was deleted until then is gone.
    pub fn run(&self) -> Result<Swept, i32> {
        let mut swept = Swept::default();
        let mut failed = None;
        self.store.list(&mut |object| {
            if !range_of(self.references, &object.id).is_empty() {
                swept.used += 1;
                swept.used_bytes += object.bytes;
            } else if object.modified > self.written_before {
                swept.young += 1;
                swept.young_bytes += object.bytes;
            } else {
                if !self.dry_run {
                    failed = self.store.delete(&object.id).err();
                }
                if failed.is_none() {
                    swept.deleted += 1;
                    swept.deleted_bytes += object.bytes;
                }
            }
            failed.is_none()
        })?;
        failed.map_or(Ok(swept), Err)
    }
}
