//! A ring of 64-byte descriptors: many producers, one consumer, in memory that TypeScript reads as well.
//!
//! ```text
//! tail   next ticket of the producers (fetch_add: ticket order respects happens-before between producers)
//! head   first ticket that the consumer has not released
//! slot t at t mod RING_SLOTS; its first word is t + 1 once the descriptor of ticket t is published
//!
//! empty: slot[head].sequence != head + 1        full: tail - head == RING_SLOTS
//! ```
//!
//! A producer reserves its ticket only while there is room, so that a push never waits for the consumer.
use crate::sync::{AtomicU32, Ordering, fence};
use millrace_layout::{RING_SLOTS, descriptor};

/// The words of a descriptor; word 0 belongs to the ring.
pub type Words = [u32; descriptor::WORDS];

/// Where a ring lies: shared memory, or loom's cells in a model.
pub trait Cells {
    /// Next ticket of the producers.
    fn tail(&self) -> &AtomicU32;
    /// First ticket that is not released.
    fn head(&self) -> &AtomicU32;
    /// How the consumer sleeps: 0 while it is awake, else what it gave to `arm`.
    fn parked(&self) -> &AtomicU32;
    /// Word 0 of a slot.
    fn sequence(&self, slot: usize) -> &AtomicU32;
    /// Fill words 1.. of a slot that the caller has reserved.
    fn fill(&self, slot: usize, words: &Words);
    /// Slots of this ring, a power of two.
    fn slots(&self) -> usize {
        RING_SLOTS
    }
}

/// One ring over some cells.
#[derive(Debug)]
pub struct Ring<C>(pub C);

impl<C: Cells> Ring<C> {
    fn slot(&self, ticket: u32) -> usize {
        ticket as usize & (self.0.slots() - 1)
    }

    /// Publish a descriptor unless `limit` descriptors are queued already. Tells whether it was published.
    ///
    /// Any thread may call this; it never blocks. The caller wakes the consumer afterwards: see [`Ring::claim_wake`].
    pub fn push(&self, words: &Words, limit: usize) -> bool {
        // ORDER: partner is the release of `head` in `release`; a stale head only makes the ring look fuller.
        let mut tail = self.0.tail().load(Ordering::Relaxed);
        loop {
            let head = self.0.head().load(Ordering::Acquire);
            if tail.wrapping_sub(head) as usize >= limit.min(self.0.slots()) {
                // The tail may be older than the head: only a fresh look proves that the ring is full.
                let fresh = self.0.tail().load(Ordering::Relaxed);
                if fresh == tail {
                    return false;
                }
                tail = fresh;
                continue;
            }
            // ORDER: AcqRel keeps tickets in happens-before order between producers: a request that follows
            // an acknowledged write gets a later ticket than that write.
            match self.0.tail().compare_exchange_weak(
                tail,
                tail.wrapping_add(1),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => tail = now,
            }
        }
        let slot = self.slot(tail);
        self.0.fill(slot, words);
        // ORDER: partner is the acquire in `available`: the words are visible before the sequence.
        self.0.sequence(slot).store(tail.wrapping_add(1), Ordering::Release);
        true
    }

    /// How many descriptors lie ready from the head on, at most `limit`. Consumer only.
    pub fn available(&self, limit: usize) -> usize {
        // ORDER: only the consumer writes the head.
        let head = self.0.head().load(Ordering::Relaxed);
        (0..limit as u32)
            .take_while(|&n| {
                let ticket = head.wrapping_add(n);
                // ORDER: partner is the release in `push`.
                self.0.sequence(self.slot(ticket)).load(Ordering::Acquire) == ticket.wrapping_add(1)
            })
            .count()
    }

    /// Give `count` descriptors from the head on back to the producers. Consumer only.
    pub fn release(&self, count: usize) {
        let head = self.0.head().load(Ordering::Relaxed);
        // ORDER: partner is the acquire of `head` in `push`: the consumer has read the words before they are overwritten.
        self.0.head().store(head.wrapping_add(count as u32), Ordering::Release);
    }

    /// Announce that the consumer is about to sleep, and how (not 0). False: something arrived meanwhile, do not
    /// sleep. Consumer only; one that has descriptors beside the ring looks there as well (`overflow.rs`).
    pub fn arm(&self, how: u32) -> bool {
        self.0.parked().store(how, Ordering::Relaxed);
        // ORDER: partner is the fence in `claim_wake`. Either the producer sees `how`, or we see its descriptor.
        fence(Ordering::SeqCst);
        if self.available(1) == 0 {
            return true;
        }
        self.disarm();
        false
    }

    /// The consumer is awake again.
    pub fn disarm(&self) {
        self.0.parked().store(0, Ordering::Relaxed);
    }

    /// After a push: how the consumer sleeps when this caller is the one who has to wake it, else 0.
    pub fn claim_wake(&self) -> u32 {
        // ORDER: partner is the fence in `arm`.
        fence(Ordering::SeqCst);
        if self.0.parked().load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.0.parked().swap(0, Ordering::Relaxed)
    }

    /// Descriptors that are queued or reserved now; a hint.
    pub fn queued(&self) -> usize {
        let head = self.0.head().load(Ordering::Relaxed);
        self.0.tail().load(Ordering::Relaxed).wrapping_sub(head) as usize
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::overflow::Overflow;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    const SLOTS: usize = 2;

    struct Model {
        tail: AtomicU32,
        head: AtomicU32,
        parked: AtomicU32,
        sequences: [AtomicU32; SLOTS],
        words: [UnsafeCell<Words>; SLOTS],
    }
    // SAFETY: loom checks every access to the cells.
    unsafe impl Sync for Model {}
    // SAFETY: as above.
    unsafe impl Send for Model {}

    impl Cells for Arc<Model> {
        fn tail(&self) -> &AtomicU32 {
            &self.as_ref().tail
        }
        fn head(&self) -> &AtomicU32 {
            &self.as_ref().head
        }
        fn parked(&self) -> &AtomicU32 {
            &self.as_ref().parked
        }
        fn sequence(&self, slot: usize) -> &AtomicU32 {
            &self.as_ref().sequences[slot]
        }
        fn fill(&self, slot: usize, words: &Words) {
            // SAFETY: the slot is reserved for this producer; loom reports it when it is not.
            self.words[slot].with_mut(|p| unsafe { *p = *words });
        }
        fn slots(&self) -> usize {
            SLOTS
        }
    }

    fn model() -> Arc<Model> {
        Arc::new(Model {
            tail: AtomicU32::new(0),
            head: AtomicU32::new(0),
            parked: AtomicU32::new(0),
            sequences: std::array::from_fn(|_| AtomicU32::new(0)),
            words: std::array::from_fn(|_| UnsafeCell::new([0; descriptor::WORDS])),
        })
    }

    fn read(model: &Arc<Model>, ticket: u32) -> u32 {
        // SAFETY: `available` has said that the slot is published.
        model.words[ticket as usize & (SLOTS - 1)].with(|p| unsafe { (*p)[1] })
    }

    #[test]
    fn two_producers_one_consumer_lose_and_tear_nothing() {
        loom::model(|| {
            let cells = model();
            let threads: Vec<_> = (1..=2u32)
                .map(|value| {
                    let ring = Ring(cells.clone());
                    loom::thread::spawn(move || {
                        let mut words = [0; descriptor::WORDS];
                        words[1] = value;
                        ring.push(&words, SLOTS)
                    })
                })
                .collect();
            let pushed = threads.into_iter().filter_map(|t| t.join().ok()).filter(|&ok| ok).count();
            assert_eq!(pushed, 2);
            let ring = Ring(cells.clone());
            assert_eq!(ring.available(8), 2);
            let mut seen = [read(&cells, 0), read(&cells, 1)];
            seen.sort_unstable();
            assert_eq!(seen, [1, 2]);
        });
    }

    #[test]
    fn a_slot_is_reused_only_after_its_release() {
        loom::model(|| {
            let cells = model();
            let ring = Ring(cells.clone());
            let producer = {
                let ring = Ring(cells.clone());
                loom::thread::spawn(move || {
                    let mut sent = 0;
                    for value in 1..=3 {
                        let mut words = [0; descriptor::WORDS];
                        words[1] = value;
                        if !ring.push(&words, SLOTS) {
                            break;
                        }
                        sent = value;
                    }
                    sent
                })
            };
            let mut head = 0;
            for _ in 0..2 {
                if ring.available(1) == 1 {
                    head += 1;
                    assert_eq!(read(&cells, head - 1), head);
                    ring.release(1);
                }
            }
            let sent = producer.join().unwrap_or(0);
            while ring.available(1) == 1 {
                head += 1;
                assert_eq!(read(&cells, head - 1), head);
                ring.release(1);
            }
            assert_eq!(head, sent);
        });
    }

    #[test]
    fn a_wake_up_is_never_lost() {
        loom::model(|| {
            let cells = model();
            let producer = {
                let ring = Ring(cells.clone());
                loom::thread::spawn(move || {
                    ring.push(&[0; descriptor::WORDS], SLOTS);
                    ring.claim_wake() == 1
                })
            };
            let ring = Ring(cells.clone());
            let sleeps = ring.arm(1);
            let woken = producer.join().unwrap_or(false);
            assert!(!sleeps || woken, "the consumer sleeps on a ring that is not empty");
        });
    }

    #[test]
    fn a_wake_up_is_never_lost_beside_a_full_ring() {
        loom::model(|| {
            let cells = model();
            let ring = Ring(cells.clone());
            let overflow = Arc::new(Overflow::default());
            for _ in 0..SLOTS {
                overflow.push(&ring, &[0; descriptor::WORDS]);
            }
            let producer = {
                let (ring, overflow) = (Ring(cells.clone()), overflow.clone());
                loom::thread::spawn(move || {
                    overflow.push(&ring, &[0; descriptor::WORDS]);
                    ring.claim_wake() == 1
                })
            };
            let mut taken = 0;
            for _ in 0..2 {
                let ready = ring.available(8);
                ring.release(ready);
                overflow.refill(&ring);
                taken += ready;
            }
            let sleeps = overflow.arm(&ring, 1);
            let woken = producer.join().unwrap_or(false);
            assert!(
                !sleeps || woken || taken == SLOTS + 1,
                "the consumer sleeps beside a descriptor"
            );
            overflow.refill(&ring);
            assert_eq!(taken + ring.available(8), SLOTS + 1);
        });
    }
}
