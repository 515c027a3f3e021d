//! An engine over plain memory, with a store in memory, driven by the words that a worker would write.
use millrace_core::{Config, Engine, Memory, Region};
use millrace_layout::{
    COMMAND_WORDS, Control, DESCRIPTOR_BYTES, FRAME_BYTES, INLINE_BYTES, INODE_SLOTS, OUT_BYTES,
    RING_BYTES, RING_HEADER_BYTES, RING_SLOTS, descriptor, header, request,
};
use millrace_store::{ChunkReader, ChunkStore, Listed, Put, Space};
use millrace_vault::{ChunkId, Vault};
use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{IoSlice, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// Frames of the test engine.
pub(crate) const FRAMES: usize = 8;
const DATA_WORKERS: usize = 1;
/// The one data worker.
pub(crate) const WORKER: usize = 1;
const HUGE_BYTES: usize = 2 << 20;
const PATIENCE: Duration = Duration::from_secs(1);

/// Objects in memory; puts and syncs fail with an errno on demand.
#[derive(Default)]
pub(crate) struct MemoryStore {
    objects: Mutex<HashMap<ChunkId, Arc<Vec<u8>>>>,
    /// What puts fail with, or 0.
    pub(crate) put_errno: AtomicI32,
    /// What syncs fail with, or 0.
    pub(crate) sync_errno: AtomicI32,
    /// Puts that were tried.
    pub(crate) puts: AtomicUsize,
}

struct MemoryReader(Arc<Vec<u8>>);

impl ChunkReader for MemoryReader {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), i32> {
        let from = self.0.get(offset as usize..offset as usize + buffer.len()).ok_or(libc::EIO)?;
        buffer.copy_from_slice(from);
        Ok(())
    }
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }
}

fn result(errno: i32) -> Result<(), i32> {
    if errno == 0 { Ok(()) } else { Err(errno) }
}

impl MemoryStore {
    /// A copy of an object.
    pub(crate) fn object(&self, id: &ChunkId) -> Option<Vec<u8>> {
        self.objects.lock().unwrap().get(id).map(|object| object.to_vec())
    }

    /// Change one byte of an object.
    pub(crate) fn damage(&self, id: &ChunkId, at: usize) {
        let mut objects = self.objects.lock().unwrap();
        let mut bytes = objects[id].to_vec();
        bytes[at] ^= 1;
        objects.insert(*id, Arc::new(bytes));
    }
}

impl ChunkStore for MemoryStore {
    fn put(&self, id: &ChunkId, object: &[IoSlice<'_>]) -> Result<Put, i32> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        result(self.put_errno.load(Ordering::SeqCst))?;
        let object = object.iter().flat_map(|piece| piece.iter().copied()).collect();
        let old = self.objects.lock().unwrap().insert(*id, Arc::new(object));
        Ok(Put { present: old.is_some() })
    }
    fn replace(&self, id: &ChunkId, object: &[IoSlice<'_>]) -> Result<(), i32> {
        self.put(id, object).map(|_| ())
    }
    fn has(&self, id: &ChunkId) -> Result<bool, i32> {
        Ok(self.objects.lock().unwrap().contains_key(id))
    }
    fn open(&self, id: &ChunkId) -> Result<Box<dyn ChunkReader>, i32> {
        let object = self.objects.lock().unwrap().get(id).cloned().ok_or(libc::ENOENT)?;
        Ok(Box::new(MemoryReader(object)))
    }
    fn sync(&self) -> Result<(), i32> {
        result(self.sync_errno.load(Ordering::SeqCst))
    }
    fn needs_sync(&self) -> bool {
        true
    }
    fn delete(&self, id: &ChunkId) -> Result<(), i32> {
        self.objects.lock().unwrap().remove(id);
        Ok(())
    }
    fn list(&self, visit: &mut dyn FnMut(Listed) -> bool) -> Result<(), i32> {
        let modified = SystemTime::UNIX_EPOCH;
        let objects = self.objects.lock().unwrap();
        let listed = |id: &ChunkId, bytes| Listed { id: *id, bytes, modified };
        let all: Vec<Listed> =
            objects.iter().map(|(id, object)| listed(id, object.len() as u64)).collect();
        drop(objects);
        let _ = all.into_iter().all(visit);
        Ok(())
    }
    fn space(&self) -> Result<Space, i32> {
        Ok(Space { total_bytes: 1 << 30, free_bytes: 1 << 29 })
    }
}

/// Zeroed memory that stays mapped until the process ends: movers may outlive a test. The page behind it is nobody's.
fn map(bytes: usize) -> Region {
    const PAGE_BYTES: usize = 4096;
    let whole = bytes.next_multiple_of(PAGE_BYTES);
    // SAFETY: a fresh anonymous mapping, whose last page is closed before anybody knows it.
    let base = unsafe {
        let base = libc::mmap(
            std::ptr::null_mut(),
            whole + PAGE_BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        );
        assert_ne!(base, libc::MAP_FAILED);
        assert_eq!(libc::mprotect(base.byte_add(whole), PAGE_BYTES, libc::PROT_NONE), 0);
        base
    };
    Region { base: base.cast(), bytes }
}

/// An engine with two seats: the tree worker's and one data worker's. One thread plays both.
pub(crate) struct Bench {
    pub(crate) engine: Arc<Engine>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) reports: Arc<Mutex<Vec<String>>>,
    control: Region,
    commands: Region,
    out: Region,
    /// Descriptors of the last turn that are not given back, by worker.
    unreleased: [Cell<usize>; DATA_WORKERS + 1],
    heads: [Cell<u32>; DATA_WORKERS + 1],
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with_movers(2)
    }

    /// With so many threads that hash, seal, store and read.
    pub(crate) fn with_movers(movers: usize) -> Self {
        let control = map(Control::new(FRAMES, DATA_WORKERS).bytes);
        let shard = map(FRAMES * FRAME_BYTES + HUGE_BYTES);
        let inline = map(INODE_SLOTS * INLINE_BYTES);
        // SAFETY: fresh mappings that are never unmapped and that only this bench uses.
        let memory = unsafe { Memory::new(control, &[shard], inline, FRAMES, DATA_WORKERS) };
        let store = Arc::new(MemoryStore::default());
        let reports = Arc::new(Mutex::new(Vec::new()));
        let sink = reports.clone();
        let engine = Engine::start(Config {
            memory: memory.unwrap(),
            vault: Vault::from_kek(&[9; 32]),
            store: store.clone(),
            movers,
            report: Box::new(move |message| sink.lock().unwrap().push(message)),
        });
        let engine = engine.unwrap();
        let (commands, out) = (map(COMMAND_WORDS * 4), map(OUT_BYTES));
        for worker in 0..=DATA_WORKERS {
            // SAFETY: mapped for good, and this thread alone polls.
            assert!(unsafe { engine.attach(worker, commands, out) });
        }
        let (unreleased, heads) = (Default::default(), Default::default());
        Self { engine, store, reports, control, commands, out, unreleased, heads }
    }

    /// One turn of a worker with these command words; yields what `poll` says.
    pub(crate) fn turn(&self, worker: usize, words: &[u32], timeout: Duration) -> i32 {
        // SAFETY: the buffer has room for COMMAND_WORDS, and only this thread uses it.
        unsafe {
            let from = words.as_ptr().cast::<u8>();
            std::ptr::copy_nonoverlapping(from, self.commands.base, size_of_val(words));
        }
        let consumed = self.unreleased[worker].replace(0);
        self.heads[worker].set(self.heads[worker].get().wrapping_add(consumed as u32));
        self.engine.poll(worker, consumed, words.len(), timeout)
    }

    /// Commands that must be executed, without waiting for anything.
    pub(crate) fn execute(&self, words: &[u32]) {
        let ready = self.turn(WORKER, words, Duration::ZERO);
        assert!(ready >= 0, "{words:?} made {ready}");
    }

    /// Commands that must be refused.
    pub(crate) fn refuses(&self, words: &[u32]) {
        assert_eq!(self.turn(WORKER, words, Duration::ZERO), -2, "{words:?}");
    }

    /// The next descriptor of a worker, executing `words` first.
    pub(crate) fn receive(&self, worker: usize, words: &[u32]) -> [u32; descriptor::WORDS] {
        let mut ready = self.turn(worker, words, PATIENCE);
        for _ in 0..20 {
            if ready != 0 {
                break;
            }
            ready = self.turn(worker, &[], PATIENCE);
        }
        assert!(ready > 0, "worker {worker} got nothing: {ready}");
        self.unreleased[worker].set(1);
        let slot = self.heads[worker].get() as usize & (RING_SLOTS - 1);
        let rings = Control::new(FRAMES, DATA_WORKERS).rings;
        let at = rings + worker * RING_BYTES + RING_HEADER_BYTES + slot * DESCRIPTOR_BYTES;
        // SAFETY: inside the control block; the descriptor is published, and ours until it is released.
        unsafe { self.control.base.add(at).cast::<[u32; descriptor::WORDS]>().read_unaligned() }
    }

    /// Give descriptors back without a turn: what producers see in the middle of one.
    pub(crate) fn release_only(&self, worker: usize, count: usize) {
        assert_eq!(self.unreleased[worker].get(), 0);
        self.engine.memory.ring(worker).release(count);
        self.heads[worker].set(self.heads[worker].get().wrapping_add(count as u32));
    }

    /// Put bytes into the worker's out buffer.
    pub(crate) fn write_out(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.out.bytes);
        // SAFETY: within the buffer, which only this thread uses between turns.
        unsafe {
            let to = self.out.base.add(offset);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    /// Take a frame and fill it from `offset` on.
    pub(crate) fn frame_with(&self, offset: usize, bytes: &[u8]) -> u32 {
        let frame = self.engine.take_frame().unwrap();
        assert!(offset + bytes.len() <= FRAME_BYTES);
        // SAFETY: within the frame, which this thread has just taken.
        unsafe {
            let to = self.engine.memory.frame(frame).add(offset);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        frame
    }

    /// A copy of a part of a frame that no job is using.
    pub(crate) fn frame_bytes(&self, frame: u32, offset: usize, bytes: usize) -> Vec<u8> {
        assert!(offset + bytes <= FRAME_BYTES);
        // SAFETY: within the frame; nobody writes it now.
        unsafe {
            let from = self.engine.memory.frame(frame).add(offset);
            std::slice::from_raw_parts(from, bytes).to_vec()
        }
    }

    /// The first bytes of an inline cell.
    pub(crate) fn inline_bytes(&self, slot: u32, bytes: usize) -> Vec<u8> {
        assert!(bytes <= INLINE_BYTES);
        // SAFETY: within the cell; nobody writes it now.
        unsafe { std::slice::from_raw_parts(self.engine.memory.inline(slot), bytes).to_vec() }
    }

    /// A request whose answer goes to a pipe of its own.
    pub(crate) fn request(&self, unique: u64) -> Asked {
        let mut fds = [0; 2];
        // SAFETY: fills the array; both descriptors are owned at once.
        let (from, to) = unsafe {
            assert_eq!(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC), 0);
            (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
        };
        let slot = self.engine.take_request().unwrap();
        let memory = &self.engine.memory;
        memory.request(slot, request::FD).store(to.as_raw_fd() as u32, Ordering::Relaxed);
        memory.request64(slot, request::UNIQUE).store(unique, Ordering::Relaxed);
        memory.request(slot, request::ERRNO).store(0, Ordering::Relaxed);
        Asked { slot, unique, from: from.into(), _to: to }
    }

    /// What the store fails with, as fronts see it.
    pub(crate) fn store_errno(&self) -> u32 {
        self.engine.memory.header(header::STORE_ERRNO).load(Ordering::Relaxed)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.engine.stop();
    }
}

/// A request, and the end of the pipe that stands in for /dev/fuse.
pub(crate) struct Asked {
    pub(crate) slot: u32,
    unique: u64,
    from: File,
    _to: OwnedFd,
}

impl Asked {
    /// Waits for the answer: its errno, or its bytes.
    pub(crate) fn answer(mut self) -> Result<Vec<u8>, i32> {
        let mut head = [0; 16];
        self.from.read_exact(&mut head).unwrap();
        let bytes = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
        let error = i32::from_le_bytes(head[4..8].try_into().unwrap());
        assert_eq!(u64::from_le_bytes(head[8..].try_into().unwrap()), self.unique);
        let mut body = vec![0; bytes - head.len()];
        self.from.read_exact(&mut body).unwrap();
        if error == 0 { Ok(body) } else { Err(-error) }
    }
}
