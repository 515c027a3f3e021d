//! The words of a worker's turn: executed, or refused as a whole; never a byte outside of the shared memory.
use crate::support::{Bench, FRAMES, WORKER};
use millrace_core::{ReplySink, SINK_FD};
use millrace_layout::{
    COMMAND_WORDS, NONE, REQUEST_SLOTS, TREE_WORKER, command, descriptor, header, kind, request,
    source,
};
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The token of the barrier that ends an input.
const LAST: u32 = 0x4c41_5354;
const MALFORMED: i32 = -2;
/// Request slots that hold a request; the others are as when they were given back.
const SLOTS_USED: u32 = 16;

/// Looks at every byte of an answer, as the kernel would.
struct Reader;

impl ReplySink for Reader {
    fn reply(&self, _: u64, _: i32, parts: &[IoSlice<'_>]) {
        let seen = parts.iter().flat_map(|part| part.iter()).fold(0u8, |sum, byte| sum ^ byte);
        std::hint::black_box(seen);
    }
}

thread_local! {
    static BENCH: Bench = bench();
}

fn bench() -> Bench {
    // One mover: frames that a worker gives to two jobs are its own mistake, and no subject of this target.
    let bench = Bench::with_movers(1);
    bench.engine.set_sink(Arc::new(Reader));
    for slot in 0..REQUEST_SLOTS as u32 {
        let memory = &bench.engine.memory;
        memory.request(slot, request::FD).store(SINK_FD as u32, Ordering::Relaxed);
        memory.request(slot, request::ANSWER_LENGTH).store(u32::MAX, Ordering::Relaxed);
        memory.request(slot, request::FRAME).store(NONE, Ordering::Relaxed);
    }
    // What is sealed is opened again, and nothing is kept.
    bench.store.put_errno.store(libc::ENOSPC, Ordering::SeqCst);
    bench
}

/// Input: command words.
pub(crate) fn run(data: &[u8]) {
    BENCH.with(|bench| {
        prepare(bench);
        let words: Vec<u32> = data
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .take(COMMAND_WORDS)
            .collect();
        let ready = bench.turn(WORKER, &words, Duration::ZERO);
        assert!(ready >= 0 || ready == MALFORMED, "a turn ended with {ready}");
        finish(bench);
    });
}

/// As a mount has it: nothing is on its way, and everything that a command may name is there.
fn prepare(bench: &Bench) {
    let engine = &bench.engine;
    while engine.free_frames() > FRAMES {
        let _ = engine.take_frame();
    }
    while engine.free_requests() > REQUEST_SLOTS {
        let _ = engine.take_request();
    }
    for frame in 0..FRAMES as u32 {
        engine.memory.frame_count(frame).store(1, Ordering::Relaxed);
    }
    for slot in 0..SLOTS_USED {
        let memory = &engine.memory;
        memory.request(slot, request::FRAME).store(slot % FRAMES as u32, Ordering::Relaxed);
        memory.request(slot, request::PENDING).store(1 + slot % 2, Ordering::Relaxed);
        memory.request(slot, request::ERRNO).store(0, Ordering::Relaxed);
    }
    engine.memory.header(header::FAILED).store(0, Ordering::Relaxed);
    bench.reports.lock().map(|mut reports| reports.clear()).unwrap_or_default();
}

/// Wait for the movers, and take everything off the rings.
fn finish(bench: &Bench) {
    let memory = &bench.engine.memory;
    let mut last = false;
    bench.execute(&[command::SYNC_STORE, LAST]);
    while !last || memory.header(header::SETTLING).load(Ordering::Acquire) > 0 {
        for worker in [TREE_WORKER, WORKER] {
            while memory.ring(worker).queued() > 0 {
                let words = bench.receive(worker, &[]);
                assert!(bench.turn(worker, &[], Duration::ZERO) >= 0);
                last |= words[descriptor::KIND] == kind::SYNCED && words[descriptor::A] == LAST;
            }
        }
        std::thread::yield_now();
    }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let bytes =
        |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let all = [
        vec![command::REPLY, 3, 0, 0, 100, command::REPLY, 4, 2, 0, 0],
        vec![command::HOLD, 1, command::FREE, 1, command::RELEASE_REQUEST, 9],
        [vec![command::PUSH, 0], vec![7; 15]].concat(),
        vec![command::SETTLE, 1, 1, 20, 1, source::FRAME, 0, 5, 20],
        vec![command::SETTLE, 2, 0, 50, 2, source::ZERO, 40, source::INLINE, 3, 0, 10],
        vec![command::READ, 6, 2, 0, 30, 1, 2, source::FRAME, 3, 0, 20, source::ZERO, 10],
        vec![command::SYNC_DONE, 8, 0, 2, command::FAIL_PART, 2, 5],
        vec![command::INLINE, 4, 10, 1, source::FRAME, 1, 0, 30],
    ];
    let chunk = [vec![command::READ, 6, 0xffff_ffff, 0, 9, 0, 1, source::CHUNK, 0, 9], vec![1; 8]];
    vec![
        ("all", bytes(&all.concat())),
        ("chunk", bytes(&chunk.concat())),
        ("settle-nothing", bytes(&[command::SETTLE, 1, 1, 0, 0])),
        ("read-beyond", bytes(&[command::READ, 6, 2, 1 << 20, 1, 1, 1, source::ZERO, 1])),
        ("range-beyond", bytes(&[command::REPLY, 3, 0, 4 << 20, 1])),
    ]
}
