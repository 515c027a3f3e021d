//! Who reads the device: the fronts, or the tree worker while one program asks for one thing after the other.

use crate::support::Bench;
use millrace_core::{Engine, HostedFront, Taken};
use millrace_layout::{TREE_WORKER, descriptor, kind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Far longer than a spin, far shorter than a test's patience.
const WAIT: Duration = Duration::from_millis(20);
/// More turns than it takes to be believed to be alone.
const TURNS: usize = 200;

/// Has a request for the worker whenever it is asked, until told otherwise.
struct Always {
    engine: Arc<Engine>,
    asked: Arc<AtomicU32>,
    answer: Arc<AtomicU32>,
}

const FEW: u32 = 0;
const MANY: u32 = 1;

impl HostedFront for Always {
    fn take(&mut self) -> Taken {
        self.asked.fetch_add(1, Ordering::SeqCst);
        push(&self.engine);
        if self.answer.load(Ordering::SeqCst) == MANY { Taken::Many } else { Taken::Few }
    }

    fn rest(&mut self) {}
}

fn push(engine: &Engine) {
    let mut words = [0; descriptor::WORDS];
    words[descriptor::KIND] = kind::PRESSURE;
    engine.front_push(TREE_WORKER, &words);
}

struct Play {
    bench: Bench,
    asked: Arc<AtomicU32>,
    answer: Arc<AtomicU32>,
}

impl Play {
    fn new() -> Self {
        let bench = Bench::new();
        let (asked, answer) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(FEW)));
        let front =
            Always { engine: bench.engine.clone(), asked: asked.clone(), answer: answer.clone() };
        bench.engine.host_front(Some(Box::new(front)));
        Self { bench, asked, answer }
    }

    /// Turns of the tree worker, each with one descriptor that lies ready or that the hosted front has.
    fn turns(&self, count: usize) {
        let mut consumed = 0;
        for _ in 0..count {
            if self.asked() == 0 {
                push(&self.bench.engine);
            }
            let ready = self.bench.engine.poll(TREE_WORKER, consumed, 0, WAIT);
            assert!(ready > 0);
            consumed = ready as usize;
        }
        self.bench.engine.poll(TREE_WORKER, consumed, 0, Duration::ZERO);
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    /// A front that wants to read; what arrives says that it may.
    fn reader(&self) -> mpsc::Receiver<()> {
        let (say, heard) = mpsc::channel();
        let engine = self.bench.engine.clone();
        std::thread::spawn(move || {
            engine.await_reading();
            let _ = say.send(());
        });
        heard
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        // The front holds the bench, and the bench the front.
        self.bench.engine.host_front(None);
    }
}

#[test]
fn a_worker_that_is_kept_busy_by_one_program_reads_for_itself() {
    let play = Play::new();
    assert_eq!(play.asked(), 0);
    play.turns(TURNS);
    assert!(play.asked() > 0);
}

#[test]
fn fronts_read_while_nothing_is_hosted() {
    let play = Play::new();
    assert!(play.reader().recv_timeout(Duration::from_secs(10)).is_ok());
}

#[test]
fn fronts_take_over_from_a_worker_that_does_not_come_back() {
    let play = Play::new();
    play.turns(TURNS);
    assert!(play.reader().recv_timeout(Duration::from_secs(10)).is_ok());
}

#[test]
fn fronts_take_over_when_more_than_one_program_asks() {
    let play = Play::new();
    play.turns(TURNS);
    play.answer.store(MANY, Ordering::SeqCst);
    play.turns(1);
    let asked = play.asked();
    assert!(play.reader().recv_timeout(Duration::from_secs(10)).is_ok());
    push(&play.bench.engine);
    let ready = play.bench.engine.poll(TREE_WORKER, 0, 0, WAIT);
    assert!(ready > 0);
    assert_eq!(play.asked(), asked, "the worker went on reading");
}

#[test]
fn fronts_read_again_once_the_engine_stops() {
    let play = Play::new();
    play.turns(TURNS);
    let reader = play.reader();
    play.bench.engine.stop();
    assert!(reader.recv_timeout(Duration::from_secs(10)).is_ok());
}
