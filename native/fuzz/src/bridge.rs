//! The front of another library's calls: bodies in two pieces, and answers that must fit where the caller wants them.
use crate::guard::{at_the_end, at_the_start};
use crate::records::{Input, counted};
use crate::session::transfer;
use crate::support::Bench;
use crate::worker::{NODE, SLOT, Sent, check_free, prepare, serve};
use millrace_core::Region;
use millrace_fuse::{Bridge, FULL, Order, PENDING, Watchers};

const CALLS_MAX: usize = 24;
const LANES: usize = 3;
const LONGER_BYTES: usize = 16 << 10;
const BATCH_FORGET: u32 = 42;

struct Ground {
    bridge: Bridge,
    bench: Bench,
}

thread_local! {
    static GROUND: Ground = ground();
}

fn ground() -> Ground {
    let bench = Bench::new();
    let watchers = Watchers { replied: Box::new(|| {}), room: Box::new(|| {}) };
    let bridge = Bridge::start(bench.engine.clone(), LANES, watchers);
    Ground { bridge: bridge.unwrap_or_else(|error| panic!("no bridge: {error}")), bench }
}

/// Input: records of opcode (u8), lane (u8), a number of 16 KiB of zeros behind the body (u8), room for the answer (u8),
/// its bytes (u8), and the body with its length.
pub(crate) fn run(data: &[u8]) {
    GROUND.with(|ground| {
        prepare(&ground.bench);
        let mut input = Input(data);
        for _ in 0..CALLS_MAX {
            if ground.call(&mut input).is_none() {
                break;
            }
            check_free(&ground.bench, true);
        }
        ground.bridge.abandon();
    });
}

impl Ground {
    fn call(&self, input: &mut Input<'_>) -> Option<()> {
        let (opcode, lane) = (u32::from(input.byte()?), u32::from(input.byte()?) % 4);
        // As in `session`, what is forgotten must fit on the ring.
        let longer = if opcode == BATCH_FORGET { input.byte()? & 3 } else { input.byte()? % 96 };
        let (room, reply) = (usize::from(input.byte()?), usize::from(input.byte()?));
        let length = input.short()?;
        let mut body = input.take(length).to_vec();
        let near = body.len() / 2;
        body.resize(body.len() + usize::from(longer) * LONGER_BYTES, 0);
        let order = Order { opcode, node: NODE, uid: 1, gid: 2 };
        at_the_start(&body, |body| {
            at_the_end(&vec![0; room], |out| {
                let destination = Region { base: out.as_mut_ptr(), bytes: out.len() };
                // SAFETY: the request is answered before the buffer goes.
                let result = unsafe {
                    self.bridge.submit(lane, order, [&body[..near], &body[near..]], destination)
                };
                serve(&self.bench, &Sent { opcode, body }, reply);
                self.check(result, lane, room, reply);
            });
        });
        Some(())
    }

    fn check(&self, result: i32, lane: u32, room: usize, reply: usize) {
        let mut answers = Vec::new();
        self.bridge.completed(|lane, result| answers.push((lane, result)));
        assert_ne!(result, FULL, "there is room");
        if result != PENDING {
            assert!(answers.is_empty());
            // Refused, or answered by the front itself: 8 bytes at most.
            assert!((-4095..=8).contains(&result) && result <= room as i32);
            return;
        }
        let [(answered, outcome)] = answers[..] else { panic!("{answers:?}") };
        assert_eq!(answered, lane);
        assert!(outcome <= room as i32 && outcome <= reply.max(8) as i32 && outcome > -4096);
    }
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let call = |opcode: u8, longer: u8, room: u8, reply: u8, body: &[u8]| {
        [&[opcode, 0, longer, room, reply][..], &counted(body)].concat()
    };
    let handle = u64::from(SLOT) | 1 << 32;
    let write = |bytes: usize, rest: &[u8]| [&transfer(handle, 9, bytes)[..], rest].concat();
    vec![
        ("write", call(16, 0, 8, 0, &write(50, &[3; 50]))),
        ("write-no-room", call(16, 0, 4, 0, &write(50, &[3; 50]))),
        ("write-long", call(16, 4, 8, 0, &write(4 * LONGER_BYTES, &[]))),
        ("read", call(15, 0, 200, 0, &transfer(handle, 0, 4096))),
        ("getattr", call(3, 0, 104, 104, &[0; 16])),
        ("answer-does-not-fit", call(3, 0, 103, 104, &[0; 16])),
        ("setxattr", call(21, 4, 0, 0, b"\x00\x00\x01\x00\0\0\0\0user.a\0")),
        ("request-too-long", call(21, 80, 0, 0, b"\x00\x00\x01\x00\0\0\0\0user.a\0")),
        ("flush", call(25, 0, 0, 0, &write(0, &[]))),
        ("forget", call(2, 0, 0, 0, &[1; 8])),
        ("interrupt", call(36, 0, 0, 0, &[1; 8])),
    ]
}
