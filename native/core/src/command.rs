//! The words that a worker writes into its command buffer, decoded with every bound checked.
use crate::engine::Engine;
use crate::mover::{Quiesce, Task};
use crate::worker::Seat;
use millrace_layout::{
    COMMAND_WORDS, FRAME_BYTES, INLINE_BYTES, INODE_SLOTS, NONE, REGION_BYTES, REQUEST_SLOTS,
    command, descriptor, header, source,
};
use millrace_vault::ChunkId;
use std::io::IoSlice;
use std::sync::atomic::Ordering;

/// Where bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Frame { frame: u32, offset: usize, bytes: usize },
    Chunk { id: ChunkId, offset: usize, bytes: usize },
    Inline { slot: u32, offset: usize, bytes: usize },
    Zero { bytes: usize },
}

impl Source {
    pub(crate) fn bytes(&self) -> usize {
        match *self {
            Self::Frame { bytes, .. }
            | Self::Chunk { bytes, .. }
            | Self::Inline { bytes, .. }
            | Self::Zero { bytes } => bytes,
        }
    }
}

/// A command buffer that does not make sense: a bug in the worker.
#[derive(Debug)]
pub(crate) struct Malformed;

/// A cursor over command words.
struct Words<'a>(&'a [u32]);

impl Words<'_> {
    fn next(&mut self) -> Result<u32, Malformed> {
        let (&first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(first)
    }

    fn take(&mut self, count: usize) -> Result<&[u32], Malformed> {
        let (these, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(these)
    }

    /// An index below `bound`.
    fn index(&mut self, bound: usize) -> Result<u32, Malformed> {
        self.next().and_then(|i| if (i as usize) < bound { Ok(i) } else { Err(Malformed) })
    }

    /// A number of bytes up to `bound`.
    fn bytes(&mut self, bound: usize) -> Result<usize, Malformed> {
        self.next().and_then(|n| if n as usize <= bound { Ok(n as usize) } else { Err(Malformed) })
    }

    /// An offset and a length that lie within `bound`.
    fn range(&mut self, bound: usize) -> Result<(usize, usize), Malformed> {
        let (offset, bytes) = (self.bytes(bound)?, self.bytes(bound)?);
        if offset + bytes <= bound { Ok((offset, bytes)) } else { Err(Malformed) }
    }

    fn source(&mut self, frames: usize) -> Result<Source, Malformed> {
        match self.next()? {
            source::FRAME => {
                let frame = self.index(frames)?;
                let (offset, bytes) = self.range(FRAME_BYTES)?;
                Ok(Source::Frame { frame, offset, bytes })
            }
            source::CHUNK => {
                let (offset, bytes) = self.range(REGION_BYTES)?;
                let mut id = [0; 32];
                for (to, word) in id.chunks_exact_mut(4).zip(self.take(8)?) {
                    to.copy_from_slice(&word.to_le_bytes());
                }
                Ok(Source::Chunk { id: ChunkId(id), offset, bytes })
            }
            source::INLINE => {
                let slot = self.index(INODE_SLOTS)?;
                let (offset, bytes) = self.range(INLINE_BYTES)?;
                Ok(Source::Inline { slot, offset, bytes })
            }
            source::ZERO => Ok(Source::Zero { bytes: self.bytes(REGION_BYTES)? }),
            _ => Err(Malformed),
        }
    }

    fn sources(&mut self, frames: usize, out: &mut Vec<Source>) -> Result<usize, Malformed> {
        out.clear();
        let count = self.bytes(COMMAND_WORDS)?;
        for _ in 0..count {
            let source = self.source(frames)?;
            out.push(source);
        }
        Ok(out.iter().map(Source::bytes).sum())
    }
}

impl Engine {
    /// Execute the commands of one turn.
    pub(crate) fn execute(
        &self,
        worker: usize,
        seat: &mut Seat,
        words: &[u32],
    ) -> Result<(), Malformed> {
        let mut words = Words(words);
        while !words.0.is_empty() {
            match words.next()? {
                command::REPLY => {
                    let (slot, errno) = (words.index(REQUEST_SLOTS)?, words.next()?);
                    let (offset, bytes) = words.range(seat.out.bytes)?;
                    if errno == 0 {
                        // SAFETY: the out buffer is registered by this worker, which waits for this call to end.
                        let data =
                            unsafe { std::slice::from_raw_parts(seat.out.base.add(offset), bytes) };
                        self.answer(slot, &[IoSlice::new(data)]);
                    } else {
                        self.answer_errno(slot, errno as i32);
                    }
                }
                command::HOLD => {
                    let frame = words.index(self.memory.frames())?;
                    self.hold_frame(frame, 1);
                }
                command::RELEASE_REQUEST => {
                    let slot = words.index(REQUEST_SLOTS)?;
                    self.release_request(slot);
                }
                command::FREE => {
                    let frame = words.index(self.memory.frames())?;
                    self.free_frame(frame);
                }
                command::PUSH => {
                    let target = words.index(self.seats.len())? as usize;
                    let mut descriptor = [0; descriptor::WORDS];
                    descriptor[1..].copy_from_slice(words.take(descriptor::WORDS - 1)?);
                    self.queue(target, descriptor);
                    seat.wakes |= 1 << target;
                }
                command::SETTLE => self.start_settle(worker, &mut words)?,
                command::READ => self.start_read(seat, &mut words)?,
                command::SYNC_DONE => {
                    let (slot, errno) = (words.index(REQUEST_SLOTS)?, words.next()?);
                    let inode = words.next()?;
                    self.sync_done(slot, inode, errno);
                }
                command::FAIL_PART => {
                    let (slot, errno) = (words.index(REQUEST_SLOTS)?, words.next()?);
                    self.read_part_done(slot, errno);
                }
                command::INLINE => self.fill_inline(seat, &mut words)?,
                command::SYNC_STORE => {
                    let mut job = self.movers.blank();
                    job.task = Task::SyncStore { worker, token: words.next()? };
                    self.movers.submit(job);
                }
                command::QUIESCE => self.quiesce(Quiesce { worker, token: words.next()? }),
                _ => return Err(Malformed),
            }
        }
        Ok(())
    }

    fn start_settle(&self, worker: usize, words: &mut Words<'_>) -> Result<(), Malformed> {
        let (number, in_place) = (words.next()?, words.next()? != 0);
        let bytes = words.bytes(REGION_BYTES)?;
        let mut job = self.movers.blank();
        if words.sources(self.memory.frames(), &mut job.sources)? != bytes || bytes == 0 {
            return Err(Malformed);
        }
        job.task = Task::Settle { worker, job: number, in_place, bytes };
        self.memory.header(header::SETTLING).fetch_add(1, Ordering::AcqRel);
        self.movers.submit(job);
        Ok(())
    }

    fn start_read(&self, seat: &mut Seat, words: &mut Words<'_>) -> Result<(), Malformed> {
        let request = words.index(REQUEST_SLOTS)?;
        let (frame, frame_offset) = (words.next()?, words.bytes(FRAME_BYTES)?);
        let (bytes, urgent) = (words.bytes(FRAME_BYTES)?, words.next()? != 0);
        if frame != NONE
            && (frame as usize >= self.memory.frames() || frame_offset + bytes > FRAME_BYTES)
        {
            return Err(Malformed);
        }
        let mut job = if urgent { std::mem::take(&mut seat.job) } else { self.movers.blank() };
        // Bytes are not gathered from where they are put.
        let is_target =
            |source: &Source| matches!(*source, Source::Frame { frame: from, .. } if from == frame);
        let named = words.sources(self.memory.frames(), &mut job.sources)?;
        if named != bytes || job.sources.iter().any(is_target) {
            return Err(Malformed);
        }
        job.task = Task::Read { request, frame, frame_offset, bytes };
        if urgent {
            self.read(&job, &mut seat.buffers);
            seat.job = job;
        } else {
            self.movers.submit(job);
        }
        Ok(())
    }

    /// Gather into an inline cell. The sources may be parts of the same cell: they are collected first.
    fn fill_inline(&self, seat: &mut Seat, words: &mut Words<'_>) -> Result<(), Malformed> {
        let slot = words.index(INODE_SLOTS)?;
        let offset = words.bytes(INLINE_BYTES)?;
        let mut sources = std::mem::take(&mut seat.job.sources);
        let bytes = words.sources(self.memory.frames(), &mut sources)?;
        if offset + bytes > INLINE_BYTES {
            return Err(Malformed);
        }
        let mut cell = [0; INLINE_BYTES];
        let result = self.gather(&sources, &mut cell[..bytes], seat.buffers.segments());
        seat.job.sources = sources;
        result.map_err(|_| Malformed)?;
        // SAFETY: the worker owns the cell until it has told the tree worker about it.
        let to =
            unsafe { std::slice::from_raw_parts_mut(self.memory.inline(slot).add(offset), bytes) };
        to.copy_from_slice(&cell[..bytes]);
        Ok(())
    }
}
