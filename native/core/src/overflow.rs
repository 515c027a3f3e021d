//! What did not fit into a ring, beside it and in order.
//!
//! ```text
//! producer   length == 0 and pushed on the ring? done : lock, append, length; then the ring's `claim_wake`
//! consumer   refill: lock, move to the ring as far as it fits, length
//!            before it sleeps: `arm`, and nothing lies in either
//! ```
//!
//! A producer that found the ring full may be late: the consumer has emptied the ring when it appends. So the consumer looks
//! at the length as well, after it has announced its sleep.
use crate::ring::{Cells, Ring, Words};
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};
use std::collections::VecDeque;
use std::sync::PoisonError;

/// The descriptors beside one ring. Their number is kept beside the lock, for the common case of none.
#[derive(Debug)]
pub(crate) struct Overflow {
    length: AtomicUsize,
    words: Mutex<VecDeque<Words>>,
}

impl Default for Overflow {
    fn default() -> Self {
        Self { length: AtomicUsize::new(0), words: Mutex::new(VecDeque::new()) }
    }
}

impl Overflow {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Words>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is nothing. Who happens after an append that nobody has moved to the ring yet is told no.
    pub(crate) fn is_empty(&self) -> bool {
        // ORDER: partners are the releases in `push` and `refill`: after the latter, what was moved has its ticket.
        self.length.load(Ordering::Acquire) == 0
    }

    /// Queue a descriptor, behind all that the caller knows of. Never waits for the consumer; the caller wakes it
    /// afterwards: see [`Ring::claim_wake`].
    pub(crate) fn push<C: Cells>(&self, ring: &Ring<C>, words: &Words) {
        if self.is_empty() && ring.push(words, ring.0.slots()) {
            return;
        }
        let mut rest = self.lock();
        rest.push_back(*words);
        // ORDER: partner is `is_empty`: of producers, and of the consumer before it sleeps.
        self.length.store(rest.len(), Ordering::Release);
    }

    /// Move what there is into the ring, as far as it fits. Consumer of that ring only.
    pub(crate) fn refill<C: Cells>(&self, ring: &Ring<C>) {
        if self.is_empty() {
            return;
        }
        let mut rest = self.lock();
        while let Some(words) = rest.front() {
            if !ring.push(words, ring.0.slots()) {
                break;
            }
            rest.pop_front();
        }
        // ORDER: partner is `is_empty` of producers: who sees that nothing is left pushes behind what was moved.
        self.length.store(rest.len(), Ordering::Release);
    }

    /// Announce that the consumer is about to sleep, and how: as [`Ring::arm`], but false also when something lies beside
    /// the ring. Consumer only.
    pub(crate) fn arm<C: Cells>(&self, ring: &Ring<C>, how: u32) -> bool {
        if !ring.arm(how) {
            return false;
        }
        // ORDER: behind the fence of `arm`, whose partner is the fence in `claim_wake`, behind the store of the length: either
        // the producer sees `how`, or we see its length.
        if self.is_empty() {
            return true;
        }
        ring.disarm();
        false
    }
}
