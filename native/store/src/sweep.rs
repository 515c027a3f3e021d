//! Deletion of what nobody needs.
use crate::guarded::GuardedStore;
use crate::kill::{KillPoint, pass};
use crate::{ChunkStore, Listed};
use millrace_vault::ChunkId;
use std::time::{Duration, SystemTime};

/// What a sweep deleted and kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Objects that somebody needs.
    pub used: u64,
    /// Their bytes.
    pub used_bytes: u64,
    /// Objects that nobody needs, but that are too young.
    pub young: u64,
    /// Their bytes.
    pub young_bytes: u64,
    /// Objects that were deleted, or would be.
    pub deleted: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
}

/// Which objects go: those that the collection that runs does not keep (see kept.rs).
///
/// The caller has marked all that is referred to, and has made durable what refers to it, so that no
/// loss of power brings back a reference to what goes. Writers may go on meanwhile.
#[derive(Clone, Copy)]
pub struct Sweep<'a> {
    /// The store.
    pub store: &'a GuardedStore,
    /// What was written after this moment stays.
    pub written_before: SystemTime,
    /// Delete nothing, only count.
    pub dry_run: bool,
    /// Once true, the sweep ends with ECANCELED.
    pub cancelled: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Sweep<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sweep").field("dry_run", &self.dry_run).finish_non_exhaustive()
    }
}

impl Sweep<'_> {
    /// The moment before which objects have to be written to be older than `grace` now.
    #[must_use]
    pub fn before(grace: Duration) -> SystemTime {
        SystemTime::now().checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Delete, and tell `gone` of each; ends with the store's first errno, and what was deleted until
    /// then is gone.
    pub fn run(&self, mut gone: impl FnMut(&ChunkId)) -> Result<Swept, i32> {
        pass(KillPoint::SweepBegun);
        let mut swept = Swept::default();
        let mut failed = None;
        self.store.list(&mut |object| {
            let done = if (self.cancelled)() {
                Err(libc::ECANCELED)
            } else {
                self.visit(&object, &mut swept, &mut gone)
            };
            failed = done.err();
            failed.is_none()
        })?;
        pass(KillPoint::SweepEnded);
        failed.map_or(Ok(swept), Err)
    }

    fn visit(
        &self,
        object: &Listed,
        swept: &mut Swept,
        gone: &mut impl FnMut(&ChunkId),
    ) -> Result<(), i32> {
        let (count, bytes) = if self.store.kept().keeps(&object.id) {
            (&mut swept.used, &mut swept.used_bytes)
        } else if object.modified > self.written_before {
            (&mut swept.young, &mut swept.young_bytes)
        } else if self.dry_run {
            (&mut swept.deleted, &mut swept.deleted_bytes)
        } else if self.delete(&object.id)? {
            gone(&object.id);
            (&mut swept.deleted, &mut swept.deleted_bytes)
        } else {
            // Somebody has come to need it since.
            (&mut swept.used, &mut swept.used_bytes)
        };
        *count += 1;
        *bytes += object.bytes;
        Ok(())
    }

    fn delete(&self, id: &ChunkId) -> Result<bool, i32> {
        pass(KillPoint::ChunkDelete);
        let deleted = self.store.delete_unless_kept(id);
        pass(KillPoint::ChunkDeleted);
        deleted
    }
}
