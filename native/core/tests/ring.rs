//! The ring against a queue that is obviously right, and under four producers at once.
#![cfg(not(loom))]

use millrace_core::{Cells, Ring, Words};
use millrace_layout::descriptor;
use proptest::prelude::*;
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A ring's cells in memory of this process, as they are after `start` descriptors have passed.
struct Plain {
    tail: AtomicU32,
    head: AtomicU32,
    parked: AtomicU32,
    sequences: Vec<AtomicU32>,
    words: Vec<UnsafeCell<Words>>,
}

// SAFETY: the words are written by the producer that reserved their slot, and read by the consumer once the sequence
// says so: what the ring promises, and these tests check.
unsafe impl Sync for Plain {}

impl Plain {
    fn new(slots: usize, start: u32) -> Arc<Self> {
        let mask = slots as u32 - 1;
        // What the last ticket of each slot before `start` has left behind.
        let left = |slot: u32| {
            let back = start.wrapping_sub(1).wrapping_sub(slot) & mask;
            start.wrapping_sub(back)
        };
        Arc::new(Self {
            tail: AtomicU32::new(start),
            head: AtomicU32::new(start),
            parked: AtomicU32::new(0),
            sequences: (0..slots as u32).map(|slot| AtomicU32::new(left(slot))).collect(),
            words: (0..slots).map(|_| UnsafeCell::new([0; descriptor::WORDS])).collect(),
        })
    }

    /// The descriptor that lies `n` behind the head.
    fn peek(&self, n: usize) -> Words {
        let ticket = self.head.load(Ordering::Relaxed).wrapping_add(n as u32);
        // SAFETY: only called for what `available` has counted, by the one consumer.
        unsafe { *self.words[ticket as usize & (self.words.len() - 1)].get() }
    }
}

struct Handle(Arc<Plain>);

impl Cells for Handle {
    fn tail(&self) -> &AtomicU32 {
        &self.0.tail
    }
    fn head(&self) -> &AtomicU32 {
        &self.0.head
    }
    fn parked(&self) -> &AtomicU32 {
        &self.0.parked
    }
    fn sequence(&self, slot: usize) -> &AtomicU32 {
        &self.0.sequences[slot]
    }
    fn fill(&self, slot: usize, words: &Words) {
        // SAFETY: the slot is reserved for this producer.
        unsafe { *self.0.words[slot].get() = *words };
    }
    fn slots(&self) -> usize {
        self.0.words.len()
    }
}

fn ring(cells: &Arc<Plain>) -> Ring<Handle> {
    Ring(Handle(cells.clone()))
}

fn descriptor_of(producer: u32, number: u32) -> Words {
    let mut words = [number; descriptor::WORDS];
    words[1] = producer;
    words
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Push { limit: usize },
    Consume { most: usize },
    Arm { how: u32 },
    ClaimWake,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..20usize).prop_map(|limit| Op::Push { limit }),
        2 => (0..12usize).prop_map(|most| Op::Consume { most }),
        1 => (1..3u32).prop_map(|how| Op::Arm { how }),
        1 => Just(Op::ClaimWake),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_a_bounded_queue(
        slots_log2 in 0..5u32,
        start in prop_oneof![Just(0), (u32::MAX - 60)..=u32::MAX, any::<u32>()],
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let slots = 1 << slots_log2;
        let cells = Plain::new(slots, start);
        let ring = ring(&cells);
        let mut oracle = VecDeque::new();
        let mut sleeps = 0;
        let mut next = 0;
        for op in ops {
            match op {
                Op::Push { limit } => {
                    next += 1;
                    let room = oracle.len() < limit.min(slots);
                    prop_assert_eq!(ring.push(&descriptor_of(7, next), limit), room);
                    if room {
                        oracle.push_back(next);
                    }
                }
                Op::Consume { most } => {
                    let ready = ring.available(most);
                    prop_assert_eq!(ready, oracle.len().min(most));
                    for n in 0..ready {
                        let expected = oracle.pop_front().unwrap();
                        prop_assert_eq!(&cells.peek(n)[1..], &descriptor_of(7, expected)[1..]);
                    }
                    ring.release(ready);
                }
                Op::Arm { how } => {
                    sleeps = if oracle.is_empty() { how } else { 0 };
                    prop_assert_eq!(ring.arm(how), sleeps != 0);
                }
                // One caller has to wake a sleeper; the next one finds it woken.
                Op::ClaimWake => {
                    prop_assert_eq!(ring.claim_wake(), sleeps);
                    sleeps = 0;
                }
            }
            prop_assert_eq!(ring.queued(), oracle.len());
        }
    }
}

#[test]
fn a_full_ring_takes_again_after_each_release_across_the_wrap() {
    let cells = Plain::new(4, u32::MAX - 1);
    let ring = ring(&cells);
    for number in 0..4 {
        assert!(ring.push(&descriptor_of(0, number), 4));
    }
    for number in 0..20 {
        assert!(!ring.push(&descriptor_of(0, 99), 4), "full");
        assert_eq!(ring.available(9), 4);
        assert_eq!(cells.peek(0)[2], number);
        ring.release(1);
        assert!(ring.push(&descriptor_of(0, number + 4), 4));
    }
}

#[test]
fn each_of_four_producers_keeps_its_order() {
    const PRODUCERS: u32 = 4;
    const EACH: u32 = 20_000;
    let cells = Plain::new(64, u32::MAX - EACH);
    let mut seen = [0; PRODUCERS as usize];
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let ring = ring(&cells);
            // Half of them are fronts, which may fill only half of the ring.
            let limit = if producer < 2 { 64 } else { 32 };
            scope.spawn(move || {
                for number in 0..EACH {
                    while !ring.push(&descriptor_of(producer, number), limit) {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let ring = ring(&cells);
        while seen.iter().sum::<u32>() < PRODUCERS * EACH {
            let ready = ring.available(16);
            assert!(ready <= 16);
            for n in 0..ready {
                let words = cells.peek(n);
                let next = &mut seen[words[1] as usize];
                assert!(words[2..].iter().all(|word| *word == *next), "torn or out of order");
                *next += 1;
            }
            ring.release(ready);
            if ready == 0 {
                std::thread::yield_now();
            }
        }
    });
    assert_eq!(seen, [EACH; PRODUCERS as usize]);
    assert_eq!((ring(&cells).available(1), ring(&cells).queued()), (0, 0));
}
