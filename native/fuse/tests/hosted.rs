//! The front that the tree worker hosts never waits: the worker is who would have to make room.
#[expect(dead_code, reason = "the tests of the engine use the rest")]
#[path = "../../core/tests/support/mod.rs"]
mod support;

use millrace_core::{HostedFront, Taken};
use millrace_fuse::front_on;
use millrace_layout::{
    REGION_BYTES, REQUEST_SLOTS, RING_SLOTS, TREE_WORKER, descriptor, header, inode, kind,
};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::FromRawFd;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use support::{Bench, FRAMES, WORKER};

const READ: u32 = 15;
const BATCH_FORGET: u32 = 42;
/// The inode slot that the tests have open, and its inode.
const SLOT: u32 = 5;
const NODE: u64 = 77;
/// Guards against a front that waits for ever; no test gets near it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A hosted front over a file in place of /dev/fuse.
struct Ground {
    bench: Bench,
    front: Option<Box<dyn HostedFront>>,
    device: File,
    sent: u64,
}

fn ground() -> Ground {
    let bench = Bench::new();
    for (cell, number) in [(inode::INO, NODE as f64), (inode::SIZE, 2f64.powi(40))] {
        bench.engine.memory.inode64(SLOT, cell).store(number.to_bits(), Ordering::Relaxed);
    }
    // SAFETY: a constant name; the descriptor is owned at once.
    let device = unsafe {
        let fd = libc::memfd_create(c"millrace-device".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0, "no file in memory");
        File::from_raw_fd(fd)
    };
    let fd = bench.engine.keep_open(device.try_clone().unwrap().into());
    let front = Some(front_on(bench.engine.clone(), fd));
    Ground { bench, front, device, sent: 0 }
}

impl Ground {
    /// Leave one request to be read.
    fn send(&mut self, opcode: u32, body: &[u8]) {
        let mut message = vec![0; 40];
        message[..4].copy_from_slice(&((40 + body.len()) as u32).to_le_bytes());
        message[4..8].copy_from_slice(&opcode.to_le_bytes());
        message[16..24].copy_from_slice(&NODE.to_le_bytes());
        message.extend_from_slice(body);
        self.device.set_len(0).unwrap();
        self.device.seek(SeekFrom::Start(0)).unwrap();
        self.device.write_all(&message).unwrap();
        self.device.seek(SeekFrom::Start(0)).unwrap();
        self.sent = message.len() as u64;
    }

    /// Have the front take in what lies ready, on a thread of its own; what arrives says that it has not waited.
    fn take(&mut self) -> Receiver<(Box<dyn HostedFront>, Taken)> {
        let (say, heard) = channel();
        let mut front = self.front.take().unwrap();
        std::thread::spawn(move || {
            let taken = front.take();
            let _ = say.send((front, taken));
        });
        heard
    }

    /// The same, to its end.
    fn takes(&mut self) -> Taken {
        let heard = self.take();
        let (front, taken) = heard.recv_timeout(PATIENCE).expect("the tree worker's front waits");
        self.front = Some(front);
        taken
    }

    fn is_read(&mut self) -> bool {
        self.device.stream_position().unwrap() >= self.sent
    }
}

/// `struct fuse_read_in` for bytes on both sides of a border between regions: the answer is assembled in a frame.
fn read_across_regions() -> [u8; 40] {
    let mut body = [0; 40];
    body[..8].copy_from_slice(&u64::from(SLOT).to_le_bytes());
    body[8..16].copy_from_slice(&(REGION_BYTES as u64 - 50).to_le_bytes());
    body[16..20].copy_from_slice(&100u32.to_le_bytes());
    body
}

#[test]
fn more_forgotten_inodes_than_the_ring_has_room_for_arrive_in_order() {
    let count = RING_SLOTS as u64 + 4000;
    let mut ground = ground();
    ground.bench.engine.memory.header(header::ORPHANS).store(1, Ordering::SeqCst);
    let mut body = vec![0; 8];
    body[..4].copy_from_slice(&(count as u32).to_le_bytes());
    for node in 1..=count {
        body.extend_from_slice(&[node, 1].map(u64::to_le_bytes).concat());
    }
    ground.send(BATCH_FORGET, &body);
    ground.takes();
    assert!(ground.is_read());
    for node in 1..=count {
        let words = ground.bench.receive(TREE_WORKER, &[]);
        let bits =
            u64::from(words[descriptor::OFFSET]) | u64::from(words[descriptor::OFFSET + 1]) << 32;
        assert_eq!((words[descriptor::KIND], f64::from_bits(bits)), (kind::FORGET, node as f64));
    }
    assert_eq!(ground.bench.turn(TREE_WORKER, &[], Duration::ZERO), 0);
}

#[test]
fn a_request_is_left_to_the_fronts_while_no_frame_is_free_and_needs_no_second_one() {
    let mut ground = ground();
    ground.send(READ, &read_across_regions());
    let taken: Vec<u32> = (0..FRAMES).map(|_| ground.bench.frame_with(0, &[1])).collect();
    assert_eq!(ground.takes(), Taken::Many);
    assert!(!ground.is_read());
    ground.bench.engine.free_frame(taken[0]);
    ground.takes();
    assert!(ground.is_read());
    for worker in [TREE_WORKER, WORKER] {
        assert_eq!(ground.bench.receive(worker, &[])[descriptor::KIND], kind::READ);
    }
}

#[test]
fn a_request_is_left_to_the_fronts_while_no_slot_is_free() {
    let mut ground = ground();
    ground.send(READ, &read_across_regions());
    let taken: Vec<u32> =
        (0..REQUEST_SLOTS).map(|_| ground.bench.engine.take_request().unwrap()).collect();
    assert_eq!(ground.takes(), Taken::Many);
    assert!(!ground.is_read());
    ground.bench.engine.drop_request(taken[0]);
    ground.takes();
    assert!(ground.is_read());
}
