//! The facade that TypeScript sees: open, attach, poll, mount. Every function converts and delegates.
//!
//! Only views over `SharedArrayBuffer`s cross the boundary (a bare one is refused by Node-API). The main thread's
//! engine keeps a reference to each view, so that the memory stays mapped while native threads use it.

#![expect(clippy::needless_pass_by_value, reason = "Node-API hands over owned values")]
#![expect(clippy::must_use_candidate, reason = "JavaScript has no such notion")]

pub mod collection;
pub mod digest;
pub mod front;
pub mod journal;
pub mod keys;
pub mod pages;
mod registry;
pub mod upkeep;

use keys::{KeyRingView, read_vault};
use millrace_core::{Config, Engine, Memory, Region, hide_stack};
use millrace_store::{DirectoryStore, JournaledStore};
use napi::bindgen_prelude::{Function, Uint8Array};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Error, Result, Status};
use napi_derive::napi;
use registry::{engine, forget, remember};
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

fn region(view: &Uint8Array) -> Region {
    Region { base: view.as_ptr().cast_mut(), bytes: view.len() }
}

pub(crate) fn failed(message: impl Into<String>) -> Error {
    Error::new(Status::GenericFailure, message.into())
}

/// Keep key material out of core dumps and away from other processes of the same user. Main thread only.
#[napi]
pub fn harden() {
    hide_stack();
    let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain system calls on this process.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
        libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
    }
}

/// Bytes that a view lies before the next multiple of `alignment`: JavaScript cannot see addresses.
#[napi]
pub fn skip(view: Uint8Array, alignment: u32) -> u32 {
    view.as_ptr().align_offset(alignment.next_power_of_two() as usize) as u32
}

/// What an engine is opened with.
#[napi(object)]
pub struct OpenOptions {
    /// View over the control block.
    pub control: Uint8Array,
    /// Views over the slab's shards.
    pub shards: Vec<Uint8Array>,
    /// View over the inline cells.
    pub inline: Uint8Array,
    /// Frames of the slab.
    pub frames: u32,
    /// Data workers.
    pub data_workers: u32,
    /// Threads that hash, seal, store and read.
    pub movers: u32,
    /// File with the key.
    pub key_file: String,
    /// What else is needed of the keys of a store whose key was rotated.
    pub key_ring: Option<KeyRingView>,
    /// Directory of the store.
    pub store: String,
}

/// Open an engine over shared memory. `report` gets messages for the operator. Main thread only.
#[napi]
pub fn open(options: OpenOptions, report: Function<'_, String, ()>) -> Result<u32> {
    let vault = read_vault(&options.key_file, options.key_ring.as_ref())?;
    let store = DirectoryStore::open(&PathBuf::from(&options.store)).map_err(|e| {
        failed(format!("{}: {}", options.store, std::io::Error::from_raw_os_error(e)))
    })?;
    let store = Arc::new(JournaledStore::new(millrace_store::with_faults(Arc::new(store))));
    let shards: Vec<Region> = options.shards.iter().map(region).collect();
    // SAFETY: the views below are kept until `close`, which only forgets them when all threads have left.
    let memory = unsafe {
        Memory::new(
            region(&options.control),
            &shards,
            region(&options.inline),
            options.frames as usize,
            options.data_workers as usize,
        )
    };
    let memory = memory.ok_or_else(|| failed("the shared memory does not fit its layout"))?;
    let report = report.build_threadsafe_function::<String>().weak::<true>().build()?;
    let config = Config {
        memory,
        vault,
        store: store.clone(),
        movers: options.movers as usize,
        report: Box::new(move |message| {
            report.call(message, ThreadsafeFunctionCallMode::NonBlocking);
        }),
    };
    let engine = Engine::start(config).map_err(|e| failed(e.to_string()))?;
    let mut views = options.shards;
    views.push(options.control);
    views.push(options.inline);
    Ok(remember(engine, store, views))
}

/// Make every worker and mover leave its loop.
#[napi]
pub fn stop(id: u32) -> Result<()> {
    engine(id)?.stop();
    Ok(())
}

/// Wipe plaintext and let go of the shared memory. Workers must have left their loops. Main thread only.
#[napi]
pub fn close(id: u32) -> Result<()> {
    forget(id)
}

/// Register a worker's command and out buffers.
#[napi]
pub fn attach(id: u32, worker: u32, commands: Uint8Array, out: Uint8Array) -> Result<()> {
    // SAFETY: the worker keeps both views for as long as it polls.
    let fits = unsafe { engine(id)?.attach(worker as usize, region(&commands), region(&out)) };
    if fits { Ok(()) } else { Err(failed("a worker's buffers do not fit")) }
}

/// Wake the tree worker's event loop by calling `wake`; without a function, never again. Tree worker only.
#[napi]
pub fn set_wake(id: u32, wake: Option<Function<'_, (), ()>>) -> Result<()> {
    let wake = match wake {
        None => None,
        Some(wake) => {
            let wake = wake.build_threadsafe_function::<()>().build()?;
            let call = move || {
                wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
            };
            Some(Box::new(call) as millrace_core::Wake)
        }
    };
    engine(id)?.set_tree_wake(wake);
    Ok(())
}

/// One turn of a worker: see `Engine::poll`.
#[napi]
pub fn poll(id: u32, worker: u32, consumed: u32, words: u32, timeout_micros: u32) -> Result<i32> {
    let timeout = Duration::from_micros(u64::from(timeout_micros));
    Ok(engine(id)?.poll(worker as usize, consumed as usize, words as usize, timeout))
}

/// Announce that a worker goes back to its event loop. False: something arrived meanwhile.
#[napi]
pub fn arm(id: u32, worker: u32) -> Result<bool> {
    Ok(engine(id)?.arm(worker as usize))
}

/// Register the calling thread's scratch memory for `seal`, `unseal` and the hashes: three equal
/// parts for the key, what goes in, and what comes out. Numbers are cheaper to pass than views.
///
/// The thread keeps the view for as long as it calls any of the three.
#[napi]
pub fn set_scratch(view: Uint8Array) {
    SCRATCH.set(Some(Scratch { base: view.as_ptr().cast_mut(), part: view.len() / 3 }));
}

/// Memory that a thread shares with its JavaScript, for arguments and results.
#[derive(Clone, Copy)]
struct Scratch {
    base: *mut u8,
    part: usize,
}

thread_local! {
    static SCRATCH: Cell<Option<Scratch>> = const { Cell::new(None) };
}

/// The scratch memory's key and input, of so many bytes, and its output.
struct Arguments<'a> {
    key: &'a [u8],
    input: &'a [u8],
    out: &'a mut [u8],
}

/// Call `body` with this thread's arguments.
fn with_scratch<T>(key: u32, input: u32, body: impl FnOnce(Arguments<'_>) -> T) -> Result<T> {
    let Scratch { base, part } =
        SCRATCH.get().ok_or_else(|| failed("this thread has no scratch memory"))?;
    let (key, input) = (key as usize, input as usize);
    if key > part || input > part {
        return Err(failed("the value does not fit"));
    }
    // SAFETY: three disjoint parts of the view that the thread keeps (see `set_scratch`);
    // JavaScript runs on the same thread and does not touch it meanwhile; `body` keeps nothing.
    let arguments = unsafe {
        Arguments {
            key: std::slice::from_raw_parts(base, key),
            input: std::slice::from_raw_parts(base.add(part), input),
            out: std::slice::from_raw_parts_mut(base.add(2 * part), part),
        }
    };
    Ok(body(arguments))
}

/// Seal a value of the tree from and to the scratch memory; its bytes.
#[napi]
pub fn seal(id: u32, key_bytes: u32, plain_bytes: u32) -> Result<u32> {
    let engine = engine(id)?;
    with_scratch(key_bytes, plain_bytes, |Arguments { key, input, out }| {
        engine.vault.seal_value_into(key, input, out).map(|n| n as u32)
    })?
    .ok_or_else(|| failed("the value does not fit"))
}

/// Open a sealed value from and to the scratch memory; its bytes, or −1 when it is not authentic.
#[napi]
pub fn unseal(id: u32, key_bytes: u32, sealed_bytes: u32) -> Result<i32> {
    let engine = engine(id)?;
    with_scratch(key_bytes, sealed_bytes, |Arguments { key, input, out }| {
        engine.vault.open_value_into(key, input, out).map_or(-1, |n| n as i32)
    })
}

/// The keyed hash (16 bytes) of a name from and to the scratch memory.
#[napi]
pub fn name_hash(id: u32, ino: f64, name_bytes: u32) -> Result<()> {
    let engine = engine(id)?;
    with_scratch(0, name_bytes, |Arguments { input, out, .. }| {
        let hash = engine.vault.name_hash(ino as u64, input);
        out.get_mut(..hash.len()).map(|out| out.copy_from_slice(&hash))
    })?
    .ok_or_else(|| failed("a name hash needs 16 bytes"))
}

/// The keyed hash (32 bytes) of a part of a tree, from and to the scratch memory.
#[napi]
pub fn tree_hash(id: u32, part_bytes: u32) -> Result<()> {
    let engine = engine(id)?;
    with_scratch(0, part_bytes, |Arguments { input, out, .. }| {
        put_hash(out, &engine.vault.tree_hash(input))
    })?
}

/// The id (32 bytes) of the chunk that holds the scratch memory's input and so many zeros behind it.
#[napi]
pub fn chunk_id(id: u32, plain_bytes: u32, zeros: u32) -> Result<()> {
    let engine = engine(id)?;
    with_scratch(0, plain_bytes, |Arguments { input, out, .. }| {
        let mut hasher = engine.vault.chunk_hasher();
        hasher.update(input);
        hasher.update_zeros(zeros as usize);
        put_hash(out, &hasher.id().0)
    })?
}

fn put_hash(out: &mut [u8], hash: &[u8; 32]) -> Result<()> {
    let out = out.get_mut(..hash.len()).ok_or_else(|| failed("a hash needs 32 bytes"))?;
    out.copy_from_slice(hash);
    Ok(())
}

/// Space of the store in bytes: total, free.
#[napi]
pub fn space(id: u32) -> Result<Vec<f64>> {
    let space = engine(id)?
        .space()
        .map_err(|e| failed(std::io::Error::from_raw_os_error(e).to_string()))?;
    Ok(vec![space.total_bytes as f64, space.free_bytes as f64])
}

/// Whether the store needs a `SYNC_STORE` before a commit.
#[napi]
pub fn needs_sync(id: u32) -> Result<bool> {
    Ok(engine(id)?.needs_sync())
}
