//! The slots of requests that the kernel waits for.
use crate::engine::Engine;
use millrace_layout::{NONE, kind, request};
use millrace_store::{KillPoint, kills, pass};
use std::io::IoSlice;
use std::sync::atomic::Ordering;

/// Requests after whose answer a program counts on something.
mod opcode {
    pub(super) const RENAME: u32 = 12;
    pub(super) const FSYNC: u32 = 20;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const RENAME2: u32 = 45;
}

impl Engine {
    /// Answer a request with bytes and give its slot back.
    pub(crate) fn answer(&self, slot: u32, parts: &[IoSlice<'_>]) {
        let (fd, unique) = self.addressee(slot);
        let points = self.points_of(slot);
        if let Some((before, _)) = points {
            pass(before);
        }
        self.reply(fd, unique, 0, parts);
        if let Some((_, after)) = points {
            pass(after);
        }
        self.release_request(slot);
    }

    /// Where a test may end the process before and after the answer to a request.
    fn points_of(&self, slot: u32) -> Option<(KillPoint, KillPoint)> {
        if !kills() {
            return None;
        }
        // ORDER: as for the addressee.
        match self.memory.request(slot, request::OPCODE).load(Ordering::Relaxed) {
            opcode::RENAME | opcode::RENAME2 => {
                Some((KillPoint::RenameAnswer, KillPoint::RenameAnswered))
            }
            opcode::FSYNC => Some((KillPoint::FsyncAnswer, KillPoint::FsyncAnswered)),
            opcode::FLUSH => Some((KillPoint::FlushAnswer, KillPoint::FlushAnswered)),
            _ => None,
        }
    }

    /// Answer a request with an errno (0: success without a body) and give its slot back.
    pub(crate) fn answer_errno(&self, slot: u32, errno: i32) {
        let (fd, unique) = self.addressee(slot);
        self.reply(fd, unique, errno, &[]);
        self.release_request(slot);
    }

    fn addressee(&self, slot: u32) -> (i32, u64) {
        // ORDER: the slot was written before the push of its descriptor, and the ring's acquire orders this read.
        let fd = self.memory.request(slot, request::FD).load(Ordering::Relaxed) as i32;
        (fd, self.memory.request64(slot, request::UNIQUE).load(Ordering::Relaxed))
    }

    /// Give a request slot (and the frame of its body) back.
    pub(crate) fn release_request(&self, slot: u32) {
        let frame = self.memory.request(slot, request::FRAME).swap(NONE, Ordering::Relaxed);
        if frame != NONE {
            self.free_frame(frame);
        }
        self.requests.give(slot);
        crate::frames::announce_freed(&self.memory);
    }

    /// Give a request slot back that was taken but never queued.
    pub fn drop_request(&self, slot: u32) {
        self.release_request(slot);
    }

    /// One part of a request is done. True: it was the last one. The first errno is kept.
    pub(crate) fn count_down(&self, slot: u32, errno: u32) -> bool {
        if errno != 0 {
            let cell = self.memory.request(slot, request::ERRNO);
            let _ = cell.compare_exchange(0, errno, Ordering::Relaxed, Ordering::Relaxed);
        }
        // ORDER: AcqRel, so that the last part sees the errnos and bytes of all others.
        self.memory.request(slot, request::PENDING).fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// A data worker has done its part of a SYNC; the last one hands the request to the tree worker.
    pub(crate) fn sync_done(&self, slot: u32, inode: u32, errno: u32) {
        if self.count_down(slot, errno) {
            let mut words = [0; millrace_layout::descriptor::WORDS];
            words[millrace_layout::descriptor::KIND] = kind::COMMIT;
            words[millrace_layout::descriptor::INODE] = inode;
            words[millrace_layout::descriptor::A] = slot;
            self.send(millrace_layout::TREE_WORKER, words);
        }
    }
}
