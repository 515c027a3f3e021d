//! Plays the workers behind a front, and checks what it queues.
use crate::support::{Bench, FRAMES, WORKER};
use millrace_layout::{
    FRAME_BYTES, NONE, REGION_BYTES, REQUEST_BODY_BYTES, REQUEST_SLOTS, TREE_WORKER, command,
    descriptor, header, inode, kind, request,
};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The inode slot that is open, and its inode.
pub(crate) const SLOT: u32 = 5;
pub(crate) const NODE: u64 = 77;
/// Bytes of what precedes the payload of a WRITE in its body.
pub(crate) const TRANSFER_BYTES: usize = 40;
pub(crate) const WRITE: u32 = 16;
/// Frames that a front keeps for what comes next, and request slots.
const FRONT_FRAMES: usize = 2;
const FRONT_REQUESTS: usize = 1;

type Words = [u32; descriptor::WORDS];

/// A request as the front was given it.
#[derive(Debug)]
pub(crate) struct Sent<'a> {
    pub(crate) opcode: u32,
    /// What is behind the header.
    pub(crate) body: &'a [u8],
}

impl Sent<'_> {
    fn offset(&self) -> u64 {
        let word = |at: usize| self.body.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        word(8).map_or(0, u64::from_le_bytes)
    }
}

/// Open the inode afresh, and let somebody want to know what is forgotten.
pub(crate) fn prepare(bench: &Bench) {
    let memory = &bench.engine.memory;
    for (cell, number) in [(inode::INO, NODE as f64), (inode::SIZE, 2f64.powi(40))] {
        memory.inode64(SLOT, cell).store(number.to_bits(), Ordering::Relaxed);
    }
    memory.inode(SLOT, inode::TOUCHED).store(0, Ordering::Relaxed);
    memory.inode(SLOT, inode::PRIVILEGES).store(3, Ordering::Relaxed);
    memory.header(header::ORPHANS).store(1, Ordering::Relaxed);
}

/// Nothing is lost once everything was answered; `front` says whether there is one that holds frames.
pub(crate) fn check_free(bench: &Bench, front: bool) {
    let (kept, kept_requests) = if front { (FRONT_FRAMES, FRONT_REQUESTS) } else { (0, 0) };
    let free = bench.engine.free_requests();
    assert!(
        free <= REQUEST_SLOTS && free + kept_requests >= REQUEST_SLOTS,
        "{free} of {REQUEST_SLOTS} request slots are free"
    );
    let free = bench.engine.free_frames();
    assert!(free <= FRAMES && free + kept >= FRAMES, "{free} of {FRAMES} frames are free");
}

/// Serve what was queued for one request, until nothing is left: REQUESTs are answered with `reply` bytes of the out
/// buffer, what reads fails, the rest succeeds.
pub(crate) fn serve(bench: &Bench, sent: &Sent<'_>, reply: usize) {
    let queued = |worker| bench.engine.memory.ring(worker).queued() > 0;
    while queued(TREE_WORKER) || queued(WORKER) {
        for worker in [TREE_WORKER, WORKER] {
            while queued(worker) {
                let words = bench.receive(worker, &[]);
                let commands = serve_one(bench, &words, sent, reply);
                assert!(bench.turn(worker, &commands, Duration::ZERO) >= 0, "{commands:?}");
            }
        }
    }
}

fn serve_one(bench: &Bench, words: &Words, sent: &Sent<'_>, reply: usize) -> Vec<u32> {
    let (inode, a) = (words[descriptor::INODE], words[descriptor::A]);
    match words[descriptor::KIND] {
        kind::PIECE => {
            check_piece(bench, words, sent);
            vec![command::FREE, a]
        }
        kind::READ => {
            assert_eq!(inode, SLOT);
            assert!((a as usize) < REQUEST_SLOTS);
            assert!((1..=FRAME_BYTES).contains(&(words[descriptor::LENGTH] as usize)));
            check_region(words);
            if words[descriptor::PAYLOAD] == NONE {
                return vec![command::REPLY, a, libc::EIO as u32, 0, 0];
            }
            let end = words[descriptor::PAYLOAD + 1] + words[descriptor::LENGTH];
            assert!(end as usize <= FRAME_BYTES);
            vec![command::FAIL_PART, a, libc::EIO as u32]
        }
        kind::SYNC => vec![command::SYNC_DONE, a, 0, inode],
        kind::COMMIT => vec![command::REPLY, a, 0, 0, 0],
        kind::REQUEST => {
            check_request(bench, a, sent);
            vec![command::REPLY, a, 0, 0, reply as u32]
        }
        kind::FORGET | kind::STRIP | kind::PRESSURE => vec![],
        other => panic!("a front queued a descriptor of kind {other}"),
    }
}

fn offset(words: &Words) -> u64 {
    let bits =
        u64::from(words[descriptor::OFFSET]) | u64::from(words[descriptor::OFFSET + 1]) << 32;
    f64::from_bits(bits) as u64
}

/// A descriptor names bytes of one region.
fn check_region(words: &Words) {
    let region = REGION_BYTES as u64;
    let last = offset(words) + u64::from(words[descriptor::LENGTH]) - 1;
    assert_eq!(offset(words) / region, last / region, "{words:?}");
}

/// Whether these bytes lie there in a frame. Nothing is copied: payloads are long, and inputs many.
fn holds(bench: &Bench, frame: u32, at: usize, bytes: &[u8]) -> bool {
    assert!(at + bytes.len() <= FRAME_BYTES);
    // SAFETY: within the frame, which whoever queued it has filled and nobody writes now.
    let there = unsafe {
        std::slice::from_raw_parts(bench.engine.memory.frame(frame).add(at), bytes.len())
    };
    there == bytes
}

/// A piece lies in its frame, and is the part of the payload that it says.
fn check_piece(bench: &Bench, words: &Words, sent: &Sent<'_>) {
    assert_eq!((sent.opcode, words[descriptor::INODE]), (WRITE, SLOT));
    let (frame, at) = (words[descriptor::A], words[descriptor::B] as usize);
    let bytes = words[descriptor::LENGTH] as usize;
    assert!((frame as usize) < FRAMES && bytes > 0 && at + bytes <= FRAME_BYTES, "{words:?}");
    check_region(words);
    let from = TRANSFER_BYTES + (offset(words) - sent.offset()) as usize;
    assert!(holds(bench, frame, at, &sent.body[from..from + bytes]), "{words:?}");
}

/// A request lies in its slot and its frame as it was sent.
fn check_request(bench: &Bench, slot: u32, sent: &Sent<'_>) {
    assert!((slot as usize) < REQUEST_SLOTS);
    let memory = &bench.engine.memory;
    let cell = |cell| memory.request(slot, cell).load(Ordering::Relaxed);
    assert_eq!(cell(request::OPCODE), sent.opcode);
    let bytes = cell(request::BODY_LENGTH) as usize;
    let whole = sent.body.len();
    assert!(bytes == whole || bytes == whole.min(TRANSFER_BYTES), "{bytes} of {whole}");
    let near = bytes.min(REQUEST_BODY_BYTES);
    // SAFETY: the request owns its slot, and this thread plays its worker.
    let body = unsafe { std::slice::from_raw_parts(memory.body(slot), near) };
    assert!(*body == sent.body[..near]);
    if bytes > near {
        let frame = cell(request::FRAME);
        assert!((frame as usize) < FRAMES);
        let at = cell(request::FRAME_OFFSET) as usize;
        assert!(holds(bench, frame, at, &sent.body[near..bytes]));
    }
}
