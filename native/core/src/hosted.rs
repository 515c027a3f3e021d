//! A front that the tree worker hosts: while one program waits for one small request after the other, the worker reads
//! them itself, and no thread has to wake another.
//!
//! ```text
//! fronts read ──(the worker's last turns each were one request that came while it spun)──► hosted
//!     ▲                                                                                      │
//!     └──(nothing came for a spin; requests beside each other; bulk; no margin; its end)─────┘
//! ```
//!
//! While it is hosted, the other fronts sleep. They take over by themselves when the worker does not come back soon.
use crate::engine::Engine;
use crate::futex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Turns of few descriptors, without a sleep between them, after which the worker reads for itself.
const STREAK: u32 = 24;
/// Descriptors of one program's requests that may come together: a payload, a close, a release behind it.
const FEW: usize = 4;
/// How long fronts sleep before they look whether the worker still comes back.
const WATCH: Duration = Duration::from_millis(4);
/// What must be free for the worker to read: with less, somebody soon has to wait for room, which the fronts can.
const MARGIN: usize = 8;

/// What one attempt to take a request in yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// None, or what one program asks.
    Few,
    /// The fronts had better go on: there is bulk, or several programs ask.
    Many,
    /// The mount is gone, or its device fails: the fronts will see.
    Gone,
}

/// A front that never waits. Called on the tree worker's thread, between its turns.
pub trait HostedFront: Send {
    /// Read and queue what lies ready. Waits for nothing: neither for frames, nor for request slots, nor for room on a ring.
    fn take(&mut self) -> Taken;

    /// Give back what is kept for the next request: it will not come soon.
    fn rest(&mut self);
}

/// The tree worker's own front, and who reads now.
#[derive(Default)]
pub(crate) struct Host {
    front: Mutex<Option<Box<dyn HostedFront>>>,
    /// Whether there is a front: without one the worker never reads for itself. A hint; the lock above decides.
    present: AtomicBool,
    /// 1 while the worker reads and the fronts sleep on this word.
    hosted: AtomicU32,
    /// Counts the worker's looks at the device, for fronts that watch it.
    beat: AtomicU32,
    streak: AtomicU32,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("hosted", &self.hosted).finish_non_exhaustive()
    }
}

impl Engine {
    /// Give the tree worker a front of its own, or take it away.
    pub fn host_front(&self, front: Option<Box<dyn HostedFront>>) {
        self.host.present.store(front.is_some(), Ordering::Relaxed);
        self.unhost();
        *self.host.front.lock().unwrap_or_else(PoisonError::into_inner) = front;
    }

    /// Wait while the tree worker reads for everybody. For fronts, before each read.
    pub fn await_reading(&self) {
        let host = &self.host;
        while host.hosted.load(Ordering::Acquire) == 1 && !self.stopping() {
            let beat = host.beat.load(Ordering::Relaxed);
            futex::wait(&host.hosted, 1, WATCH);
            if host.beat.load(Ordering::Relaxed) == beat {
                self.unhost();
            }
        }
    }

    /// Let the fronts read again.
    pub(crate) fn unhost(&self) {
        self.host.streak.store(0, Ordering::Relaxed);
        if self.host.hosted.swap(0, Ordering::AcqRel) == 1 {
            futex::wake(&self.host.hosted, i32::MAX);
        }
    }

    /// A wait of the tree worker ended: with `ready` descriptors, without a sleep or after one.
    pub(crate) fn note_wait(&self, ready: usize, slept: bool) {
        let host = &self.host;
        if !host.present.load(Ordering::Relaxed) {
            return;
        }
        if slept || ready == 0 || ready > FEW {
            return self.unhost();
        }
        if host.hosted.load(Ordering::Relaxed) == 0
            && host.streak.fetch_add(1, Ordering::Relaxed) >= STREAK
        {
            host.hosted.store(1, Ordering::Release);
        }
    }

    /// Look for a request, if the worker reads for itself now.
    pub(crate) fn take_hosted(&self) {
        let host = &self.host;
        if host.hosted.load(Ordering::Relaxed) == 0 {
            return;
        }
        host.beat.fetch_add(1, Ordering::Relaxed);
        let mut front = host.front.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = match front.as_mut() {
            Some(front) if self.has_margin() => front.take(),
            Some(front) => {
                front.rest();
                Taken::Many
            }
            None => Taken::Gone,
        };
        if matches!(taken, Taken::Many | Taken::Gone) {
            self.unhost();
        }
    }

    fn has_margin(&self) -> bool {
        self.rings_have(4 * MARGIN) && self.frames.len() >= MARGIN && self.requests.len() >= MARGIN
    }
}
