//! The bridge between two threads: one that submits requests, and one that plays the workers.
#[expect(dead_code, reason = "the tests of the engine use the rest")]
#[path = "../../core/tests/support/mod.rs"]
mod support;

use millrace_core::Region;
use millrace_fuse::{Bridge, FULL, Order, PENDING, Watchers};
use millrace_layout::{
    FRAME_BYTES, NONE, REQUEST_BODY_BYTES, TREE_WORKER, command, descriptor, inode, kind, request,
};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use support::{Bench, FRAMES, WORKER};

const GETATTR: u32 = 3;
const READ: u32 = 15;
const WRITE: u32 = 16;
const SETXATTR: u32 = 21;
const FORGET: u32 = 2;
/// The inode slot that the tests have open, and its inode.
const SLOT: u32 = 5;
const NODE: u64 = 77;
const PATIENCE: Duration = Duration::from_secs(10);

struct Ground {
    bench: Bench,
    bridge: Bridge,
    replied: Receiver<()>,
    room: Receiver<()>,
}

fn ground() -> Ground {
    let bench = Bench::new();
    let ino = bench.engine.memory.inode64(SLOT, inode::INO);
    ino.store((NODE as f64).to_bits(), Ordering::Relaxed);
    let ((say_replied, replied), (say_room, room)) = (channel(), channel());
    let say_replied = std::sync::Mutex::new(say_replied);
    let watchers = Watchers {
        replied: Box::new(move || say_replied.lock().unwrap().send(()).unwrap_or(())),
        room: Box::new(move || say_room.send(()).unwrap_or(())),
    };
    let bridge = Bridge::start(bench.engine.clone(), 4, watchers).unwrap();
    Ground { bench, bridge, replied, room }
}

impl Ground {
    fn submit(&self, lane: u32, opcode: u32, body: [&[u8]; 2], out: &mut [u8]) -> i32 {
        let order = Order { opcode, node: NODE, uid: 8, gid: 9 };
        let destination = Region { base: out.as_mut_ptr(), bytes: out.len() };
        // SAFETY: every test keeps `out` until it has the answer or has given it up.
        unsafe { self.bridge.submit(lane, order, body, destination) }
    }

    fn completed(&self) -> Vec<(u32, i32)> {
        let mut all = Vec::new();
        self.bridge.completed(|lane, result| all.push((lane, result)));
        all
    }

    fn write(&self, lane: u32, offset: u64, payload: &[u8]) -> i32 {
        self.submit(lane, WRITE, [&transfer(offset, payload.len()), payload], &mut [0; 8])
    }
}

/// `struct fuse_write_in` and `fuse_read_in`.
fn transfer(offset: u64, bytes: usize) -> [u8; 40] {
    let mut body = [0; 40];
    body[..8].copy_from_slice(&u64::from(SLOT).to_le_bytes());
    body[8..16].copy_from_slice(&offset.to_le_bytes());
    body[16..20].copy_from_slice(&(bytes as u32).to_le_bytes());
    body
}

#[test]
fn a_write_is_answered_at_once_and_lies_in_a_frame() {
    let ground = ground();
    let payload: Vec<u8> = (0..70_000u32).map(|i| (i * 7) as u8).collect();
    let mut out = [0; 8];
    let result = ground.submit(0, WRITE, [&transfer(100, payload.len()), &payload], &mut out);
    assert_eq!(result, 8);
    assert_eq!(u32::from_le_bytes(out[..4].try_into().unwrap()) as usize, payload.len());
    let piece = ground.bench.receive(TREE_WORKER, &[]);
    assert_eq!((piece[descriptor::KIND], piece[descriptor::INODE]), (kind::PIECE, SLOT));
    assert_eq!(piece[descriptor::LENGTH] as usize, payload.len());
    let base = ground.bench.engine.memory.frame(piece[descriptor::A]);
    // SAFETY: the piece owns the frame, and this test is its worker.
    let stored = unsafe {
        std::slice::from_raw_parts(base.add(piece[descriptor::B] as usize), payload.len())
    };
    assert_eq!(stored, payload);
    assert!(ground.completed().is_empty());
}

#[test]
fn a_request_is_answered_later_on_its_lane() {
    let ground = ground();
    let mut out = [0; 64];
    assert_eq!(ground.submit(3, GETATTR, [&[1; 16], &[]], &mut out), PENDING);
    let got = ground.bench.receive(TREE_WORKER, &[]);
    let slot = got[descriptor::A];
    let memory = &ground.bench.engine.memory;
    let cell = |cell| memory.request(slot, cell).load(Ordering::Relaxed);
    assert_eq!((got[descriptor::KIND], cell(request::OPCODE)), (kind::REQUEST, GETATTR));
    assert_eq!((cell(request::UID), cell(request::GID)), (8, 9));
    assert_eq!(cell(request::BODY_LENGTH), 16);
    ground.bench.write_out(10, b"attributes");
    ground.bench.execute(&[command::REPLY, slot, 0, 10, 10]);
    ground.replied.recv_timeout(PATIENCE).unwrap();
    assert_eq!(ground.completed(), [(3, 10)]);
    assert_eq!(&out[..10], b"attributes");
    assert_eq!(ground.submit(3, GETATTR, [&[], &[]], &mut out), PENDING, "the lane is free again");
}

#[test]
fn an_errno_is_negative_and_an_answer_that_does_not_fit_an_error() {
    let ground = ground();
    let mut out = [0; 4];
    for (reply, wanted) in [([2, 0, 0], -2), ([0, 0, 5], -libc::EIO), ([0, 0, 4], 4)] {
        assert_eq!(ground.submit(0, GETATTR, [&[], &[]], &mut out), PENDING);
        let slot = ground.bench.receive(TREE_WORKER, &[])[descriptor::A];
        ground.bench.execute(&[command::REPLY, slot, reply[0], reply[1], reply[2]]);
        ground.replied.recv_timeout(PATIENCE).unwrap();
        assert_eq!(ground.completed(), [(0, wanted)]);
    }
}

#[test]
fn a_long_body_goes_on_in_a_frame() {
    let ground = ground();
    let value = vec![7; 3000];
    assert_eq!(ground.submit(1, SETXATTR, [b"12345678user.name\0", &value], &mut []), PENDING);
    let slot = ground.bench.receive(TREE_WORKER, &[])[descriptor::A];
    let memory = &ground.bench.engine.memory;
    let cell = |cell| memory.request(slot, cell).load(Ordering::Relaxed);
    assert_eq!(cell(request::BODY_LENGTH), 18 + 3000);
    let frame = cell(request::FRAME);
    assert_ne!(frame, NONE);
    let far = 18 + 3000 - REQUEST_BODY_BYTES;
    // SAFETY: the request owns its slot and frame, and this test is its worker.
    let (near, rest) = unsafe {
        (
            std::slice::from_raw_parts(memory.body(slot), REQUEST_BODY_BYTES),
            std::slice::from_raw_parts(memory.frame(frame), far),
        )
    };
    assert_eq!(&near[..18], b"12345678user.name\0");
    assert!(near[18..].iter().chain(rest).all(|&byte| byte == 7));
}

#[test]
fn a_read_lands_where_the_caller_wants_it() {
    let ground = ground();
    assert_eq!(ground.write(0, 0, b"some content"), 8);
    let piece = ground.bench.receive(TREE_WORKER, &[]);
    let mut out = [0; 12];
    assert_eq!(ground.submit(0, READ, [&transfer(0, 12), &[]], &mut out), PENDING);
    let read = ground.bench.receive(TREE_WORKER, &[]);
    let (frame, at) = (piece[descriptor::A], piece[descriptor::B]);
    let words = [command::READ, read[descriptor::A], NONE, 0, 12, 1, 1, 1, frame, at, 12];
    ground.bench.execute(&words);
    ground.replied.recv_timeout(PATIENCE).unwrap();
    assert_eq!(ground.completed(), [(0, 12)]);
    assert_eq!(&out, b"some content");
}

#[test]
fn an_answer_to_what_was_given_up_touches_nothing() {
    let ground = ground();
    let mut out = [0; 16];
    assert_eq!(ground.submit(0, GETATTR, [&[], &[]], &mut out), PENDING);
    let slot = ground.bench.receive(TREE_WORKER, &[])[descriptor::A];
    ground.bridge.abandon();
    assert_eq!(ground.submit(0, GETATTR, [&[], &[]], &mut out), PENDING);
    ground.bench.write_out(0, b"late");
    ground.bench.execute(&[command::REPLY, slot, 0, 0, 4]);
    assert!(ground.completed().is_empty());
    assert_eq!(out, [0; 16]);
}

#[test]
fn forgetting_needs_no_answer() {
    let ground = ground();
    assert_eq!(ground.submit(2, FORGET, [&[1; 8], &[]], &mut []), 0);
    assert_eq!(ground.submit(2, GETATTR, [&[], &[]], &mut []), PENDING, "the lane is free");
}

#[test]
fn a_full_slab_refuses_and_tells_when_there_is_room() {
    let ground = ground();
    let payload = vec![1; FRAME_BYTES];
    let taken = (0..FRAMES as u64).take_while(|n| ground.write(0, n << 20, &payload) == 8).count();
    assert!(taken >= FRAMES / 2, "{taken} of {FRAMES} frames were filled");
    assert_eq!(ground.write(0, 0, &payload), FULL);
    assert!(ground.room.recv_timeout(Duration::from_millis(20)).is_err());
    let mut freed = 0;
    while freed < 2 {
        let piece = ground.bench.receive(TREE_WORKER, &[]);
        if piece[descriptor::KIND] == kind::PIECE {
            ground.bench.execute(&[command::FREE, piece[descriptor::A]]);
            freed += 1;
        }
    }
    ground.room.recv_timeout(PATIENCE).unwrap();
    assert_eq!(ground.write(0, 0, &payload), 8);
}

#[test]
fn an_engine_that_stops_refuses_instead_of_waiting() {
    let ground = ground();
    ground.bench.engine.stop();
    assert!(ground.submit(0, GETATTR, [&[], &[]], &mut []) != FULL);
    assert_eq!(ground.bench.turn(WORKER, &[], Duration::ZERO), -1);
}
