//! What the threads share, and the few things that they do to it together.
use crate::frames::{FreeList, announce_freed, drop_count, wait_freed};
use crate::futex;
use crate::hosted::Host;
use crate::memory::Memory;
use crate::mover::{Movers, spawn};
use crate::overflow::Overflow;
use crate::reply::ReplySink;
use crate::ring::{Cells, Words};
use crate::worker::{PARKED_EVENT_LOOP, PARKED_NATIVE, Seat};
use millrace_layout::{NONE, REQUEST_SLOTS, RING_FRONT_SLOTS, descriptor, header, kind};
use millrace_store::{ChunkStore, GuardedStore, HandleCache, Sweep, Swept};
use millrace_vault::Vault;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How long no frame has come when those that wait give up what they keep: far longer than a put takes.
const STUCK: Duration = Duration::from_secs(1);

/// How a sleeping tree worker is woken: its event loop cannot wait on a futex.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// What an engine is made of.
pub struct Config {
    /// Shared memory.
    pub memory: Memory,
    /// Keys.
    pub vault: Vault,
    /// Where chunks go.
    pub store: Arc<dyn ChunkStore>,
    /// Threads that hash, seal, store and read.
    pub movers: usize,
    /// Called with a message when something is wrong that an operator should know.
    pub report: Box<dyn Fn(String) + Send + Sync>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("movers", &self.movers).finish_non_exhaustive()
    }
}

/// The data path of one mount.
pub struct Engine {
    /// Shared memory.
    pub memory: Memory,
    /// Keys.
    pub vault: Vault,
    pub(crate) store: GuardedStore,
    pub(crate) handles: HandleCache,
    pub(crate) frames: FreeList,
    pub(crate) requests: FreeList,
    pub(crate) movers: Movers,
    pub(crate) seats: Vec<Mutex<Seat>>,
    overflow: Vec<Overflow>,
    tree_wake: Mutex<Option<Arc<Wake>>>,
    pub(crate) sink: OnceLock<Arc<dyn ReplySink>>,
    pub(crate) host: Host,
    /// What requests name by number alone.
    descriptors: Mutex<Vec<OwnedFd>>,
    report: Box<dyn Fn(String) + Send + Sync>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Start the movers over this memory.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(config: Config) -> std::io::Result<Arc<Self>> {
        let frames = config.memory.frames();
        let workers = config.memory.data_workers() + 1;
        config.memory.header(header::FREE_FRAMES).store(frames as u32, Ordering::Relaxed);
        let engine = Arc::new(Self {
            memory: config.memory,
            vault: config.vault,
            store: GuardedStore::new(config.store),
            handles: HandleCache::new(None),
            frames: FreeList::new(frames),
            requests: FreeList::new(REQUEST_SLOTS),
            movers: Movers::default(),
            seats: (0..workers).map(|_| Mutex::new(Seat::default())).collect(),
            overflow: (0..workers).map(|_| Overflow::default()).collect(),
            tree_wake: Mutex::new(None),
            sink: OnceLock::new(),
            host: Host::default(),
            descriptors: Mutex::default(),
            report: config.report,
        });
        for number in 0..config.movers {
            spawn(&engine, number)?;
        }
        let populated = engine.clone();
        std::thread::Builder::new()
            .name("populate".into())
            .spawn(move || populated.memory.populate(|| !populated.stopping()))?;
        Ok(engine)
    }

    /// Where the chunks are.
    #[must_use]
    pub fn store(&self) -> &GuardedStore {
        &self.store
    }

    /// Delete what the collection that runs does not keep. Whoever reads such a chunk must be done with it.
    pub fn sweep(
        &self,
        written_before: SystemTime,
        dry_run: bool,
        cancelled: &AtomicBool,
    ) -> Result<Swept, i32> {
        // ORDER: a wish; it is enough that it is seen soon.
        let cancelled = || cancelled.load(Ordering::Relaxed) || self.stopping();
        let sweep = Sweep { store: &self.store, written_before, dry_run, cancelled: &cancelled };
        sweep.run(|id| self.handles.forget(id))
    }

    /// Tell the operator.
    pub fn report(&self, message: String) {
        (self.report)(message);
    }

    /// How the tree worker's event loop is woken; `None` when it goes away.
    pub fn set_tree_wake(&self, wake: Option<Wake>) {
        *self.tree_wake.lock().unwrap_or_else(PoisonError::into_inner) = wake.map(Arc::new);
    }

    /// True once every thread has to leave its loop.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.memory.header(header::STOP).load(Ordering::Relaxed) != 0
    }

    /// Make every worker and mover leave its loop. Fronts end when their mount is gone.
    pub fn stop(&self) {
        self.memory.header(header::STOP).store(1, Ordering::SeqCst);
        for worker in 0..self.seats.len() {
            self.wake(worker);
        }
        self.movers.stop();
        self.unhost();
        announce_freed(&self.memory);
    }

    /// A thread died: nothing that needs it can be answered any more. The owner watches the cell.
    pub fn fail(&self, message: String) {
        self.memory.header(header::FAILED).store(1, Ordering::SeqCst);
        self.report(message);
    }

    /// Wake a worker if it sleeps.
    pub fn wake(&self, worker: usize) {
        let ring = self.memory.ring(worker);
        match ring.claim_wake() {
            PARKED_NATIVE => futex::wake(ring.0.parked(), 1),
            PARKED_EVENT_LOOP => {
                let wake = self.tree_wake.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(wake) = wake {
                    wake();
                }
            }
            _ => {}
        }
    }

    /// Queue a descriptor on behalf of a worker or mover, or from a front that must not wait. What does not fit is kept in
    /// order beside the ring. The caller wakes the worker.
    pub fn queue(&self, worker: usize, words: Words) {
        self.overflow[worker].push(&self.memory.ring(worker), &words);
    }

    /// Queue a descriptor and wake its worker.
    pub fn send(&self, worker: usize, words: Words) {
        self.queue(worker, words);
        self.wake(worker);
    }

    /// Move what overflowed into the ring, as far as it fits. Consumer of that ring only.
    pub(crate) fn refill(&self, worker: usize) {
        self.overflow[worker].refill(&self.memory.ring(worker));
    }

    /// Announce that a worker is about to sleep, and how. False: something is queued, do not sleep. Consumer of that ring
    /// only.
    pub(crate) fn park(&self, worker: usize, how: u32) -> bool {
        self.overflow[worker].arm(&self.memory.ring(worker), how)
    }

    // ---- for fronts ----

    /// Queue a descriptor from a front; waits while the worker is far behind. The caller must hold nothing that a
    /// worker wants (invariant 1), and wakes the worker after it has answered the kernel.
    pub fn front_push(&self, worker: usize, words: &Words) {
        // A WRITE whose piece the hosted front kept beside the ring was answered: what follows it stays behind it.
        while !self.overflow[worker].is_empty()
            || !self.memory.ring(worker).push(words, RING_FRONT_SLOTS)
        {
            if self.stopping() {
                return;
            }
            self.wake(worker);
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Keep a descriptor open until the engine is gone; its number. A request names it by that alone, and may be answered
    /// long after its front has left: by then a number that was free would be a chunk's or a journal's.
    pub fn keep_open(&self, descriptor: OwnedFd) -> RawFd {
        let number = descriptor.as_raw_fd();
        self.descriptors.lock().unwrap_or_else(PoisonError::into_inner).push(descriptor);
        number
    }

    /// Why no data may wait for the store: it fails, and nobody is making room in it.
    fn refusal(&self) -> Option<i32> {
        let errno = self.memory.header(header::STORE_ERRNO).load(Ordering::Relaxed) as i32;
        let is_hopeful = errno == libc::ENOSPC
            && self.memory.header(header::MAKING_ROOM).load(Ordering::Relaxed) == 1;
        (errno != 0 && !is_hopeful).then_some(errno)
    }

    /// A free frame with count 1, or `Err(errno)` when the slab is full and the store fails, or the engine stops.
    ///
    /// This is where back-pressure acts: a front that waits here reads no further request.
    pub fn take_frame(&self) -> Result<u32, i32> {
        self.take_frame_or(|| {})
    }

    /// The same; `stuck` is called, again and again, while none comes and nothing is on its way to the store: whoever holds
    /// frames that nobody else can free then gives them back.
    pub fn take_frame_or(&self, mut stuck: impl FnMut()) -> Result<u32, i32> {
        let mut since = None;
        loop {
            let seen = self.memory.header(header::FREED).load(Ordering::SeqCst);
            if let Some(frame) = self.try_take_frame() {
                return Ok(frame);
            }
            if let Some(errno) = self.refusal() {
                return Err(errno);
            }
            if self.stopping() {
                return Err(libc::ENOTCONN);
            }
            let since: &Instant = since.get_or_insert_with(Instant::now);
            let settles = self.memory.header(header::SETTLING).load(Ordering::Relaxed) > 0;
            if since.elapsed() >= STUCK && !settles {
                stuck();
            }
            self.press();
            wait_freed(&self.memory, seen, Duration::from_millis(5));
        }
    }

    /// A free frame with count 1, if there is one now.
    #[must_use]
    pub fn try_take_frame(&self) -> Option<u32> {
        let (frame, left) = self.frames.take()?;
        self.memory.header(header::FREE_FRAMES).store(left as u32, Ordering::Relaxed);
        self.memory.frame_count(frame).store(1, Ordering::Relaxed);
        Some(frame)
    }

    /// Whether a front may take a request in now without having to wait: a frame to land in or to assemble an answer in,
    /// a request slot, and room on every ring. Exact only for the one thread that takes them.
    #[must_use]
    pub fn has_room(&self) -> bool {
        /// Descriptors of one request: two parts, each cut once.
        const PIECES_MAX: usize = 4;
        let frames = self.refusal().is_some() || self.frames.len() > 0;
        self.stopping() || (frames && self.rings_have(PIECES_MAX) && self.requests.len() > 0)
    }

    /// Whether a front may push so many descriptors on any ring now; a hint.
    pub(crate) fn rings_have(&self, descriptors: usize) -> bool {
        (0..self.seats.len()).all(|worker| {
            self.overflow[worker].is_empty()
                && self.memory.ring(worker).queued() + descriptors <= RING_FRONT_SLOTS
        })
    }

    /// Wait until [`Engine::has_room`], pressing the workers for frames meanwhile.
    pub fn await_room(&self) {
        loop {
            let seen = self.memory.header(header::FREED).load(Ordering::SeqCst);
            if self.has_room() {
                return;
            }
            self.press();
            // Rings announce nothing when they drain, hence the short time.
            wait_freed(&self.memory, seen, Duration::from_millis(5));
        }
    }

    /// Ask every worker to settle what it holds back. Cheap to repeat.
    fn press(&self) {
        self.memory.header(header::PRESSURE).store(1, Ordering::Relaxed);
        let mut words = [0; descriptor::WORDS];
        words[descriptor::KIND] = kind::PRESSURE;
        for worker in 0..self.seats.len() {
            if self.memory.ring(worker).queued() == 0 {
                self.memory.ring(worker).push(&words, RING_FRONT_SLOTS);
                self.wake(worker);
            }
        }
    }

    /// Count `more` further owners of a frame before their descriptors are pushed.
    pub fn hold_frame(&self, frame: u32, more: u32) {
        self.memory.frame_count(frame).fetch_add(more, Ordering::Relaxed);
    }

    /// Give one count of a frame back; the last one frees it.
    pub fn free_frame(&self, frame: u32) {
        if !drop_count(self.memory.frame_count(frame)) {
            return;
        }
        let free = self.frames.give(frame);
        self.memory.header(header::FREE_FRAMES).store(free as u32, Ordering::Relaxed);
        if free >= self.memory.frames() / 8 {
            self.memory.header(header::PRESSURE).store(0, Ordering::Relaxed);
        }
        announce_freed(&self.memory);
    }

    /// A free request slot, or `None` when the engine stops. Waits while all are in use.
    pub fn take_request(&self) -> Option<u32> {
        loop {
            let seen = self.memory.header(header::FREED).load(Ordering::SeqCst);
            if let Some(slot) = self.try_take_request() {
                return Some(slot);
            }
            if self.stopping() {
                return None;
            }
            wait_freed(&self.memory, seen, Duration::from_millis(20));
        }
    }

    /// A free request slot, if there is one now.
    #[must_use]
    pub fn try_take_request(&self) -> Option<u32> {
        let (slot, _) = self.requests.take()?;
        self.memory.request(slot, millrace_layout::request::FRAME).store(NONE, Ordering::Relaxed);
        Some(slot)
    }

    /// Frames that are free now.
    #[must_use]
    pub fn free_frames(&self) -> usize {
        self.frames.len()
    }

    /// Request slots that are free now.
    #[must_use]
    pub fn free_requests(&self) -> usize {
        self.requests.len()
    }

    /// Space of the store, for statfs.
    pub fn space(&self) -> Result<millrace_store::Space, i32> {
        self.store.space()
    }

    /// Whether the store's barrier does anything.
    #[must_use]
    pub fn needs_sync(&self) -> bool {
        self.store.needs_sync()
    }

    pub(crate) fn add(&self, counter: usize, bytes: usize) {
        let cell: &AtomicU64 = self.memory.counter(counter);
        cell.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
