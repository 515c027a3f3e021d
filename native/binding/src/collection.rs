//! Collecting the garbage of a store, mounted or not: marks are collected by one thread, the sweep runs on Node's own pool.
use crate::upkeep::store_failed;
use crate::{engine, failed};
use millrace_layout::CHUNK_ID_BYTES;
use millrace_store::Sweep;
use millrace_vault::ChunkId;
use napi::bindgen_prelude::{AsyncTask, Uint32Array};
use napi::{Env, Result, Task};
use napi_derive::napi;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Words of one id.
const ID_WORDS: usize = CHUNK_ID_BYTES / 4;

/// One collection: from its making on, the store remembers what is put and what is found present, until it ends.
#[napi]
#[derive(Debug)]
pub struct ChunkCollection {
    engine: u32,
    /// Shared with the sweep, which may outlive this object.
    cancelled: Arc<AtomicBool>,
    ended: bool,
}

#[napi]
impl ChunkCollection {
    /// Begins one over the store of an engine; fails while another one runs.
    #[napi(constructor)]
    pub fn new(engine_id: u32) -> Result<Self> {
        if !engine(engine_id)?.store().kept().begin() {
            return Err(failed("garbage is being collected already"));
        }
        Ok(Self { engine: engine_id, cancelled: Arc::default(), ended: false })
    }

    /// Have the sweep leave these chunks alone: eight words each.
    #[napi]
    pub fn keep(&self, words: Uint32Array) -> Result<()> {
        let engine = engine(self.engine)?;
        for id in words.chunks_exact(ID_WORDS) {
            let mut raw = [0; CHUNK_ID_BYTES];
            for (to, word) in raw.chunks_exact_mut(4).zip(id) {
                to.copy_from_slice(&word.to_le_bytes());
            }
            engine.store().kept().keep(&ChunkId(raw));
        }
        Ok(())
    }

    /// Delete what is not kept and older than a grace period.
    #[napi(ts_return_type = "Promise<SweepReport>")]
    pub fn sweep(&self, grace_seconds: f64, dry_run: bool) -> AsyncTask<SweepTask> {
        AsyncTask::new(SweepTask {
            engine: self.engine,
            cancelled: self.cancelled.clone(),
            grace: Duration::try_from_secs_f64(grace_seconds).unwrap_or(Duration::MAX),
            dry_run,
        })
    }

    /// Have the sweep end soon, as a failed one.
    #[napi]
    pub fn cancel(&self) {
        // ORDER: the sweep only has to see it soon.
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// The collection is over; no sweep of it may run. Ending twice does nothing.
    #[napi]
    pub fn end(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.ended, true) {
            engine(self.engine)?.store().kept().end();
        }
        Ok(())
    }
}

/// What a sweep deleted and kept: objects, and their bytes.
#[napi(object)]
#[derive(Debug)]
pub struct SweepReport {
    /// Needed.
    pub used: f64,
    /// Bytes of them.
    pub used_bytes: f64,
    /// Too young.
    pub young: f64,
    /// Bytes of them.
    pub young_bytes: f64,
    /// Deleted.
    pub deleted: f64,
    /// Bytes of them.
    pub deleted_bytes: f64,
}

/// A sweep on its way.
#[derive(Debug)]
pub struct SweepTask {
    engine: u32,
    cancelled: Arc<AtomicBool>,
    grace: Duration,
    dry_run: bool,
}

impl Task for SweepTask {
    type Output = SweepReport;
    type JsValue = SweepReport;

    fn compute(&mut self) -> Result<SweepReport> {
        let swept = engine(self.engine)?
            .sweep(Sweep::before(self.grace), self.dry_run, &self.cancelled)
            .map_err(store_failed)?;
        Ok(SweepReport {
            used: swept.used as f64,
            used_bytes: swept.used_bytes as f64,
            young: swept.young as f64,
            young_bytes: swept.young_bytes as f64,
            deleted: swept.deleted as f64,
            deleted_bytes: swept.deleted_bytes as f64,
        })
    }

    fn resolve(&mut self, _env: Env, report: SweepReport) -> Result<SweepReport> {
        Ok(report)
    }
}
