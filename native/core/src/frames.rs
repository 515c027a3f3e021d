//! Which frames are free, and who waits for one. The only back-pressure there is (invariant 5).
use crate::futex;
use crate::memory::Memory;
use millrace_layout::header;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A free list, LIFO so that the frames in use stay warm, with a futex for fronts that wait.
#[derive(Debug)]
pub(crate) struct FreeList {
    free: Mutex<Vec<u32>>,
}

impl FreeList {
    pub(crate) fn new(count: usize) -> Self {
        Self { free: Mutex::new((0..count as u32).rev().collect()) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u32>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index that was given back last, and how many are left.
    pub(crate) fn take(&self) -> Option<(u32, usize)> {
        let mut free = self.lock();
        let index = free.pop()?;
        Some((index, free.len()))
    }

    pub(crate) fn give(&self, index: u32) -> usize {
        let mut free = self.lock();
        free.push(index);
        free.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }
}

/// Sleep until something was given back since `seen` was read, or the timeout is over.
pub(crate) fn wait_freed(memory: &Memory, seen: u32, timeout: Duration) {
    let waiting = memory.header(header::FRONTS_WAITING);
    // ORDER: SeqCst with `announce_freed`: either the giver sees a waiter, or the waiter sees the new count.
    waiting.fetch_add(1, Ordering::SeqCst);
    let freed = memory.header(header::FREED);
    if freed.load(Ordering::SeqCst) == seen {
        futex::wait(freed, seen, timeout);
    }
    waiting.fetch_sub(1, Ordering::SeqCst);
}

/// Tell waiting fronts that something is free again.
pub(crate) fn announce_freed(memory: &Memory) {
    // ORDER: partner is `wait_freed`.
    memory.header(header::FREED).fetch_add(1, Ordering::SeqCst);
    if memory.header(header::FRONTS_WAITING).load(Ordering::SeqCst) > 0 {
        futex::wake(memory.header(header::FREED), i32::MAX);
    }
}

/// Count one owner less; true when it was the last one and the frame is the caller's to free.
pub(crate) fn drop_count(count: &AtomicU32) -> bool {
    // ORDER: AcqRel, so that everything the other owners did with the frame happens before its reuse.
    count.fetch_sub(1, Ordering::AcqRel) == 1
}
