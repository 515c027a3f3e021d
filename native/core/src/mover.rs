//! Movers: threads that hash, seal, store and read. They decide nothing.
//!
//! A worker hands them jobs; a READ is answered by the mover itself, a SETTLE and a `SYNC_STORE` send a descriptor
//! back. Reads, barriers and copies of partial chunks go first: somebody waits for them. Whole chunks are settled
//! behind the writer's back, the newest first because its frames are still in the processor's cache (a full slab is far
//! larger than that); every fourth is the oldest, so that none waits for ever.
use crate::command::Source;
use crate::engine::Engine;
use crate::mortality::Life;
use crate::stack::hide_stack;
use millrace_layout::{
    FRAME_BYTES, INLINE_BYTES, NONE, REGION_BYTES, SEGMENT_BYTES, TREE_WORKER, descriptor, header,
    kind, request,
};
use millrace_store::{ChunkStore, ReadError};
use millrace_vault::{ChunkId, HeadBuf, RawPiece};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What a mover is to do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Nothing: an empty job that waits to be used again.
    #[default]
    None,
    /// Answer a READ.
    Read { request: u32, frame: u32, frame_offset: usize, bytes: usize },
    /// Seal and store a chunk.
    Settle { worker: usize, job: u32, in_place: bool, bytes: usize },
    /// Make durable what is stored.
    SyncStore { worker: usize, token: u32 },
}

/// A task and where its bytes come from.
#[derive(Debug, Default)]
pub(crate) struct Job {
    pub(crate) task: Task,
    pub(crate) sources: Vec<Source>,
    /// Which of two counts it is in.
    age: usize,
}

#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "jobs move between queues, seats and threads: as pointers")]
struct Queues {
    urgent: VecDeque<Box<Job>>,
    /// Whole chunks.
    settles: VecDeque<Box<Job>>,
    /// Whole chunks that were taken.
    taken: usize,
    /// Finished jobs, to be filled again: no allocation per request.
    idle: Vec<Box<Job>>,
    waiting: usize,
    stop: bool,
    ages: Ages,
}

/// Somebody waits until every job that was submitted before is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quiesce {
    pub(crate) worker: usize,
    pub(crate) token: u32,
}

/// Jobs that are not done, as old ones and young ones: who waits for all of before makes the young ones old, and waits
/// until there are none.
#[derive(Debug, Default)]
struct Ages {
    young: usize,
    jobs: [usize; 2],
    waiting: VecDeque<Quiesce>,
}

impl Ages {
    /// A job begins; its age.
    fn submitted(&mut self) -> usize {
        self.jobs[self.young] += 1;
        self.young
    }

    fn done(&mut self, age: usize) {
        self.jobs[age] -= 1;
    }

    /// Wait for all jobs of before; behind those who wait already.
    fn wait(&mut self, who: Quiesce) {
        self.waiting.push_back(who);
        if self.waiting.len() == 1 {
            self.young = 1 - self.young;
        }
    }

    /// Who need not wait any longer.
    fn passed(&mut self) -> Option<Quiesce> {
        if self.waiting.is_empty() || self.jobs[1 - self.young] > 0 {
            return None;
        }
        let passed = self.waiting.pop_front();
        if !self.waiting.is_empty() {
            self.young = 1 - self.young;
        }
        passed
    }
}

/// Of this many whole chunks, one is the oldest.
const OLDEST_EVERY: usize = 4;

impl Queues {
    fn next_chunk(&mut self) -> Option<Box<Job>> {
        self.taken = self.taken.wrapping_add(1);
        if self.taken.is_multiple_of(OLDEST_EVERY) {
            self.settles.pop_front()
        } else {
            self.settles.pop_back()
        }
    }
}

/// The jobs that wait for a mover.
#[derive(Debug, Default)]
pub(crate) struct Movers {
    queues: Mutex<Queues>,
    some: Condvar,
}

impl Movers {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty job.
    #[expect(clippy::unnecessary_box_returns, reason = "as above")]
    pub(crate) fn blank(&self) -> Box<Job> {
        self.lock().idle.pop().unwrap_or_default()
    }

    pub(crate) fn submit(&self, mut job: Box<Job>) {
        let mut queues = self.lock();
        job.age = queues.ages.submitted();
        if matches!(job.task, Task::Settle { in_place: true, .. }) {
            queues.settles.push_back(job);
        } else {
            queues.urgent.push_back(job);
        }
        let wake = queues.waiting > 0;
        drop(queues);
        if wake {
            self.some.notify_one();
        }
    }

    /// Wait until every job of before is done; `passed` is told, now or by a mover.
    pub(crate) fn quiesce(&self, who: Quiesce, mut passed: impl FnMut(Quiesce)) {
        let mut queues = self.lock();
        queues.ages.wait(who);
        while let Some(who) = queues.ages.passed() {
            passed(who);
        }
    }

    fn next(&self, done: Option<Box<Job>>, mut passed: impl FnMut(Quiesce)) -> Option<Box<Job>> {
        let mut queues = self.lock();
        if let Some(mut job) = done {
            queues.ages.done(job.age);
            job.sources.clear();
            queues.idle.push(job);
            while let Some(who) = queues.ages.passed() {
                passed(who);
            }
        }
        loop {
            if let Some(job) = queues.urgent.pop_front() {
                return Some(job);
            }
            if let Some(job) = queues.next_chunk() {
                return Some(job);
            }
            if queues.stop {
                return None;
            }
            queues.waiting += 1;
            queues = self.some.wait(queues).unwrap_or_else(PoisonError::into_inner);
            queues.waiting -= 1;
        }
    }

    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.some.notify_all();
    }
}

/// Memory of one thread's own, page aligned, kept out of core dumps. The kernel clears it before anybody else has it.
#[derive(Debug)]
pub struct Scratch {
    base: *mut u8,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone.
unsafe impl Send for Scratch {}

impl Scratch {
    /// So many bytes, all zero.
    ///
    /// # Panics
    /// When the kernel has no memory for them.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        // SAFETY: a fresh anonymous mapping.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert!(base != libc::MAP_FAILED, "no memory for a scratch buffer of {bytes} bytes");
        // SAFETY: the mapping is ours.
        unsafe { libc::madvise(base, bytes, libc::MADV_DONTDUMP) };
        Self { base: base.cast(), bytes }
    }

    /// All of it.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is ours, and `&mut self` makes this the only reference to it.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.bytes) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody refers to it any more.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}

/// Buffers of a thread that reads: gathered bytes, and ciphertext on its way to plaintext.
#[derive(Debug)]
pub(crate) struct ReadBuffers {
    gathered: Scratch,
    segments: Scratch,
}

impl ReadBuffers {
    pub(crate) fn segments(&mut self) -> &mut Scratch {
        &mut self.segments
    }
}

impl Default for ReadBuffers {
    fn default() -> Self {
        Self {
            gathered: Scratch::new(REGION_BYTES),
            segments: Scratch::new(REGION_BYTES + 2 * SEGMENT_BYTES),
        }
    }
}

/// Buffers of a mover.
struct Buffers {
    read: ReadBuffers,
    pieces: Vec<RawPiece>,
    head: HeadBuf,
}

/// Start one mover.
pub(crate) fn spawn(engine: &Arc<Engine>, number: usize) -> std::io::Result<()> {
    let engine = engine.clone();
    std::thread::Builder::new().name(format!("mover-{number}")).spawn(move || {
        let run = std::panic::AssertUnwindSafe(|| work(&engine));
        if std::panic::catch_unwind(run).is_err() {
            engine.fail(format!("mover {number} died: the mount ends"));
        }
    })?;
    Ok(())
}

fn work(engine: &Engine) {
    hide_stack();
    let mut buffers = Buffers {
        read: ReadBuffers::default(),
        pieces: Vec::with_capacity(1024),
        head: HeadBuf::new(),
    };
    let mut life = Life::of("mover");
    let mut done = None;
    while let Some(job) = engine.movers.next(done.take(), |who| engine.quiesced(who)) {
        life.spend();
        match job.task {
            Task::Read { .. } => engine.read(&job, &mut buffers.read),
            Task::Settle { worker, job: number, in_place, bytes } => {
                let result = engine.settle(&job.sources, in_place, bytes, &mut buffers);
                engine.memory.header(header::SETTLING).fetch_sub(1, Ordering::AcqRel);
                engine.settled(worker, number, result);
            }
            Task::SyncStore { worker, token } => {
                let errno = engine.store.sync().err().unwrap_or(0);
                let mut words = [0; descriptor::WORDS];
                words[descriptor::KIND] = kind::SYNCED;
                words[descriptor::A] = token;
                words[descriptor::B] = errno as u32;
                engine.send(worker, words);
            }
            Task::None => {}
        }
        done = Some(job);
    }
}

impl Engine {
    /// Have a worker told when movers have done every job that was submitted before.
    pub(crate) fn quiesce(&self, who: Quiesce) {
        self.movers.quiesce(who, |who| self.quiesced(who));
    }

    fn quiesced(&self, Quiesce { worker, token }: Quiesce) {
        let mut words = [0; descriptor::WORDS];
        words[descriptor::KIND] = kind::SYNCED;
        words[descriptor::A] = token;
        self.send(worker, words);
    }

    fn settled(&self, worker: usize, job: u32, result: Result<ChunkId, i32>) {
        let mut words = [0; descriptor::WORDS];
        words[descriptor::KIND] = kind::SETTLED;
        words[descriptor::A] = job;
        match result {
            Ok(id) => {
                for (word, bytes) in
                    words[descriptor::PAYLOAD..].iter_mut().zip(id.0.chunks_exact(4))
                {
                    *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                }
            }
            Err(errno) => words[descriptor::B] = errno as u32,
        }
        self.send(worker, words);
    }

    /// Tell fronts whether the store takes data: while it does not, a full slab is an error and not a reason to wait.
    fn note_store(&self, errno: i32) {
        // ORDER: a stale value only delays what fronts and statistics see.
        let cell = self.memory.header(header::STORE_ERRNO);
        if cell.swap(errno as u32, Ordering::Relaxed) == errno as u32 {
            return;
        }
        crate::frames::announce_freed(&self.memory);
        if errno == libc::ENOSPC {
            // The tree worker may know what is garbage: it looks at the cell after every turn.
            let mut words = [0; descriptor::WORDS];
            words[descriptor::KIND] = kind::PRESSURE;
            self.send(TREE_WORKER, words);
        }
    }

    /// Hash, seal and store one chunk. In place: the frames' content becomes ciphertext, and their counts are given
    /// back when it is stored; a failed put leaves plaintext. Otherwise the sources stay as they are.
    fn settle(
        &self,
        sources: &[Source],
        in_place: bool,
        bytes: usize,
        buffers: &mut Buffers,
    ) -> Result<ChunkId, i32> {
        buffers.pieces.clear();
        if in_place {
            for source in sources {
                let Source::Frame { frame, offset, bytes } = *source else {
                    return Err(libc::EINVAL);
                };
                let base = self.memory.frame(frame).wrapping_add(offset);
                buffers.pieces.push(RawPiece { ptr: base, len: bytes });
            }
        } else {
            let ReadBuffers { gathered, segments } = &mut buffers.read;
            let gathered = gathered.bytes().get_mut(..bytes).ok_or(libc::EINVAL)?;
            self.gather(sources, gathered, segments)?;
            buffers.pieces.push(RawPiece { ptr: gathered.as_mut_ptr(), len: bytes });
        }
        let id = self.seal_and_put(bytes, buffers)?;
        if in_place {
            for source in sources {
                if let Source::Frame { frame, .. } = *source {
                    self.free_frame(frame);
                }
            }
        }
        Ok(id)
    }

    fn seal_and_put(&self, bytes: usize, buffers: &mut Buffers) -> Result<ChunkId, i32> {
        // SAFETY: the pieces are frames whose counts the job owns, or this mover's scratch.
        let plain =
            buffers.pieces.iter().map(|p| unsafe { std::slice::from_raw_parts(p.ptr, p.len) });
        let id = self.vault.chunk_id_of(plain);
        let present = self.store.has(&id).inspect_err(|&errno| self.note_store(errno))?;
        if present {
            self.add(header::BYTES_DEDUPLICATED, bytes);
            return Ok(id);
        }
        let Buffers { pieces, head, .. } = buffers;
        // SAFETY: as above; nobody reads the pieces while they are sealed.
        unsafe { self.vault.seal_pieces(&id, pieces, head) };
        self.add(header::BYTES_SEALED, bytes);
        let mut object: Vec<IoSlice<'_>> = Vec::with_capacity(pieces.len() + 1);
        object.push(IoSlice::new(head.bytes()));
        // SAFETY: as above; the pieces outlive the put.
        object.extend(
            pieces
                .iter()
                .map(|p| unsafe { IoSlice::new(std::slice::from_raw_parts(p.ptr, p.len)) }),
        );
        match self.store.put(&id, &object) {
            Ok(put) if put.present => self.add(header::BYTES_DEDUPLICATED, bytes),
            Ok(_) => {
                self.note_store(0);
                self.add(header::BYTES_STORED, object.iter().map(|p| p.len()).sum());
            }
            Err(errno) => {
                self.note_store(errno);
                // SAFETY: the same pieces as sealed above, untouched since.
                if unsafe { self.vault.unseal_pieces(&id, pieces, head) }.is_err() {
                    self.fail(
                        "a chunk could not be opened again after a failed put: memory is damaged"
                            .into(),
                    );
                }
                return Err(errno);
            }
        }
        Ok(id)
    }

    /// Copy the sources' bytes to `out`, one behind the other.
    pub(crate) fn gather(
        &self,
        sources: &[Source],
        out: &mut [u8],
        segments: &mut Scratch,
    ) -> Result<(), i32> {
        let mut rest = out;
        for source in sources {
            let (part, behind) = rest.split_at_mut_checked(source.bytes()).ok_or(libc::EINVAL)?;
            rest = behind;
            match *source {
                Source::Frame { frame, offset, bytes } => {
                    debug_assert!(offset + bytes <= FRAME_BYTES);
                    // SAFETY: the job owns a count of the frame, and the range was checked when it was decoded.
                    let from = unsafe {
                        std::slice::from_raw_parts(self.memory.frame(frame).add(offset), bytes)
                    };
                    part.copy_from_slice(from);
                }
                Source::Inline { slot, offset, bytes } => {
                    debug_assert!(offset + bytes <= INLINE_BYTES);
                    // SAFETY: the worker that sends this owns the cell while the job runs.
                    let from = unsafe {
                        std::slice::from_raw_parts(self.memory.inline(slot).add(offset), bytes)
                    };
                    part.copy_from_slice(from);
                }
                Source::Chunk { id, offset, bytes, .. } => {
                    let segments = segments.bytes();
                    let range = self.open_range(&id, offset, bytes, segments)?;
                    part.copy_from_slice(&segments[range]);
                }
                Source::Zero { .. } => part.fill(0),
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(libc::EINVAL) }
    }

    /// Read a range of a chunk into `segments`; tells where it lies. Damage is reported with the chunk's id.
    pub(crate) fn open_range(
        &self,
        id: &ChunkId,
        offset: usize,
        bytes: usize,
        segments: &mut [u8],
    ) -> Result<std::ops::Range<usize>, i32> {
        let open = self.handles.get(&self.vault, &self.store, id);
        open.and_then(|chunk| chunk.read_range(&self.vault, offset, bytes, segments)).map_err(
            |error| {
                let why = match error {
                    ReadError::Errno(errno) => std::io::Error::from_raw_os_error(errno).to_string(),
                    ReadError::Damaged => "it is damaged".into(),
                    ReadError::Epoch(epoch) => {
                        format!("it says that its key is of epoch {epoch}, which is not there")
                    }
                };
                self.report(format!("chunk {} cannot be read: {why}", id.hex()));
                libc::EIO
            },
        )
    }

    /// Gather a READ's bytes and answer it, or put them where the answer is being assembled.
    pub(crate) fn read(&self, job: &Job, buffers: &mut ReadBuffers) {
        let Task::Read { request: slot, frame, frame_offset, bytes } = job.task else { return };
        let ReadBuffers { gathered, segments } = buffers;
        if frame != NONE {
            // SAFETY: the request owns the frame, and each of its parts fills a range of its own.
            let out = unsafe {
                std::slice::from_raw_parts_mut(self.memory.frame(frame).add(frame_offset), bytes)
            };
            let errno = self.gather(&job.sources, out, segments).err().unwrap_or(0);
            return self.read_part_done(slot, errno as u32);
        }
        let result = if let [Source::Chunk { id, offset, bytes, .. }] = job.sources[..] {
            let segments = segments.bytes();
            self.open_range(&id, offset, bytes, segments).map(|range| &segments[range])
        } else {
            let out = &mut gathered.bytes()[..bytes];
            self.gather(&job.sources, out, segments).map(|()| &*out)
        };
        match result {
            Ok(data) => {
                self.add(header::BYTES_OUT, data.len());
                self.answer(slot, &[IoSlice::new(data)]);
            }
            Err(errno) => self.answer_errno(slot, errno),
        }
    }

    pub(crate) fn read_part_done(&self, slot: u32, errno: u32) {
        if !self.count_down(slot, errno) {
            return;
        }
        let errno = self.memory.request(slot, request::ERRNO).load(Ordering::Relaxed);
        if errno != 0 {
            return self.answer_errno(slot, errno as i32);
        }
        let frame = self.memory.request(slot, request::FRAME).load(Ordering::Relaxed);
        if frame == NONE {
            // No READ is assembled there: a worker is wrong, and nobody else must pay for it.
            return self.answer_errno(slot, libc::EIO);
        }
        let bytes =
            self.memory.request(slot, request::ANSWER_LENGTH).load(Ordering::Relaxed) as usize;
        // SAFETY: all parts are done, and the request still owns the frame.
        let data =
            unsafe { std::slice::from_raw_parts(self.memory.frame(frame), bytes.min(FRAME_BYTES)) };
        self.add(header::BYTES_OUT, bytes);
        self.answer(slot, &[IoSlice::new(data)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who waits is told when the jobs of before are done, in order, whatever was submitted since.
    #[test]
    fn who_waits_for_jobs_waits_for_those_of_before() {
        let movers = Movers::default();
        let submit = || movers.submit(movers.blank());
        let mut told = Vec::new();
        let who = |token| Quiesce { worker: 0, token };
        movers.quiesce(who(1), |who| told.push(who.token));
        assert_eq!(told, [1], "there was no job");
        submit();
        submit();
        let (first, second) = (movers.next(None, |_| {}), movers.next(None, |_| {}));
        movers.quiesce(who(2), |who| told.push(who.token));
        submit();
        movers.quiesce(who(3), |who| told.push(who.token));
        assert_eq!(told, [1]);
        let third = movers.next(second, |who| told.push(who.token));
        assert_eq!(told, [1], "one of before is not done");
        submit();
        let fourth = movers.next(third, |who| told.push(who.token));
        assert_eq!(told, [1], "the third one does not matter to who came before it");
        submit();
        let fifth = movers.next(first, |who| told.push(who.token));
        assert_eq!(told, [1, 2]);
        movers.quiesce(who(4), |who| told.push(who.token));
        movers.stop();
        assert!(movers.next(fourth, |who| told.push(who.token)).is_none());
        assert_eq!(told, [1, 2], "what came before the second was told is waited for as well");
        assert!(movers.next(fifth, |who| told.push(who.token)).is_none());
        assert_eq!(told, [1, 2, 3, 4]);
    }
}
