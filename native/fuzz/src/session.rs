//! A front thread's loop without a kernel: requests whose lengths, offsets, counts and handles lie.
use crate::init::{behind, load, memory_file};
use crate::records::{Input, counted};
use crate::support::Bench;
use crate::worker::{NODE, SLOT, Sent, check_free, prepare, serve};
use millrace_fuse::front_on;
use millrace_layout::FRAME_BYTES;
use std::cell::RefCell;
use std::fs::File;
use std::os::fd::AsRawFd;

const IN_HEADER_BYTES: usize = 40;
/// Bytes of a request that do not land in a frame.
const HEAD_BYTES: usize = 80;
/// Requests of one input.
const REQUESTS_MAX: usize = 24;
/// Bytes by which one request can be longer than what the input says of it, and how often.
const LONGER_BYTES: usize = 16 << 10;
const LONGER_MAX: u8 = 96;
/// Bytes of all requests of one input, at least.
const INPUT_BYTES_MAX: usize = 2 << 20;

/// The request's own length stays as the input has it, whatever was read.
const LIES: u8 = 1;
/// It is about the open inode, by its open handle.
const OPEN: u8 = 2;

const FORGET: u32 = 2;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

thread_local! {
    static BENCH: Bench = Bench::new();
    /// Stands in for /dev/fuse; kept, as its pages are.
    static DEVICE: RefCell<File> = RefCell::new(memory_file());
}

/// Input: records of flags (u8), a number of 16 KiB of zeros behind the request (u8), and the request with its length.
pub(crate) fn run(data: &[u8]) {
    BENCH.with(|bench| DEVICE.with_borrow_mut(|file| serve_all(bench, file, data)));
}

fn serve_all(bench: &Bench, file: &mut File, data: &[u8]) {
    prepare(bench);
    let mut front = front_on(bench.engine.clone(), file.as_raw_fd());
    let mut input = Input(data);
    let mut sent_bytes = 0;
    // One buffer for all: to fault its pages in anew would take longer than the rest.
    let mut message = Vec::new();
    for _ in 0..REQUESTS_MAX {
        if next_message(&mut input, &mut message).is_none() {
            break;
        }
        sent_bytes += message.len();
        if sent_bytes > INPUT_BYTES_MAX {
            break;
        }
        load(file, &message);
        front.take();
        let sent = Sent {
            opcode: word(&message, 4),
            body: message.get(IN_HEADER_BYTES..).unwrap_or_default(),
        };
        serve(bench, &sent, 0);
        check_answer(file, &message);
        check_free(bench, true);
    }
    drop(front);
    check_free(bench, false);
}

fn next_message(input: &mut Input<'_>, message: &mut Vec<u8>) -> Option<()> {
    let (flags, longer, length) = (input.byte()?, input.byte()? % LONGER_MAX, input.short()?);
    message.clear();
    message.extend_from_slice(input.take(length));
    if flags & OPEN != 0 && message.len() >= IN_HEADER_BYTES + 8 {
        message[16..24].copy_from_slice(&NODE.to_le_bytes());
        message[40..48].copy_from_slice(&(u64::from(SLOT) | 1 << 32).to_le_bytes());
    }
    // Each inode that is forgotten is a descriptor, and nobody else takes them off the ring meanwhile.
    if word(message, 4) != BATCH_FORGET {
        message.resize(message.len() + usize::from(longer) * LONGER_BYTES, 0);
    }
    let truth = message.len() as u32;
    if let (Some(length), 0) = (message.get_mut(..4), flags & LIES) {
        length.copy_from_slice(&truth.to_le_bytes());
    }
    Some(())
}

fn word(message: &[u8], at: usize) -> u32 {
    let bytes = message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}

/// A request has one answer, which is whole and its own; what is none has none.
fn check_answer(file: &mut File, message: &[u8]) {
    let answer = behind(file, message.len());
    let whole = message.len() >= IN_HEADER_BYTES && word(message, 0) as usize == message.len();
    if !whole || matches!(word(message, 4), FORGET | INTERRUPT | BATCH_FORGET) {
        assert!(answer.is_empty(), "an answer that nobody waits for");
        return;
    }
    // Whether a request that is longer than any is read as a whole depends on where the next one lands.
    if answer.is_empty() && message.len() > HEAD_BYTES + FRAME_BYTES {
        return;
    }
    assert!(answer.len() >= 16, "no answer");
    assert_eq!(word(&answer, 0) as usize, answer.len());
    assert!((-4095..=0).contains(&(word(&answer, 4) as i32)));
    assert_eq!(answer[8..16], message[8..16]);
}

/// A request as the kernel writes it.
fn request(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; IN_HEADER_BYTES];
    bytes[..4].copy_from_slice(&((IN_HEADER_BYTES + body.len()) as u32).to_le_bytes());
    bytes[4..8].copy_from_slice(&opcode.to_le_bytes());
    bytes[8..16].copy_from_slice(&11u64.to_le_bytes());
    bytes[16..24].copy_from_slice(&node.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// `struct fuse_write_in` and `fuse_read_in`.
pub(crate) fn transfer(handle: u64, offset: u64, bytes: usize) -> Vec<u8> {
    let mut body = vec![0; 40];
    body[..8].copy_from_slice(&handle.to_le_bytes());
    body[8..16].copy_from_slice(&offset.to_le_bytes());
    body[16..20].copy_from_slice(&(bytes as u32).to_le_bytes());
    body
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let record =
        |flags: u8, longer: u8, bytes: &[u8]| [&[flags, longer][..], &counted(bytes)].concat();
    let write = |offset: u64, says: usize, bytes: &[u8]| {
        request(16, NODE, &[&transfer(0, offset, says)[..], bytes].concat())
    };
    let large = 64 * LONGER_BYTES - 40;
    let region = 4 << 20;
    let write_all = [
        record(OPEN, 0, &write(0, 100, &[7; 100])),
        record(OPEN, 0, &write(region - 50, 100, &[7; 100])),
        record(OPEN, 63, &write(3, 63 * LONGER_BYTES, &[])),
        record(OPEN, 16, &write(region * 3 - 1, 16 * LONGER_BYTES, &[])),
        record(OPEN, 0, &request(25, NODE, &[0; 24])),
        record(OPEN, 0, &request(20, NODE, &[0; 16])),
        record(OPEN, 0, &request(46, NODE, &[0; 24])),
    ];
    let read = |offset, bytes| record(OPEN, 0, &request(15, NODE, &transfer(0, offset, bytes)));
    let forget_some = [&2u32.to_le_bytes()[..], &[0; 4], &[9; 32]].concat();
    vec![
        ("write", write_all.concat()),
        ("read", [read(0, 4096), read(region - 9, 70_000), read(u64::MAX, 1)].concat()),
        ("write-says-more", record(OPEN, 0, &write(0, 200, &[7; 100]))),
        ("write-says-less", record(OPEN, 0, &write(0, 10, &[7; 100]))),
        ("write-too-long", record(OPEN, 65, &write(0, large, &[]))),
        ("length-lies", record(OPEN | LIES, 1, &write(0, 100, &[7; 100]))),
        ("setxattr-long", record(0, 4, &request(21, 1, b"\x00\x00\x01\x00\0\0\0\0user.a\0"))),
        ("request-too-long", record(0, 80, &request(21, 1, b"\x00\x00\x01\x00\0\0\0\0user.a\0"))),
        (
            "request-too-long-behind-a-pack",
            [
                record(OPEN, 0, &write(0, 100, &[7; 100])),
                record(0, 80, &request(21, 1, b"\x00\x00\x01\x00\0\0\0\0user.a\0")),
            ]
            .concat(),
        ),
        ("forget", record(0, 0, &request(BATCH_FORGET, 0, &forget_some))),
        ("forget-count-lies", record(0, 0, &request(BATCH_FORGET, 0, &[255; 16]))),
        ("lookup", record(0, 0, &request(1, 1, b"name\0"))),
        ("free-slot", record(0, 0, &request(16, 0, &[&transfer(9, 0, 4)[..], b"abcd"].concat()))),
    ]
}
