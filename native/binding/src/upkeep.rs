//! Checking the chunks of a store, or sealing them anew, on threads of Node's own pool.
use crate::{engine, failed};
use millrace_layout::CHUNK_ID_BYTES;
use millrace_store::{
    Census, EpochChunks, Flaw, Progress, Reference, References, Reseal, Scrub, Unopened,
    UnopenedChunk, WalkProgress,
};
use millrace_vault::ChunkId;
use napi::bindgen_prelude::{AsyncTask, Uint32Array};
use napi::{Env, Result, Task};
use napi_derive::napi;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Words of one reference: the chunk's id, then the bytes of its plaintext.
const REFERENCE_WORDS: usize = CHUNK_ID_BYTES / 4 + 1;

/// The chunks that a tree refers to: collected first, then held against the store.
#[napi]
#[derive(Debug)]
pub struct ChunkReferences {
    engine: u32,
    collected: References,
    sealed: Arc<Vec<Reference>>,
    progress: Arc<Progress>,
}

#[napi]
impl ChunkReferences {
    /// None yet, for the store of an engine.
    #[napi(constructor)]
    pub fn new(engine: u32) -> Self {
        Self {
            engine,
            collected: References::default(),
            sealed: Arc::default(),
            progress: Arc::default(),
        }
    }

    /// Add references of nine words each, see `REFERENCE_WORDS`.
    #[napi]
    pub fn add(&mut self, words: Uint32Array) {
        for reference in words.chunks_exact(REFERENCE_WORDS) {
            let (id, length) = reference.split_at(REFERENCE_WORDS - 1);
            let mut raw = [0; CHUNK_ID_BYTES];
            for (to, word) in raw.chunks_exact_mut(4).zip(id) {
                to.copy_from_slice(&word.to_le_bytes());
            }
            self.collected.add(Reference { id: ChunkId(raw), plain_bytes: length[0] });
        }
    }

    /// No more will be added; how many different ones there are.
    #[napi]
    pub fn seal(&mut self) -> f64 {
        self.sealed = Arc::new(std::mem::take(&mut self.collected).seal());
        self.sealed.len() as f64
    }

    /// Chunks that a scrub has looked at so far, and bytes that it has opened.
    #[napi]
    pub fn progress(&self) -> Vec<f64> {
        // ORDER: numbers for people.
        let read = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed) as f64;
        vec![read(&self.progress.done), read(&self.progress.bytes)]
    }

    /// Look for what is referred to; with threads above 0 open all of it on that many.
    #[napi(ts_return_type = "Promise<ScrubReport>")]
    pub fn scrub(&self, threads: u32) -> AsyncTask<ScrubTask> {
        AsyncTask::new(ScrubTask {
            engine: self.engine,
            references: self.sealed.clone(),
            progress: self.progress.clone(),
            threads,
        })
    }
}

/// A chunk that cannot be used.
#[napi(object)]
#[derive(Debug)]
pub struct ChunkFlaw {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Bytes of plaintext that whoever refers to it expects.
    pub plain_bytes: u32,
    /// `missing`, `length`, `unreadable`, `damaged`, `epoch` or `other-content`.
    pub flaw: String,
    /// Why it is unreadable, or its epoch, for people; else empty.
    pub reason: String,
}

/// What a scrub found.
#[napi(object)]
#[derive(Debug)]
pub struct ScrubReport {
    /// Objects that are referred to.
    pub used: f64,
    /// Their bytes.
    pub used_bytes: f64,
    /// Objects that nothing refers to.
    pub unused: f64,
    /// Their bytes.
    pub unused_bytes: f64,
    /// References that lead to no usable chunk.
    pub damaged: f64,
    /// The first of them.
    pub named: Vec<ChunkFlaw>,
}

pub(crate) fn store_failed(errno: i32) -> napi::Error {
    failed(std::io::Error::from_raw_os_error(errno).to_string())
}

/// A flaw's name, and why it is, for people.
fn words(flaw: Flaw) -> (String, String) {
    let (name, reason) = match flaw {
        Flaw::Missing => ("missing", String::new()),
        Flaw::Length => ("length", String::new()),
        Flaw::Damaged => ("damaged", String::new()),
        Flaw::Epoch(epoch) => ("epoch", format!("epoch {epoch}")),
        Flaw::OtherContent => ("other-content", String::new()),
        Flaw::Unreadable(errno) => {
            ("unreadable", std::io::Error::from_raw_os_error(errno).to_string())
        }
    };
    (name.into(), reason)
}

/// A scrub on its way.
#[derive(Debug)]
pub struct ScrubTask {
    engine: u32,
    references: Arc<Vec<Reference>>,
    progress: Arc<Progress>,
    threads: u32,
}

impl Task for ScrubTask {
    type Output = ScrubReport;
    type JsValue = ScrubReport;

    fn compute(&mut self) -> Result<ScrubReport> {
        let engine = engine(self.engine)?;
        let scrub = Scrub {
            vault: &engine.vault,
            store: engine.store(),
            references: &self.references,
            progress: &self.progress,
        };
        let found = scrub.run(self.threads as usize).map_err(store_failed)?;
        let named = found.named.iter().map(|chunk| {
            let Reference { id, plain_bytes } = chunk.reference;
            let (flaw, reason) = words(chunk.flaw);
            ChunkFlaw { id: id.hex(), plain_bytes, flaw, reason }
        });
        Ok(ScrubReport {
            used: found.used as f64,
            used_bytes: found.used_bytes as f64,
            unused: found.unused as f64,
            unused_bytes: found.unused_bytes as f64,
            damaged: found.damaged as f64,
            named: named.collect(),
        })
    }

    fn resolve(&mut self, _env: Env, report: ScrubReport) -> Result<ScrubReport> {
        Ok(report)
    }
}

/// How far a walk through all chunks is: chunks of the store, chunks that were looked at so far, and bytes.
fn walked(progress: &WalkProgress) -> Vec<f64> {
    // ORDER: numbers for people.
    [&progress.total, &progress.done, &progress.bytes]
        .map(|number| number.load(Ordering::Relaxed) as f64)
        .to_vec()
}

fn flaws(unopened: &Unopened) -> Vec<ChunkFlaw> {
    let flaw_of = |chunk: &UnopenedChunk| {
        let (flaw, reason) = words(chunk.flaw);
        ChunkFlaw { id: chunk.id.hex(), plain_bytes: 0, flaw, reason }
    };
    unopened.named.iter().map(flaw_of).collect()
}

/// All chunks of an engine's store: to be counted, or sealed under the key of the current epoch.
#[napi]
#[derive(Debug)]
pub struct AllChunks {
    engine: u32,
    progress: Arc<WalkProgress>,
}

#[napi]
impl AllChunks {
    /// Nothing is done yet.
    #[napi(constructor)]
    pub fn new(engine: u32) -> Self {
        Self { engine, progress: Arc::default() }
    }

    /// Chunks of the store, chunks that were looked at so far, and bytes that were worked on.
    #[napi]
    pub fn progress(&self) -> Vec<f64> {
        walked(&self.progress)
    }

    /// Seal what earlier keys have sealed anew, on so many threads.
    #[napi(ts_return_type = "Promise<ResealReport>")]
    pub fn reseal(&self, threads: u32) -> AsyncTask<ResealTask> {
        AsyncTask::new(ResealTask { engine: self.engine, progress: self.progress.clone(), threads })
    }

    /// Authenticate the head of each under the key of its epoch, or, deep, all of it.
    #[napi(ts_return_type = "Promise<CensusReport>")]
    pub fn census(&self, threads: u32, deep: bool) -> AsyncTask<CensusTask> {
        let progress = self.progress.clone();
        AsyncTask::new(CensusTask { engine: self.engine, progress, threads, deep })
    }
}

/// What was sealed anew.
#[napi(object)]
#[derive(Debug)]
pub struct ResealReport {
    /// Chunks that were sealed anew.
    pub resealed: f64,
    /// Bytes of their plaintext.
    pub resealed_bytes: f64,
    /// Chunks that were of the current epoch already.
    pub current: f64,
    /// Chunks that could not be opened, and stay as they are.
    pub unopened: f64,
    /// The first of them; nobody knows how long they should be.
    pub named: Vec<ChunkFlaw>,
}

/// A reseal on its way.
#[derive(Debug)]
pub struct ResealTask {
    engine: u32,
    progress: Arc<WalkProgress>,
    threads: u32,
}

impl Task for ResealTask {
    type Output = ResealReport;
    type JsValue = ResealReport;

    fn compute(&mut self) -> Result<ResealReport> {
        let engine = engine(self.engine)?;
        let reseal =
            Reseal { vault: &engine.vault, store: engine.store(), progress: &self.progress };
        let done = reseal.run(self.threads as usize).map_err(store_failed)?;
        Ok(ResealReport {
            resealed: done.resealed as f64,
            resealed_bytes: done.resealed_bytes as f64,
            current: done.current as f64,
            unopened: done.unopened.count as f64,
            named: flaws(&done.unopened),
        })
    }

    fn resolve(&mut self, _env: Env, report: ResealReport) -> Result<ResealReport> {
        Ok(report)
    }
}

/// The chunks of one epoch.
#[napi(object)]
#[derive(Debug)]
pub struct EpochCount {
    /// The epoch.
    pub epoch: u32,
    /// Its chunks.
    pub chunks: f64,
    /// Bytes of their plaintext.
    pub bytes: f64,
}

/// Under which keys chunks are sealed.
#[napi(object)]
#[derive(Debug)]
pub struct CensusReport {
    /// By epoch, in order.
    pub epochs: Vec<EpochCount>,
    /// Chunks that no key at hand opens.
    pub unopened: f64,
    /// The first of them; nobody knows how long they should be.
    pub named: Vec<ChunkFlaw>,
}

/// A census on its way.
#[derive(Debug)]
pub struct CensusTask {
    engine: u32,
    progress: Arc<WalkProgress>,
    threads: u32,
    deep: bool,
}

impl Task for CensusTask {
    type Output = CensusReport;
    type JsValue = CensusReport;

    fn compute(&mut self) -> Result<CensusReport> {
        let engine = engine(self.engine)?;
        let census =
            Census { vault: &engine.vault, store: engine.store(), progress: &self.progress };
        let counted = census.run(self.threads as usize, self.deep).map_err(store_failed)?;
        let count = |(&epoch, found): (&u32, &EpochChunks)| EpochCount {
            epoch,
            chunks: found.chunks as f64,
            bytes: found.bytes as f64,
        };
        Ok(CensusReport {
            epochs: counted.epochs.iter().map(count).collect(),
            unopened: counted.unopened.count as f64,
            named: flaws(&counted.unopened),
        })
    }

    fn resolve(&mut self, _env: Env, report: CensusReport) -> Result<CensusReport> {
        Ok(report)
    }
}
