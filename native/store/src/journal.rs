//! A store that puts into a journal file what the store below refuses, and reads it from there.
//!
//! Until a journal is begun or attached, every call goes straight to the store below. What the file
//! holds is in `engine/journal/FORMAT.md`; this side knows only that records stand one behind the
//! other, and how an object's record looks. All else is written and read by TypeScript.
use crate::cache::OpenChunk;
use crate::object::{read_all, write_all};
use crate::{ChunkReader, ChunkStore, Listed, Put, ReadError, Space};
use millrace_layout::REGION_BYTES;
use millrace_vault::{ChunkId, Vault};
use std::collections::HashMap;
use std::fs::File;
use std::io::IoSlice;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// kind u32 ‖ 0 u32 ‖ bytes of the body u64
const RECORD_HEAD_BYTES: usize = 16;
/// The kind of a record that holds a chunk: id ‖ object.
const OBJECT_KIND: u32 = 1;

/// Where an object lies in a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of the object's first byte.
    pub offset: u64,
    /// Of the object.
    pub bytes: u64,
}

/// A journal file that is open.
#[derive(Debug)]
struct Journal {
    path: PathBuf,
    file: Arc<File>,
    /// Behind the last whole record.
    end: u64,
    places: HashMap<ChunkId, Place>,
    /// Whether it takes records, or is only read.
    grows: bool,
    /// Whether it takes objects: all but the last records are written.
    takes_objects: bool,
}

impl Journal {
    fn append(&mut self, kind: u32, body: &[IoSlice<'_>]) -> Result<u64, i32> {
        let bytes: usize = body.iter().map(|piece| piece.len()).sum();
        let mut head = [0; RECORD_HEAD_BYTES];
        head[..4].copy_from_slice(&kind.to_le_bytes());
        head[8..].copy_from_slice(&(bytes as u64).to_le_bytes());
        let mut record = Vec::with_capacity(body.len() + 1);
        record.push(IoSlice::new(&head));
        record.extend_from_slice(body);
        write_all(&self.file, &record, self.end)?;
        let at = self.end + RECORD_HEAD_BYTES as u64;
        self.end = at + bytes as u64;
        Ok(at)
    }
}

/// A store with a journal beside it. Any number of threads may use it.
pub struct JournaledStore {
    inner: Arc<dyn ChunkStore>,
    /// Whether there is a journal: spares all calls the lock while there is none.
    is_open: AtomicBool,
    journal: Mutex<Option<Journal>>,
}

impl std::fmt::Debug for JournaledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournaledStore").field("is_open", &self.is_open).finish_non_exhaustive()
    }
}

fn errno(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn flush_directory_of(path: &Path) -> Result<(), i32> {
    let parent = path.parent().ok_or(libc::EINVAL)?;
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(|e| errno(&e))
}

impl JournaledStore {
    /// A store without a journal.
    #[must_use]
    pub fn new(inner: Arc<dyn ChunkStore>) -> Self {
        Self { inner, is_open: AtomicBool::new(false), journal: Mutex::new(None) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Journal>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_open(&self) -> bool {
        // ORDER: partner is the store in `open_with`; who sees it late asks the store below only.
        self.is_open.load(Ordering::Acquire)
    }

    fn open_with(&self, journal: Journal) {
        *self.lock() = Some(journal);
        self.is_open.store(true, Ordering::Release);
    }

    /// Make a journal file, for its owner only, that begins with these bytes. From now on what the
    /// store refuses goes there, and counts as stored.
    ///
    /// # Errors
    /// The errno of the file system; EEXIST when there is such a file.
    pub fn begin(&self, path: &Path, header: &[u8]) -> Result<(), i32> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| errno(&e))?;
        if let Err(errno) = write_all(&file, &[IoSlice::new(header)], 0) {
            let _ = std::fs::remove_file(path);
            return Err(errno);
        }
        self.open_with(Journal {
            path: path.to_owned(),
            file: Arc::new(file),
            end: header.len() as u64,
            places: HashMap::new(),
            grows: true,
            takes_objects: true,
        });
        Ok(())
    }

    /// Append a record; an errno, EBADF when no journal takes records.
    ///
    /// # Errors
    /// Nothing was appended then.
    pub fn append(&self, kind: u32, body: &[u8]) -> Result<(), i32> {
        let mut journal = self.lock();
        let journal = journal.as_mut().filter(|journal| journal.grows).ok_or(libc::EBADF)?;
        journal.append(kind, &[IoSlice::new(body)]).map(|_| ())
    }

    /// Take no further object: what the store refuses from now on fails. Objects that the journal
    /// holds, and their bytes.
    #[must_use]
    pub fn end_objects(&self) -> (usize, u64) {
        self.lock().as_mut().map_or((0, 0), |journal| {
            journal.takes_objects = false;
            (journal.places.len(), journal.places.values().map(|place| place.bytes).sum())
        })
    }

    /// Make the journal durable under another name in the same directory. It takes no more records.
    ///
    /// # Errors
    /// The errno of the file system: it may or may not have its name then.
    pub fn finish(&self, name: &Path) -> Result<(), i32> {
        let mut journal = self.lock();
        let journal = journal.as_mut().filter(|journal| journal.grows).ok_or(libc::EBADF)?;
        // An append that failed may have left bytes behind the last whole record.
        journal.file.set_len(journal.end).map_err(|e| errno(&e))?;
        journal.file.sync_data().map_err(|e| errno(&e))?;
        std::fs::rename(&journal.path, name).map_err(|e| errno(&e))?;
        name.clone_into(&mut journal.path);
        journal.grows = false;
        flush_directory_of(name)
    }

    /// Delete a journal that was not finished. What went into it is gone.
    pub fn discard(&self) {
        let mut journal = self.lock();
        if let Some(journal) = journal.take_if(|journal| journal.grows) {
            let _ = std::fs::remove_file(&journal.path);
        }
        self.is_open.store(false, Ordering::Release);
    }

    /// Read the objects of a finished journal as if the store had them, until `detach`.
    ///
    /// # Errors
    /// The errno of the file system.
    pub fn attach(&self, path: &Path, places: HashMap<ChunkId, Place>) -> Result<(), i32> {
        let file = File::open(path).map_err(|e| errno(&e))?;
        let end = file.metadata().map_err(|e| errno(&e))?.len();
        self.open_with(Journal {
            path: path.to_owned(),
            file: Arc::new(file),
            end,
            places,
            grows: false,
            takes_objects: false,
        });
        Ok(())
    }

    /// Read no journal any more.
    pub fn detach(&self) {
        self.is_open.store(false, Ordering::Release);
        *self.lock() = None;
    }

    /// Open an object of the journal, check that it is what its id says, and tell its bytes of
    /// plaintext. `buffer` gets plaintext, and needs room for a region and two segments.
    ///
    /// # Errors
    /// Damaged when it is not the chunk of its id; ENOENT when the journal has no such object.
    pub fn verify(
        &self,
        vault: &Vault,
        id: &ChunkId,
        buffer: &mut [u8],
    ) -> Result<usize, ReadError> {
        let only = OnlyJournal(self);
        let chunk = OpenChunk::open(vault, &only, id)?;
        let bytes = chunk.plain_bytes();
        let mut hasher = vault.chunk_hasher();
        let mut at = 0;
        while at < bytes {
            let length = REGION_BYTES.min(bytes - at);
            let range = chunk.read_range(vault, at, length, buffer)?;
            hasher.update(&buffer[range]);
            at += length;
        }
        if hasher.id() == *id { Ok(bytes) } else { Err(ReadError::Damaged) }
    }

    /// Put an object of the journal into the store, unless it is there.
    ///
    /// # Errors
    /// ENOENT when the journal has no such object; else the store's.
    pub fn restore(&self, id: &ChunkId) -> Result<Put, i32> {
        let (file, place) = self.find(id).ok_or(libc::ENOENT)?;
        if self.inner.has(id)? {
            return Ok(Put { present: true });
        }
        let mut object = vec![0; usize::try_from(place.bytes).map_err(|_| libc::EIO)?];
        read_all(&file, &mut object, place.offset)?;
        self.inner.put(id, &[IoSlice::new(&object)])
    }

    /// Whether the store below has a chunk, whatever the journal holds.
    ///
    /// # Errors
    /// The store's.
    pub fn stores(&self, id: &ChunkId) -> Result<bool, i32> {
        self.inner.has(id)
    }

    fn find(&self, id: &ChunkId) -> Option<(Arc<File>, Place)> {
        if !self.is_open() {
            return None;
        }
        let journal = self.lock();
        let journal = journal.as_ref()?;
        journal.places.get(id).map(|place| (journal.file.clone(), *place))
    }

    /// Take in what the store below has refused with `errno`.
    fn put_aside(&self, id: &ChunkId, object: &[IoSlice<'_>], errno: i32) -> Result<Put, i32> {
        let mut journal = self.lock();
        let Some(journal) = journal.as_mut().filter(|journal| journal.takes_objects) else {
            return Err(errno);
        };
        if journal.places.contains_key(id) {
            return Ok(Put { present: true });
        }
        let mut body = Vec::with_capacity(object.len() + 1);
        body.push(IoSlice::new(&id.0));
        body.extend_from_slice(object);
        let at = journal.append(OBJECT_KIND, &body)?;
        let bytes = object.iter().map(|piece| piece.len() as u64).sum();
        journal.places.insert(*id, Place { offset: at + id.0.len() as u64, bytes });
        Ok(Put { present: false })
    }
}

impl ChunkStore for JournaledStore {
    fn put(&self, id: &ChunkId, object: &[IoSlice<'_>]) -> Result<Put, i32> {
        match self.inner.put(id, object) {
            Err(errno) if self.is_open() => self.put_aside(id, object, errno),
            done => done,
        }
    }
    fn replace(&self, id: &ChunkId, object: &[IoSlice<'_>]) -> Result<(), i32> {
        self.inner.replace(id, object)
    }
    fn has(&self, id: &ChunkId) -> Result<bool, i32> {
        let has = self.inner.has(id);
        if !self.is_open() || has == Ok(true) {
            return has;
        }
        // A store that cannot be asked has to be given the chunk, or the journal has.
        Ok(self.find(id).is_some())
    }
    fn open(&self, id: &ChunkId) -> Result<Box<dyn ChunkReader>, i32> {
        let opened = self.inner.open(id);
        if opened.is_err()
            && let Some((file, place)) = self.find(id)
        {
            return Ok(Box::new(PlaceReader { file, place }));
        }
        opened
    }
    fn sync(&self) -> Result<(), i32> {
        let synced = self.inner.sync();
        // Who replays the journal looks for every chunk that it names, and runs the barrier.
        let is_growing =
            self.is_open() && self.lock().as_ref().is_some_and(|journal| journal.grows);
        if is_growing { Ok(()) } else { synced }
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

/// An object inside of a journal.
struct PlaceReader {
    file: Arc<File>,
    place: Place,
}

impl ChunkReader for PlaceReader {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), i32> {
        let end = offset.checked_add(buffer.len() as u64).ok_or(libc::EIO)?;
        if end > self.place.bytes {
            return Err(libc::EIO);
        }
        read_all(&self.file, buffer, self.place.offset + offset)
    }
    fn bytes(&self) -> u64 {
        self.place.bytes
    }
}

/// The journal's objects alone, as a store that can only be read.
struct OnlyJournal<'a>(&'a JournaledStore);

impl ChunkStore for OnlyJournal<'_> {
    fn put(&self, _: &ChunkId, _: &[IoSlice<'_>]) -> Result<Put, i32> {
        Err(libc::EROFS)
    }
    fn replace(&self, _: &ChunkId, _: &[IoSlice<'_>]) -> Result<(), i32> {
        Err(libc::EROFS)
    }
    fn has(&self, id: &ChunkId) -> Result<bool, i32> {
        Ok(self.0.find(id).is_some())
    }
    fn open(&self, id: &ChunkId) -> Result<Box<dyn ChunkReader>, i32> {
        let (file, place) = self.0.find(id).ok_or(libc::ENOENT)?;
        Ok(Box::new(PlaceReader { file, place }))
    }
    fn sync(&self) -> Result<(), i32> {
        Ok(())
    }
    fn needs_sync(&self) -> bool {
        false
    }
    fn delete(&self, _: &ChunkId) -> Result<(), i32> {
        Err(libc::EROFS)
    }
    fn list(&self, _: &mut dyn FnMut(Listed) -> bool) -> Result<(), i32> {
        Err(libc::EROFS)
    }
    fn space(&self) -> Result<Space, i32> {
        self.0.space()
    }
}
