//! One front thread: read, cut, queue, answer.
use crate::device::{self, Target};
use crate::landing::{Landed, Landing};
use crate::protocol::{
    BATCH_FORGET_BYTES, FORGET_ONE_BYTES, HEAD_BYTES, Head, IN_HEADER_BYTES, TRANSFER_BYTES,
    WRITE_KILL_SUIDGID, handle, opcode,
};
use crate::reserve::Reserve;
use millrace_core::{Engine, KillPoint, Life, Words, hide_stack, pass};
use millrace_layout::{
    FRAME_BYTES, INODE_SLOTS, NONE, REGION_BYTES, REQUEST_BODY_BYTES, TREE_WORKER, descriptor,
    header, inode, kind, privilege, request,
};
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

/// Largest file offset: what a double holds exactly.
const OFFSET_MAX: u64 = 1 << 53;

/// Queues requests, whoever read them.
pub(crate) struct Front {
    engine: Arc<Engine>,
    /// Where answers go.
    fd: i32,
    pub(crate) head: Head,
    landing: Landing,
    /// Only of a front that must not wait.
    reserve: Option<Reserve>,
    /// Why there is no frame for the next payload, if there is none.
    starved: Option<i32>,
    /// Workers to wake after the kernel has been answered, as bits.
    wakes: u32,
}

/// Serve one descriptor of the connection until the mount is gone.
///
/// # Errors
/// When the device fails in a way that no unmount explains.
pub(crate) fn serve(engine: &Arc<Engine>, fd: i32) -> std::io::Result<()> {
    hide_stack();
    let mut front = Front::new(engine.clone(), fd);
    let mut life = Life::of("front");
    loop {
        engine.await_reading();
        let Ok(targets) = front.targets() else {
            return Ok(());
        };
        // SAFETY: the landing's frames belong to this thread alone.
        let Some(bytes) = (unsafe { device::read(fd, &mut front.head, targets)? }) else {
            return Ok(());
        };
        life.spend();
        front.accept(bytes);
    }
}

impl Front {
    pub(crate) fn new(engine: Arc<Engine>, fd: i32) -> Self {
        let landing = Landing::new(engine.clone());
        let head = Head([0; HEAD_BYTES]);
        Self { engine, fd, head, landing, reserve: None, starved: None, wakes: 0 }
    }

    /// A front that never waits: it reads only when [`Front::ready`] says so, and queues also beside rings that are full.
    pub(crate) fn hosted(engine: Arc<Engine>, fd: i32) -> Self {
        let reserve = Some(Reserve::new(engine.clone()));
        Self { reserve, ..Self::new(engine, fd) }
    }

    /// Where the next request may land, once there is all that it can need. `None`: there is not, and nothing is kept.
    pub(crate) fn ready(&mut self) -> Option<[Target; 2]> {
        self.starved = None;
        if self.landing.try_prepare() && self.reserve.as_mut().is_some_and(Reserve::fill) {
            return Some(self.landing.targets());
        }
        self.rest();
        None
    }

    /// Give back what is kept for the next request.
    pub(crate) fn rest(&mut self) {
        self.landing.give_back();
        if let Some(reserve) = &mut self.reserve {
            reserve.give_back();
        }
    }

    /// Where the next request may land; waits for a frame. An error: the engine stops.
    pub(crate) fn targets(&mut self) -> Result<[Target; 2], ()> {
        self.starved = self.landing.prepare().err();
        if self.starved == Some(libc::ENOTCONN) { Err(()) } else { Ok(self.landing.targets()) }
    }

    /// Take in the request of so many bytes that was read into the head and the targets.
    pub(crate) fn accept(&mut self, bytes: usize) {
        if bytes < IN_HEADER_BYTES || bytes != self.head.length() {
            return; // Not a request; the kernel never does this.
        }
        self.dispatch(bytes - IN_HEADER_BYTES);
        self.wake_workers();
    }

    /// Take in a request that somebody else read: `body` behind `head`, in two pieces. Waits where the kernel's front
    /// would (see [`Engine::has_room`]). An errno: nothing was queued, and no answer comes.
    pub(crate) fn submit(&mut self, head: Head, body: [&[u8]; 2]) -> Result<(), i32> {
        self.targets().map_err(|()| libc::ENOTCONN)?;
        self.head = head;
        self.landing.fill(self.head.fill(body));
        self.dispatch(body[0].len() + body[1].len());
        self.wake_workers();
        Ok(())
    }

    fn wake_workers(&mut self) {
        let mut wakes = std::mem::take(&mut self.wakes);
        while wakes != 0 {
            self.engine.wake(wakes.trailing_zeros() as usize);
            wakes &= wakes - 1;
        }
    }

    fn answer(&self, errno: i32, parts: &[IoSlice<'_>]) {
        self.engine.reply(self.fd, self.head.unique(), errno, parts);
    }

    fn dispatch(&mut self, body: usize) {
        let requests = self.engine.memory.counter(header::REQUESTS);
        requests.fetch_add(1, Ordering::Relaxed);
        let result = match self.head.opcode() {
            // None of these wants an answer.
            opcode::INTERRUPT => Ok(()),
            opcode::FORGET | opcode::BATCH_FORGET => {
                self.forget(body);
                Ok(())
            }
            opcode::READ | opcode::WRITE | opcode::FLUSH | opcode::FSYNC | opcode::LSEEK
                if body >= 16 && handle::is_virtual(self.head.handle()) =>
            {
                // What is written to a virtual file does not matter.
                self.request(body.min(TRANSFER_BYTES))
            }
            opcode::WRITE if body < TRANSFER_BYTES => Err(libc::EIO),
            opcode::WRITE => match self.starved {
                Some(errno) => Err(errno),
                None => self.write(body - TRANSFER_BYTES),
            },
            opcode::READ if body >= TRANSFER_BYTES => self.read(),
            opcode::FLUSH | opcode::FSYNC if body >= 16 => self.sync(),
            opcode::LSEEK if (16..=TRANSFER_BYTES).contains(&body) => self.sync(),
            opcode::DESTROY => {
                self.answer(0, &[]);
                Ok(())
            }
            _ => self.request(body),
        };
        if let Err(errno) = result {
            self.answer(errno, &[]);
        }
    }

    /// The inode slot of the request's file handle.
    fn slot(&self) -> Result<u32, i32> {
        let slot = handle::slot(self.head.handle());
        if slot >= INODE_SLOTS {
            return Err(libc::EBADF);
        }
        // ORDER: the slot was filled before the answer to OPEN that made this handle.
        let ino = self.engine.memory.inode64(slot as u32, inode::INO).load(Ordering::Relaxed);
        // A free slot has inode 0, which is nobody's.
        if self.head.node() != 0 && f64::from_bits(ino) as u64 == self.head.node() {
            Ok(slot as u32)
        } else {
            Err(libc::EBADF)
        }
    }

    fn push(&mut self, worker: usize, words: &Words) {
        if self.reserve.is_some() {
            // The tree worker's own thread: nobody else would make room on its ring.
            self.engine.queue(worker, *words);
        } else {
            self.engine.front_push(worker, words);
        }
        self.wakes |= 1 << worker;
    }

    /// Which worker owns this region of an inode. Neighbours differ, so that one file keeps all data workers busy;
    /// the first region is the tree worker's, so that a small file is made, written and closed by one thread.
    fn owner(&self, slot: u32, offset: u64) -> usize {
        let region = offset / REGION_BYTES as u64;
        if region == 0 {
            return TREE_WORKER;
        }
        1 + ((u64::from(slot) + region) % self.engine.memory.data_workers() as u64) as usize
    }

    fn write(&mut self, payload: usize) -> Result<(), i32> {
        let (offset, size) = (self.head.offset(), self.head.size());
        let slot = self.slot()?;
        if size != payload || size > FRAME_BYTES {
            return Err(libc::EIO);
        }
        if offset.checked_add(size as u64).is_none_or(|end| end > OFFSET_MAX) {
            return Err(libc::EFBIG);
        }
        if size == 0 {
            self.written(0);
            return Ok(());
        }
        let (parts, count) = self.landing.accept(size).ok_or(libc::EIO)?;
        let end = (offset + size as u64) as f64;
        let memory = &self.engine.memory;
        // The bits of non-negative doubles order like the numbers.
        memory.inode64(slot, inode::SIZE).fetch_max(end.to_bits(), Ordering::AcqRel);
        memory.inode64(slot, inode::MTIME).store(now(), Ordering::Relaxed);
        memory.inode64(slot, inode::WRITTEN).fetch_add(size as u64, Ordering::Relaxed);
        memory.inode(slot, inode::WRITES).fetch_add(1, Ordering::AcqRel);
        memory.counter(header::BYTES_IN).fetch_add(size as u64, Ordering::Relaxed);
        // ORDER: partner is the tree worker, which stores them before it answers a SETATTR, SETXATTR or OPEN.
        let privileges = memory.inode(slot, inode::PRIVILEGES).load(Ordering::Acquire);
        if privileges != 0 {
            self.strip(slot, privileges);
        }
        let mut at = offset;
        for part in &parts[..count] {
            self.push_pieces(slot, at, *part);
            at += part.bytes as u64;
        }
        self.written(size);
        Ok(())
    }

    /// Cut a part at region borders and queue its pieces. The part's one count of the frame goes with the first.
    fn push_pieces(&mut self, slot: u32, offset: u64, part: Landed) {
        let region = REGION_BYTES as u64;
        let first = (region - offset % region).min(part.bytes as u64) as usize;
        if first < part.bytes {
            self.engine.hold_frame(part.frame, 1);
        }
        self.push_piece(slot, offset, Landed { bytes: first, ..part });
        if first < part.bytes {
            let rest = Landed { offset: part.offset + first, bytes: part.bytes - first, ..part };
            self.push_piece(slot, offset + first as u64, rest);
        }
    }

    fn push_piece(&mut self, slot: u32, offset: u64, part: Landed) {
        let worker = self.owner(slot, offset);
        // ORDER: before the answer to this WRITE, so that an FSYNC that follows it sees the bit.
        let touched = self.engine.memory.inode(slot, inode::TOUCHED);
        touched.fetch_or(1 << worker, Ordering::AcqRel);
        let mut words = piece(kind::PIECE, slot, offset, part.bytes);
        words[descriptor::A] = part.frame;
        words[descriptor::B] = part.offset as u32;
        self.push(worker, &words);
    }

    /// Tell the tree worker what the kernel holds no longer. Inodes live in the tree, so this matters for those without a name only.
    fn forget(&mut self, body: usize) {
        // ORDER: the tree worker counts an orphan before the answer that makes the kernel forget it.
        if self.engine.memory.header(header::ORPHANS).load(Ordering::Acquire) == 0 {
            return;
        }
        if self.head.opcode() == opcode::FORGET {
            self.push(TREE_WORKER, &piece(kind::FORGET, NONE, self.head.node(), 0));
            return;
        }
        let near = body.min(TRANSFER_BYTES);
        let mut all = vec![0; body];
        all[..near].copy_from_slice(&self.head.0[IN_HEADER_BYTES..][..near]);
        self.landing.copy(body - near, &mut all[near..]);
        for one in all.get(BATCH_FORGET_BYTES..).unwrap_or_default().chunks_exact(FORGET_ONE_BYTES)
        {
            let node = one.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            self.push(TREE_WORKER, &piece(kind::FORGET, NONE, node, 0));
        }
    }

    /// Have the tree worker take off what this WRITE takes: before it is answered, so that whoever asks then sees it.
    fn strip(&mut self, slot: u32, privileges: u32) {
        let killed = if self.head.write_flags() & WRITE_KILL_SUIDGID == 0 {
            privilege::CAPABILITY
        } else {
            privilege::CAPABILITY | privilege::SET_ID
        };
        if privileges & killed == 0 {
            return;
        }
        let cell = self.engine.memory.inode(slot, inode::PRIVILEGES);
        let mut words = piece(kind::STRIP, slot, 0, 0);
        words[descriptor::A] = cell.fetch_and(!killed, Ordering::AcqRel) & killed;
        self.push(TREE_WORKER, &words);
    }

    /// Answer a WRITE: `struct fuse_write_out`.
    fn written(&self, size: usize) {
        let mut out = [0; 8];
        out[..4].copy_from_slice(&(size as u32).to_le_bytes());
        pass(KillPoint::WriteAnswer);
        self.answer(0, &[IoSlice::new(&out)]);
        pass(KillPoint::WriteAnswered);
    }

    fn read(&mut self) -> Result<(), i32> {
        let slot = self.slot()?;
        let offset = self.head.offset();
        // ORDER: partner is the fetch_max of a WRITE, and the store of a truncation by the tree worker.
        let size =
            f64::from_bits(self.engine.memory.inode64(slot, inode::SIZE).load(Ordering::Acquire))
                as u64;
        let bytes =
            size.saturating_sub(offset).min(self.head.size().min(FRAME_BYTES) as u64) as usize;
        if bytes == 0 {
            self.answer(0, &[]);
            return Ok(());
        }
        let first = (REGION_BYTES - (offset % REGION_BYTES as u64) as usize).min(bytes);
        let frame = if first < bytes { self.take_frame()? } else { NONE };
        let request = self.open_request(if first < bytes { 2 } else { 1 }).ok_or(libc::ENOTCONN)?;
        let memory = &self.engine.memory;
        memory.request(request, request::FRAME).store(frame, Ordering::Relaxed);
        memory.request(request, request::ANSWER_LENGTH).store(bytes as u32, Ordering::Relaxed);
        let mut words = piece(kind::READ, slot, offset, first);
        words[descriptor::A] = request;
        words[descriptor::PAYLOAD] = frame;
        self.push(self.owner(slot, offset), &words);
        if first < bytes {
            let offset = offset + first as u64;
            let mut words = piece(kind::READ, slot, offset, bytes - first);
            words[descriptor::A] = request;
            words[descriptor::PAYLOAD] = frame;
            words[descriptor::PAYLOAD + 1] = first as u32;
            self.push(self.owner(slot, offset), &words);
        }
        Ok(())
    }

    /// FLUSH, FSYNC and LSEEK: every worker that holds data of the inode makes it durable, then the tree worker commits; it
    /// knows where the holes are only then.
    fn sync(&mut self) -> Result<(), i32> {
        let slot = self.slot()?;
        // ORDER: partner is `push_piece`.
        let mut touched = self.engine.memory.inode(slot, inode::TOUCHED).load(Ordering::Acquire);
        let flush = self.head.opcode() == opcode::FLUSH;
        if flush && self.head.handle() & handle::WRITE == 0 {
            self.answer(0, &[]);
            return Ok(());
        }
        let request = self.open_request(touched.count_ones().max(1)).ok_or(libc::ENOTCONN)?;
        if self.head.opcode() == opcode::LSEEK {
            self.keep_body(request);
        }
        let mut words = piece(if touched == 0 { kind::COMMIT } else { kind::SYNC }, slot, 0, 0);
        words[descriptor::A] = request;
        words[descriptor::B] = touched.count_ones();
        if touched == 0 {
            self.push(TREE_WORKER, &words);
        }
        while touched != 0 {
            self.push(touched.trailing_zeros() as usize, &words);
            touched &= touched - 1;
        }
        Ok(())
    }

    /// Leave a short body where the tree worker looks for it.
    fn keep_body(&self, request: u32) {
        let memory = &self.engine.memory;
        let body = self.head.length() - IN_HEADER_BYTES;
        // SAFETY: the request slot is ours until its descriptor is pushed.
        let slot_body =
            unsafe { std::slice::from_raw_parts_mut(memory.body(request), REQUEST_BODY_BYTES) };
        let near = body.min(TRANSFER_BYTES);
        slot_body[..near].copy_from_slice(&self.head.0[IN_HEADER_BYTES..][..near]);
        memory.request(request, request::BODY_LENGTH).store(near as u32, Ordering::Relaxed);
    }

    /// Everything else is the tree worker's. Whoever asks in more than a frame is no kernel: the longest is a WRITE.
    fn request(&mut self, body: usize) -> Result<(), i32> {
        if body > FRAME_BYTES {
            return Err(libc::EINVAL);
        }
        let request = self.open_request(1).ok_or(libc::ENOTCONN)?;
        let memory = &self.engine.memory;
        let near = body.min(TRANSFER_BYTES);
        // SAFETY: the request slot is ours until its descriptor is pushed.
        let slot_body =
            unsafe { std::slice::from_raw_parts_mut(memory.body(request), REQUEST_BODY_BYTES) };
        slot_body[..near].copy_from_slice(&self.head.0[IN_HEADER_BYTES..][..near]);
        let far = body - near;
        let fits = far.min(REQUEST_BODY_BYTES - near);
        self.landing.copy(fits, &mut slot_body[near..]);
        if far > fits {
            // A long xattr or link target: rare, so a copy through a frame of its own is fine.
            let mut all = vec![0; far];
            self.landing.copy(far, &mut all);
            let frame = match self.take_frame() {
                Ok(frame) => frame,
                Err(errno) => {
                    self.engine.drop_request(request);
                    return Err(errno);
                }
            };
            let memory = &self.engine.memory;
            // SAFETY: the frame was just taken, and a request is at most a frame long.
            let to = unsafe { std::slice::from_raw_parts_mut(memory.frame(frame), FRAME_BYTES) };
            to[..far - fits].copy_from_slice(&all[fits..]);
            memory.request(request, request::FRAME).store(frame, Ordering::Relaxed);
            memory.request(request, request::FRAME_OFFSET).store(0, Ordering::Relaxed);
        }
        let length = self.engine.memory.request(request, request::BODY_LENGTH);
        length.store(body as u32, Ordering::Relaxed);
        let mut words = piece(kind::REQUEST, NONE, 0, 0);
        words[descriptor::A] = request;
        self.push(TREE_WORKER, &words);
        Ok(())
    }

    /// A frame for a request of which nothing is left in the landing: the one that lies ready for the next payload. So a front
    /// that waits for a frame has none but a pack, and this waits only where there was none because the store failed.
    fn take_frame(&mut self) -> Result<u32, i32> {
        match self.landing.take_fresh() {
            Some(frame) => Ok(frame),
            None => self.engine.take_frame(),
        }
    }

    /// Take a request slot, one for a request, and fill in who asked for what.
    fn open_request(&mut self, parts: u32) -> Option<u32> {
        let slot = match &mut self.reserve {
            Some(reserve) => reserve.take()?,
            None => self.engine.take_request()?,
        };
        let memory = &self.engine.memory;
        memory.request64(slot, request::UNIQUE).store(self.head.unique(), Ordering::Relaxed);
        memory
            .request64(slot, request::NODE)
            .store((self.head.node() as f64).to_bits(), Ordering::Relaxed);
        for (cell, value) in [
            (request::FD, self.fd as u32),
            (request::PENDING, parts),
            (request::ERRNO, 0),
            (request::OPCODE, self.head.opcode()),
            (request::UID, self.head.uid()),
            (request::GID, self.head.gid()),
            (request::PID, self.head.pid()),
        ] {
            memory.request(slot, cell).store(value, Ordering::Relaxed);
        }
        Some(slot)
    }
}

fn piece(kind: u32, slot: u32, offset: u64, bytes: usize) -> Words {
    let mut words = [0; descriptor::WORDS];
    let bits = (offset as f64).to_bits();
    words[descriptor::KIND] = kind;
    words[descriptor::INODE] = slot;
    words[descriptor::OFFSET] = bits as u32;
    words[descriptor::OFFSET + 1] = (bits >> 32) as u32;
    words[descriptor::LENGTH] = bytes as u32;
    words
}

/// Now, as the inode slot keeps times: seconds << 30 | nanoseconds. Whole milliseconds, as the tree's own clock: a change of
/// the attributes right after a WRITE must not seem to come before it.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs() << 30 | u64::from(now.subsec_millis() * 1_000_000)
}
