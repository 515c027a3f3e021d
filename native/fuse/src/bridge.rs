//! The front of a JavaScript thread that serves another FUSE library: requests go in by calls, answers come back on lanes.
//!
//! ```text
//! JavaScript ── submit(lane, request) ──► Front, as if the kernel had written it ──► rings
//!     ▲                                                                                │
//!     └── completed() ◄── `replied` wakes its event loop ◄── lane's destination ◄── a worker, a mover
//! ```
//!
//! A lane carries one request at a time, and its answer is copied once, to where the caller wants it. What a front
//! answers itself (WRITE) is the result of `submit`. Nothing here waits: a request for which there is no room is refused
//! with [`FULL`], and `room` is called once when it may be tried again.
use crate::protocol::opcode::{BATCH_FORGET, FORGET, INTERRUPT, READ, WRITE};
use crate::protocol::{Head, Request};
use crate::serve::Front;
use millrace_core::{Engine, Region, ReplySink, SINK_FD};
use std::io::IoSlice;
use std::os::unix::thread::RawPthread;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The answer comes later. Below every -errno.
pub const PENDING: i32 = -4096;
/// There is no room for the request now; `room` says when to try again.
pub const FULL: i32 = -4097;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    /// In `submit`: an answer that comes now is its result.
    Submitting,
    Waiting,
    Answered(i32),
}

#[derive(Debug)]
struct Lane {
    /// High half of the unique number, so that an answer to a request that was given up finds nobody.
    generation: u32,
    state: State,
    destination: Region,
}

// SAFETY: the destination is valid while the lane waits (contract of `submit`), and it is used under the lane's lock.
unsafe impl Send for Lane {}

impl Lane {
    fn idle() -> Mutex<Self> {
        let nowhere = Region { base: std::ptr::null_mut(), bytes: 0 };
        Mutex::new(Self { generation: 0, state: State::Idle, destination: nowhere })
    }

    /// Copy an answer to its destination: its bytes, or -errno.
    fn take(&self, errno: i32, parts: &[IoSlice<'_>]) -> i32 {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if errno != 0 {
            return -errno;
        }
        if bytes > self.destination.bytes {
            return -libc::EIO;
        }
        let mut at = self.destination.base;
        for part in parts {
            // SAFETY: the parts fit one behind the other, as was just checked.
            unsafe {
                std::ptr::copy_nonoverlapping(part.as_ptr(), at, part.len());
                at = at.add(part.len());
            }
        }
        bytes as i32
    }
}

/// What the lanes share with whoever answers.
struct Lanes {
    cells: Vec<Mutex<Lane>>,
    /// Lanes that were answered since JavaScript looked last, with their results. At most one entry for each lane.
    completed: Mutex<Vec<(u32, i32)>>,
    replied: Box<dyn Fn() + Send + Sync>,
}

impl ReplySink for Lanes {
    fn reply(&self, unique: u64, errno: i32, parts: &[IoSlice<'_>]) {
        let (generation, number) = ((unique >> 32) as u32, unique as u32);
        let Some(cell) = self.cells.get(number as usize) else { return };
        let mut lane = lock(cell);
        if lane.generation != generation {
            return;
        }
        let waits = match lane.state {
            State::Submitting => false,
            State::Waiting => true,
            State::Idle | State::Answered(_) => return,
        };
        let result = lane.take(errno, parts);
        lane.state = if waits { State::Idle } else { State::Answered(result) };
        drop(lane);
        if waits {
            let mut completed = lock(&self.completed);
            completed.push((number, result));
            let first = completed.len() == 1;
            drop(completed);
            if first {
                (self.replied)();
            }
        }
    }
}

/// Whether somebody waits for room, and whether the bridge ends.
#[derive(Default)]
struct Wanted {
    room: bool,
    end: bool,
}

/// One request. Numbers are the kernel's.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// FUSE opcode.
    pub opcode: u32,
    /// Inode.
    pub node: u64,
    /// Caller.
    pub uid: u32,
    /// Caller's group.
    pub gid: u32,
}

/// Whom a bridge calls, on threads of its own or of whoever answers.
pub struct Watchers {
    /// Answers wait in `completed`, where none did before.
    pub replied: Box<dyn Fn() + Send + Sync>,
    /// A request may be tried again after [`FULL`].
    pub room: Box<dyn Fn() + Send>,
}

impl std::fmt::Debug for Watchers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watchers").finish_non_exhaustive()
    }
}

/// A front without a descriptor of its own.
pub struct Bridge {
    engine: Arc<Engine>,
    front: Mutex<Front>,
    lanes: Arc<Lanes>,
    wanted: Arc<(Mutex<Wanted>, Condvar)>,
    usher: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridge").field("lanes", &self.lanes.cells.len()).finish_non_exhaustive()
    }
}

impl Bridge {
    /// A bridge with so many lanes, the one front of its engine.
    ///
    /// # Errors
    /// When the thread that waits for room cannot be started.
    pub fn start(engine: Arc<Engine>, lanes: usize, watchers: Watchers) -> std::io::Result<Self> {
        let lanes = Arc::new(Lanes {
            cells: (0..lanes).map(|_| Lane::idle()).collect(),
            completed: Mutex::new(Vec::with_capacity(lanes)),
            replied: watchers.replied,
        });
        engine.set_sink(lanes.clone());
        let wanted: Arc<(Mutex<Wanted>, Condvar)> = Arc::default();
        let (waits, seen, room) = (engine.clone(), wanted.clone(), watchers.room);
        let usher = std::thread::Builder::new()
            .name("front-room".into())
            .spawn(move || usher(&waits, &seen, room.as_ref()))?;
        let front = Mutex::new(Front::new(engine.clone(), SINK_FD));
        Ok(Self { engine, front, lanes, wanted, usher: Some(usher) })
    }

    /// Queue a request whose body is the two pieces, one behind the other. Yields the bytes of its answer or -errno when
    /// it is answered already, else [`PENDING`] or [`FULL`].
    ///
    /// # Safety
    /// `destination` must stay writable, and be used by nobody else, until the answer was taken or given up.
    pub unsafe fn submit(
        &self,
        number: u32,
        order: Order,
        body: [&[u8]; 2],
        destination: Region,
    ) -> i32 {
        let Some(cell) = self.lanes.cells.get(number as usize) else { return -libc::EINVAL };
        if opcode_moves_content(order.opcode) {
            hide(body[1].as_ptr(), body[1].len());
            hide(destination.base, destination.bytes);
        }
        let mut front = lock(&self.front);
        if !self.engine.has_room() {
            let (wanted, some) = &*self.wanted;
            lock(wanted).room = true;
            some.notify_one();
            return FULL;
        }
        let mut lane = lock(cell);
        if lane.state != State::Idle {
            return -libc::EBUSY;
        }
        lane.generation = lane.generation.wrapping_add(1);
        lane.state = State::Submitting;
        lane.destination = destination;
        let unique = u64::from(lane.generation) << 32 | u64::from(number);
        drop(lane);
        let Order { opcode, node, uid, gid } = order;
        let head = Head::new(&Request { opcode, unique, node, uid, gid });
        let submitted = front.submit(head, body);
        drop(front);
        let mut lane = lock(cell);
        let answered = match (lane.state, submitted) {
            (State::Answered(result), _) => result,
            // Nobody waits for these.
            (_, Ok(())) if matches!(opcode, FORGET | BATCH_FORGET | INTERRUPT) => 0,
            (_, Err(errno)) => -errno,
            (_, Ok(())) => {
                lane.state = State::Waiting;
                return PENDING;
            }
        };
        lane.state = State::Idle;
        answered
    }

    /// Hand every lane that was answered since the last call, with its result, to `each`.
    pub fn completed(&self, mut each: impl FnMut(u32, i32)) {
        for (lane, result) in lock(&self.lanes.completed).drain(..) {
            each(lane, result);
        }
    }

    /// Give every request up: no destination is written any more, and what was not taken yet is forgotten.
    pub fn abandon(&self) {
        for cell in &self.lanes.cells {
            let mut lane = lock(cell);
            lane.generation = lane.generation.wrapping_add(1);
            lane.state = State::Idle;
        }
        lock(&self.lanes.completed).clear();
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let (wanted, some) = &*self.wanted;
        lock(wanted).end = true;
        some.notify_one();
        if let Some(usher) = self.usher.take() {
            let _ = usher.join();
        }
    }
}

fn opcode_moves_content(opcode: u32) -> bool {
    matches!(opcode, READ | WRITE)
}

/// Leave the pages of a library's buffer out of core dumps (invariant 2). Best effort: what is beside it goes with it.
fn hide(base: *const u8, bytes: usize) {
    const PAGE_BYTES: usize = 4096;
    if bytes == 0 {
        return;
    }
    let before = base.addr() % PAGE_BYTES;
    let length = (before + bytes).next_multiple_of(PAGE_BYTES);
    // SAFETY: pages that hold the buffer; the advice changes nothing that is in them.
    unsafe {
        libc::madvise(base.wrapping_sub(before).cast_mut().cast(), length, libc::MADV_DONTDUMP)
    };
}

/// Wait for room on behalf of a thread that must not wait.
fn usher(engine: &Engine, wanted: &(Mutex<Wanted>, Condvar), room: &(dyn Fn() + Send)) {
    let (state, some) = wanted;
    loop {
        let mut now = lock(state);
        while !now.room && !now.end {
            now = some.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
        if now.end {
            return;
        }
        now.room = false;
        drop(now);
        engine.await_room();
        room();
    }
}

/// Call `ended` when a thread that a library of another language started has left.
///
/// # Safety
/// `thread` must be joinable, and nobody else may join or detach it.
///
/// # Errors
/// When no thread can be started.
pub unsafe fn when_left(
    thread: RawPthread,
    ended: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    std::thread::Builder::new().name("front-end".into()).spawn(move || {
        // SAFETY: the caller's promise.
        unsafe { libc::pthread_join(thread, std::ptr::null_mut()) };
        ended();
    })?;
    Ok(())
}
