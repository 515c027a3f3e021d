//! A store that delays and fails puts on demand: for tests of what a mount does then.
//!
//! `MILLRACE_STORE_FAULTS` holds settings separated by commas: `put-errno=28` fails puts, `put-delay-ms=20` makes them
//! slow, and `file=/path` names a file with such settings that is read again before each put, so that a running
//! mount can be switched. Without the variable the store is returned as it is.
use crate::{ChunkReader, ChunkStore, Put, Space};
use millrace_vault::ChunkId;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Settings {
    put_errno: i32,
    put_delay: Duration,
    file: Option<String>,
}

impl Settings {
    fn parse(text: &str, mut settings: Self) -> Self {
        for item in text.trim().split(',') {
            match item.split_once('=') {
                Some(("put-errno", value)) => settings.put_errno = value.parse().unwrap_or(0),
                Some(("put-delay-ms", value)) => {
                    settings.put_delay = Duration::from_millis(value.parse().unwrap_or(0));
                }
                Some(("file", value)) => settings.file = Some(value.to_owned()),
                _ => {}
            }
        }
        settings
    }

    fn now(&self) -> Self {
        let Some(file) = &self.file else { return self.clone() };
        Self::parse(&std::fs::read_to_string(file).unwrap_or_default(), self.clone())
    }
}

struct FaultyStore {
    inner: Arc<dyn ChunkStore>,
    settings: Settings,
}

/// The store itself, or wrapped in the faults that the environment asks for.
#[must_use]
pub fn with_faults(store: Arc<dyn ChunkStore>) -> Arc<dyn ChunkStore> {
    match std::env::var("MILLRACE_STORE_FAULTS") {
        Ok(text) => {
            Arc::new(FaultyStore { inner: store, settings: Settings::parse(&text, Settings::default()) })
        }
        Err(_) => store,
    }
}

impl ChunkStore for FaultyStore {
    fn put(&self, id: &ChunkId, object: &[IoSlice<'_>]) -> Result<Put, i32> {
        let settings = self.settings.now();
        std::thread::sleep(settings.put_delay);
        if settings.put_errno != 0 {
            return Err(settings.put_errno);
        }
        self.inner.put(id, object)
    }
    fn has(&self, id: &ChunkId) -> Result<bool, i32> {
        self.inner.has(id)
    }
    fn open(&self, id: &ChunkId) -> Result<Box<dyn ChunkReader>, i32> {
        self.inner.open(id)
    }
    fn sync(&self) -> Result<(), i32> {
        self.inner.sync()
    }
    fn needs_sync(&self) -> bool {
        self.inner.needs_sync()
    }
    fn delete(&self, id: &ChunkId) -> Result<(), i32> {
        self.inner.delete(id)
    }
    fn list(&self, visit: &mut dyn FnMut(ChunkId, u64) -> bool) -> Result<(), i32> {
        self.inner.list(visit)
    }
    fn space(&self) -> Result<Space, i32> {
        self.inner.space()
    }
}
