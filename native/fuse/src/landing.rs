//! Where the next request lands, so that a WRITE's payload needs no copy and small ones share a frame.
//!
//! A thread owns a fresh frame for large payloads, and a *pack*: a frame that small payloads fill one behind the
//! other. While small writes come in, the pack is offered first and the fresh frame behind it; a large payload
//! then spills over, which costs one more piece, once. In a large stream every payload starts a frame.
use crate::device::Target;
use millrace_core::{Engine, Scratch};
use millrace_layout::{FRAME_BYTES, NONE, PACK_BYTES};
use std::sync::Arc;

/// Payloads up to this many bytes are expected to come in company.
const SMALL_BYTES: usize = 256 << 10;

/// A part of a payload, where it landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Landed {
    pub(crate) frame: u32,
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
}

/// The frames that one front thread offers to the kernel.
pub(crate) struct Landing {
    engine: Arc<Engine>,
    fresh: u32,
    pack: u32,
    cursor: usize,
    packing: bool,
    /// Used when the slab is full and the store fails: requests must still be read, to be refused.
    spare: Option<Scratch>,
}

impl Landing {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, fresh: NONE, pack: NONE, cursor: 0, packing: false, spare: None }
    }

    /// Make room for the largest request. An errno: no frame can be had because the store fails.
    ///
    /// The pack is kept while frames come, however slowly: a frame for each small payload would make them shorter still.
    /// Where none comes, it may be one of those that everybody waits for.
    pub(crate) fn prepare(&mut self) -> Result<(), i32> {
        if self.fresh == NONE {
            let Self { engine, pack, packing, .. } = self;
            self.fresh = engine.take_frame_or(|| {
                *packing = false;
                give_back(engine, pack);
            })?;
        }
        Ok(())
    }

    /// The frame for the next payload, when a request that has none needs one.
    pub(crate) fn take_fresh(&mut self) -> Option<u32> {
        let fresh = std::mem::replace(&mut self.fresh, NONE);
        (fresh != NONE).then_some(fresh)
    }

    /// The same without waiting. False: there is no frame.
    pub(crate) fn try_prepare(&mut self) -> bool {
        if self.fresh == NONE {
            self.fresh = self.engine.try_take_frame().unwrap_or(NONE);
        }
        self.fresh != NONE
    }

    /// Give the frames back: nothing is to land for now.
    pub(crate) fn give_back(&mut self) {
        give_back(&self.engine, &mut self.fresh);
        give_back(&self.engine, &mut self.pack);
        self.packing = false;
    }

    /// What the kernel may write to, in order.
    pub(crate) fn targets(&mut self) -> [Target; 2] {
        if self.fresh == NONE {
            let spare = self.spare.get_or_insert_with(|| Scratch::new(FRAME_BYTES)).bytes();
            let spare = Target { base: spare.as_mut_ptr(), bytes: FRAME_BYTES };
            return [Target { bytes: 0, ..spare }, spare];
        }
        let fresh = Target { base: self.engine.memory.frame(self.fresh), bytes: FRAME_BYTES };
        if self.packing {
            let base = self.engine.memory.frame(self.pack).wrapping_add(self.cursor);
            [Target { base, bytes: FRAME_BYTES - self.cursor }, fresh]
        } else {
            [Target { bytes: 0, ..fresh }, fresh]
        }
    }

    /// Put bytes, in two pieces, where the kernel would have put them: what is not a WRITE's payload is small.
    pub(crate) fn fill(&mut self, pieces: [&[u8]; 2]) {
        let targets = self.targets();
        let (mut number, mut at) = (0, 0);
        for piece in pieces {
            let mut rest = piece;
            while !rest.is_empty() && number < targets.len() {
                let target = targets[number];
                let (part, behind) = rest.split_at(rest.len().min(target.bytes - at));
                // SAFETY: the target is this thread's, and the range lies in it.
                unsafe {
                    std::ptr::copy_nonoverlapping(part.as_ptr(), target.base.add(at), part.len());
                }
                rest = behind;
                at += part.len();
                if at == target.bytes {
                    (number, at) = (number + 1, 0);
                }
            }
        }
    }

    /// Copy what landed behind the 80 bytes into `out`, as much as fits (requests other than WRITE; small).
    pub(crate) fn copy(&mut self, bytes: usize, out: &mut [u8]) {
        let mut rest = &mut out[..bytes];
        for target in self.targets() {
            let n = target.bytes.min(rest.len());
            let (part, behind) = rest.split_at_mut(n);
            // SAFETY: the target is this thread's, and the kernel has filled it.
            part.copy_from_slice(unsafe { std::slice::from_raw_parts(target.base, n) });
            rest = behind;
        }
    }

    /// Accept a WRITE's payload: where it lies. Each part holds one count of its frame, which the caller passes on.
    /// `None`: it landed in the spare buffer and is lost.
    pub(crate) fn accept(&mut self, bytes: usize) -> Option<([Landed; 2], usize)> {
        let nothing = Landed { frame: NONE, offset: 0, bytes: 0 };
        if self.fresh == NONE {
            return None;
        }
        if self.packing && bytes <= FRAME_BYTES - self.cursor {
            let part = Landed { frame: self.pack, offset: self.cursor, bytes };
            self.engine.hold_frame(self.pack, 1);
            self.advance(bytes);
            self.expect(bytes);
            return Some(([part, nothing], 1));
        }
        let (first, spilled) = if self.packing {
            let first = FRAME_BYTES - self.cursor;
            let part = Landed { frame: self.pack, offset: self.cursor, bytes: first };
            // The pack is full: its own count goes with this part.
            self.pack = NONE;
            (Some(part), bytes - first)
        } else {
            (None, bytes)
        };
        let last = Landed { frame: self.fresh, offset: 0, bytes: spilled };
        self.fresh = NONE;
        self.keep_rest(last.frame, spilled);
        self.expect(bytes);
        Some(match first {
            Some(first) => ([first, last], 2),
            None => ([last, nothing], 1),
        })
    }

    /// After a payload took the start of a fresh frame: pack into its rest when that is more than the pack has.
    fn keep_rest(&mut self, frame: u32, used: usize) {
        let room = if self.pack == NONE { 0 } else { FRAME_BYTES - self.cursor };
        let rest = FRAME_BYTES - used.next_multiple_of(PACK_BYTES);
        if used > SMALL_BYTES || rest <= room {
            return;
        }
        if self.pack != NONE {
            self.engine.free_frame(self.pack);
        }
        self.engine.hold_frame(frame, 1);
        self.pack = frame;
        self.cursor = 0;
        self.advance(used);
    }

    fn advance(&mut self, bytes: usize) {
        self.cursor += bytes.next_multiple_of(PACK_BYTES);
        if self.cursor >= FRAME_BYTES {
            self.engine.free_frame(self.pack);
            self.pack = NONE;
        }
    }

    /// Guess from this payload where the next one should land.
    fn expect(&mut self, bytes: usize) {
        self.packing =
            self.pack != NONE && bytes <= SMALL_BYTES && FRAME_BYTES - self.cursor >= bytes;
    }
}

fn give_back(engine: &Engine, frame: &mut u32) {
    let frame = std::mem::replace(frame, NONE);
    if frame != NONE {
        engine.free_frame(frame);
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
#[expect(dead_code, reason = "the tests of the engine use the rest")]
#[path = "../../core/tests/support/mod.rs"]
mod support;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;
    use support::{Bench, FRAMES};

    #[test]
    fn whoever_waits_for_a_frame_gives_back_its_pack_when_none_comes() {
        let bench = Bench::new();
        let mut landing = Landing::new(bench.engine.clone());
        landing.prepare().unwrap();
        let (parts, count) = landing.accept(100).unwrap();
        assert_eq!(count, 1);
        // The payload is stored: only the landing still keeps the frame, for further ones.
        bench.engine.free_frame(parts[0].frame);
        assert_eq!(bench.engine.free_frames(), FRAMES - 1);
        let _others: Vec<u32> = (1..FRAMES).map(|_| bench.frame_with(0, &[1])).collect();
        let (say, heard) = channel();
        std::thread::spawn(move || {
            let prepared = landing.prepare();
            let _ = say.send((prepared, landing));
        });
        // Guards against a landing that waits for ever.
        let (prepared, landing) = heard.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(prepared, Ok(()));
        assert_eq!((landing.fresh, landing.pack), (parts[0].frame, NONE));
    }
}
