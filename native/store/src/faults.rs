//! A store that delays and fails puts on demand: for tests of what a mount does then.
//!
//! `MILLRACE_STORE_FAULTS` holds settings separated by commas or line ends:
//!
//! | setting | effect on puts |
//! |---|---|
//! | `put-errno=28` | they fail with this errno |
//! | `put-delay-ms=20` | they take this much longer |
//! | `fifo=/path` | each waits until it has taken one byte from this named pipe |
//! | `after=100` | the first 100 are spared |
//! | `count=10` | after 10 faulty ones the rest is spared |
//! | `file=/path` | settings in this file come on top; it is read again before each put |
//!
//! With `file` a running mount can be switched; `after` and `count` count anew whenever the file's
//! text changes. Without the variable the store is returned as it is.
use crate::{ChunkReader, ChunkStore, Listed, Put, Space};
use millrace_vault::ChunkId;
use std::fs::File;
use std::io::{IoSlice, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Settings {
    put_errno: i32,
    put_delay: Duration,
    fifo: Option<String>,
    after: u64,
    count: Option<u64>,
    file: Option<String>,
}

impl Settings {
    /// These settings, changed by a text. What cannot be understood changes nothing.
    fn with(mut self, text: &str) -> Self {
        for item in text.split([',', '\n']) {
            let Some((name, value)) = item.trim().split_once('=') else { continue };
            match name {
                "put-errno" => self.put_errno = value.parse().unwrap_or(self.put_errno),
                "put-delay-ms" => {
                    self.put_delay = value.parse().map_or(self.put_delay, Duration::from_millis);
                }
                "fifo" => self.fifo = Some(value.to_owned()),
                "after" => self.after = value.parse().unwrap_or(self.after),
                "count" => self.count = value.parse().ok().or(self.count),
                "file" => self.file = Some(value.to_owned()),
                _ => {}
            }
        }
        self
    }

    /// Whether the put with this number, counted from 0, is a faulty one.
    fn hits(&self, put: u64) -> bool {
        put.checked_sub(self.after).is_some_and(|n| self.count.is_none_or(|count| n < count))
    }
}

/// Puts so far under the text that the control file has now.
#[derive(Debug, Default)]
struct Progress {
    text: String,
    puts: u64,
    /// The named pipe, once a put had to wait for it: while it is open, no byte that a test writes
    /// is lost.
    pipe: Option<(String, Arc<File>)>,
}

impl Progress {
    /// The pipe at a path. Open for both directions, so that opening never waits and reading always
    /// does.
    fn pipe(&mut self, path: &str) -> Option<Arc<File>> {
        if self.pipe.as_ref().is_none_or(|(open, _)| open != path) {
            let file = File::options().read(true).write(true).open(path).ok()?;
            self.pipe = Some((path.to_owned(), Arc::new(file)));
        }
        self.pipe.as_ref().map(|(_, file)| file.clone())
    }
}

/// What happens to one put.
#[derive(Debug)]
struct Fault {
    pipe: Option<Arc<File>>,
    delay: Duration,
    errno: i32,
}

impl Fault {
    fn strike(&self) -> Result<(), i32> {
        if let Some(pipe) = &self.pipe {
            // Only waiting matters: a pipe that cannot be read holds nobody.
            let _ = pipe.as_ref().read_exact(&mut [0]);
        }
        std::thread::sleep(self.delay);
        if self.errno == 0 { Ok(()) } else { Err(self.errno) }
    }
}

struct FaultyStore {
    inner: Arc<dyn ChunkStore>,
    settings: Settings,
    progress: Mutex<Progress>,
}

/// The store itself, or wrapped in the faults that the environment asks for.
#[must_use]
pub fn with_faults(store: Arc<dyn ChunkStore>) -> Arc<dyn ChunkStore> {
    match std::env::var("MILLRACE_STORE_FAULTS") {
        Ok(text) => faulty(store, &text),
        Err(_) => store,
    }
}

/// The store wrapped in the faults that a text asks for, written as in the environment.
#[must_use]
pub fn faulty(store: Arc<dyn ChunkStore>, text: &str) -> Arc<dyn ChunkStore> {
    Arc::new(FaultyStore {
        inner: store,
        settings: Settings::default().with(text),
        progress: Mutex::default(),
    })
}

impl FaultyStore {
    /// What happens to the next put, if it is a faulty one.
    fn next(&self) -> Option<Fault> {
        let text = self.settings.file.as_ref().map(std::fs::read_to_string);
        let text = text.and_then(Result::ok).unwrap_or_default();
        let settings = self.settings.clone().with(&text);
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.text != text {
            progress.text = text;
            progress.puts = 0;
        }
        let put = progress.puts;
        progress.puts += 1;
        settings.hits(put).then(|| Fault {
            pipe: settings.fifo.as_deref().and_then(|path| progress.pipe(path)),
            delay: settings.put_delay,
            errno: settings.put_errno,
        })
    }
}

impl ChunkStore for FaultyStore {
    fn put(&self, id: &ChunkId, object: &[IoSlice<'_>]) -> Result<Put, i32> {
        if let Some(fault) = self.next() {
            fault.strike()?;
        }
        self.inner.put(id, object)
    }
    fn replace(&self, id: &ChunkId, object: &[IoSlice<'_>]) -> Result<(), i32> {
        if let Some(fault) = self.next() {
            fault.strike()?;
        }
        self.inner.replace(id, object)
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
    fn list(&self, visit: &mut dyn FnMut(Listed) -> bool) -> Result<(), i32> {
        self.inner.list(visit)
    }
    fn space(&self) -> Result<Space, i32> {
        self.inner.space()
    }
}
