//! Engines by number: a number is what JavaScript threads can pass around.
use millrace_core::Engine;
use millrace_fuse::{Bridge, MountPoint};
use millrace_store::JournaledStore;
use napi::bindgen_prelude::Uint8Array;
use napi::{Error, Result, Status};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// A mount that an engine serves.
#[derive(Clone)]
pub(crate) struct Mounted {
    pub(crate) point: Arc<MountPoint>,
}

#[derive(Clone)]
struct Entry {
    engine: Arc<Engine>,
    store: Arc<JournaledStore>,
    mounted: Option<Mounted>,
    bridge: Option<Arc<Bridge>>,
}

static ENGINES: RwLock<Vec<Option<Entry>>> = RwLock::new(Vec::new());

thread_local! {
    /// The views that keep an engine's memory mapped; they belong to the thread that opened it.
    static VIEWS: RefCell<HashMap<u32, Vec<Uint8Array>>> = RefCell::new(HashMap::new());
}

fn gone() -> Error {
    Error::new(Status::GenericFailure, "the engine is closed".to_owned())
}

pub(crate) fn remember(
    engine: Arc<Engine>,
    store: Arc<JournaledStore>,
    views: Vec<Uint8Array>,
) -> u32 {
    let mut engines = ENGINES.write().unwrap_or_else(PoisonError::into_inner);
    engines.push(Some(Entry { engine, store, mounted: None, bridge: None }));
    let id = engines.len() as u32 - 1;
    VIEWS.with_borrow_mut(|all| all.insert(id, views));
    id
}

pub(crate) fn remember_mount(id: u32, mounted: Mounted) {
    let mut engines = ENGINES.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(Some(entry)) = engines.get_mut(id as usize) {
        entry.mounted = Some(mounted);
    }
}

pub(crate) fn remember_bridge(id: u32, bridge: Bridge) {
    let mut engines = ENGINES.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(Some(entry)) = engines.get_mut(id as usize) {
        entry.bridge = Some(Arc::new(bridge));
    }
}

pub(crate) fn bridge(id: u32) -> Result<Arc<Bridge>> {
    let engines = ENGINES.read().unwrap_or_else(PoisonError::into_inner);
    engines
        .get(id as usize)
        .and_then(Option::as_ref)
        .and_then(|e| e.bridge.clone())
        .ok_or_else(gone)
}

pub(crate) fn engine(id: u32) -> Result<Arc<Engine>> {
    let engines = ENGINES.read().unwrap_or_else(PoisonError::into_inner);
    match engines.get(id as usize) {
        Some(Some(entry)) => Ok(entry.engine.clone()),
        _ => Err(gone()),
    }
}

/// The store of an engine, with its journal.
pub(crate) fn journaled(id: u32) -> Result<Arc<JournaledStore>> {
    let engines = ENGINES.read().unwrap_or_else(PoisonError::into_inner);
    match engines.get(id as usize) {
        Some(Some(entry)) => Ok(entry.store.clone()),
        _ => Err(gone()),
    }
}

pub(crate) fn mounted(id: u32) -> Result<Mounted> {
    let engines = ENGINES.read().unwrap_or_else(PoisonError::into_inner);
    engines
        .get(id as usize)
        .and_then(Option::as_ref)
        .and_then(|e| e.mounted.clone())
        .ok_or_else(gone)
}

/// Wait until no native thread uses the engine, wipe its memory, and let go of it.
pub(crate) fn forget(id: u32) -> Result<()> {
    let entry = {
        let mut engines = ENGINES.write().unwrap_or_else(PoisonError::into_inner);
        engines.get_mut(id as usize).and_then(Option::take).ok_or_else(gone)?
    };
    drop(entry.bridge);
    let mut engine = entry.engine;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match Arc::try_unwrap(engine) {
            Ok(last) => {
                // SAFETY: this was the last reference: movers, fronts and workers have left.
                unsafe { last.memory.wipe() };
                // Only now the descriptors are closed to which they answered.
                drop(last);
                break;
            }
            Err(shared) if std::time::Instant::now() > deadline => {
                // A thread hangs in the store: keep the memory mapped for it, and the descriptors open, rather than
                // pull them away.
                std::mem::forget(shared);
                return Err(Error::new(
                    Status::GenericFailure,
                    "a native thread did not end".to_owned(),
                ));
            }
            Err(shared) => {
                engine = shared;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }
    VIEWS.with_borrow_mut(|all| all.remove(&id));
    Ok(())
}
