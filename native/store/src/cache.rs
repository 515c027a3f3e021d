//! Opened chunks: reader, header and tags, so that a random read costs one pread.
use crate::{ChunkReader, ChunkStore};
use millrace_layout::SEGMENT_BYTES;
use millrace_vault::{ChunkId, Damaged, Header, TAG_BYTES, Vault};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Handles that are kept unless the limit on open files is lower: at 4 MiB a chunk, 2 GiB of files
/// that are being read.
const HANDLES: usize = 512;
const SHARDS: usize = 16;
/// Bytes of an object that are read first: the whole head of a chunk of 4 MiB.
const FIRST_BYTES: usize = 8192;

/// Why a chunk cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The store says so.
    Errno(i32),
    /// The object is not what was stored.
    Damaged,
    /// The object says that it is sealed under the key of this epoch, which is not there.
    Epoch(u32),
}

impl From<Damaged> for ReadError {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

/// A chunk that is open, with what its head says.
pub struct OpenChunk {
    id: ChunkId,
    reader: Box<dyn ChunkReader>,
    header: Header,
    tags: Vec<u8>,
}

impl std::fmt::Debug for OpenChunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenChunk").field("id", &self.id).finish_non_exhaustive()
    }
}

impl OpenChunk {
    /// Open a chunk and check all of its object that is no ciphertext.
    pub(crate) fn open(
        vault: &Vault,
        store: &dyn ChunkStore,
        id: &ChunkId,
    ) -> Result<Self, ReadError> {
        let reader = store.open(id).map_err(ReadError::Errno)?;
        let mut first = [0; FIRST_BYTES];
        let length = FIRST_BYTES.min(usize::try_from(reader.bytes()).unwrap_or(FIRST_BYTES));
        let first = &mut first[..length];
        reader.read_at(first, 0).map_err(ReadError::Errno)?;
        let header = Header::parse(first, vault, id).map_err(|_| unopened(first, vault))?;
        if reader.bytes() != header.object_bytes() as u64 {
            return Err(ReadError::Damaged);
        }
        let head = whole_head(first, &header, reader.as_ref())?;
        // No tag covers the padding, so say here that it is zero: every byte of an object is
        // checked by somebody.
        if head[header.tags().end..].iter().any(|&byte| byte != 0) {
            return Err(ReadError::Damaged);
        }
        let tags = head[header.tags()].to_vec();
        Ok(Self { id: *id, reader, header, tags })
    }

    /// Bytes of plaintext.
    pub(crate) fn plain_bytes(&self) -> usize {
        self.header.plain_bytes
    }

    /// The epoch of the key that it is sealed under.
    pub(crate) fn epoch(&self) -> u32 {
        self.header.epoch
    }

    /// Read plaintext `offset..offset + length` with the segments around it into `buffer`; tells
    /// where it lies there.
    ///
    /// One read, and nothing of `buffer` may be used when it fails. The range must lie in the
    /// chunk, or the chunk is not what was asked for; `buffer` needs room for the segments that the
    /// range touches, EINVAL otherwise.
    pub fn read_range(
        &self,
        vault: &Vault,
        offset: usize,
        length: usize,
        buffer: &mut [u8],
    ) -> Result<Range<usize>, ReadError> {
        let plain = self.header.plain_bytes;
        if length == 0 || offset.checked_add(length).is_none_or(|end| end > plain) {
            return Err(ReadError::Damaged);
        }
        let (first, behind) = (offset / SEGMENT_BYTES, (offset + length).div_ceil(SEGMENT_BYTES));
        let start = first * SEGMENT_BYTES;
        let end = (behind * SEGMENT_BYTES).min(plain);
        let data = buffer.get_mut(..end - start).ok_or(ReadError::Errno(libc::EINVAL))?;
        self.reader
            .read_at(data, (self.header.data_offset + start) as u64)
            .map_err(ReadError::Errno)?;
        let tags = &self.tags[first * TAG_BYTES..behind * TAG_BYTES];
        vault.open_segments(self.header.epoch, &self.id, first, data, tags)?;
        Ok(offset - start..offset - start + length)
    }
}

/// Why a header was refused.
fn unopened(first: &[u8], vault: &Vault) -> ReadError {
    let claimed = Header::claimed_epoch(first).filter(|epoch| !vault.epochs().contains(epoch));
    claimed.map_or(ReadError::Damaged, ReadError::Epoch)
}

/// The object up to its ciphertext; reads on only for chunks that are larger than a region.
fn whole_head<'a>(
    first: &'a [u8],
    header: &Header,
    reader: &dyn ChunkReader,
) -> Result<Cow<'a, [u8]>, ReadError> {
    if let Some(head) = first.get(..header.data_offset) {
        return Ok(Cow::Borrowed(head));
    }
    let mut head = vec![0; header.data_offset];
    let (known, rest) = head.split_at_mut(first.len());
    known.copy_from_slice(first);
    reader.read_at(rest, first.len() as u64).map_err(ReadError::Errno)?;
    Ok(Cow::Owned(head))
}

#[derive(Default)]
struct Shard {
    /// With the tick of the last use.
    open: HashMap<ChunkId, (Arc<OpenChunk>, u64)>,
    tick: u64,
}

impl Shard {
    fn find(&mut self, id: &ChunkId) -> Option<Arc<OpenChunk>> {
        self.tick += 1;
        let (chunk, used) = self.open.get_mut(id)?;
        *used = self.tick;
        Some(chunk.clone())
    }

    /// Keep a chunk; what had to go for it, if anything.
    fn keep(&mut self, chunk: Arc<OpenChunk>, most: usize) -> Option<Arc<OpenChunk>> {
        self.tick += 1;
        let replaced = self.open.insert(chunk.id, (chunk, self.tick)).map(|(chunk, _)| chunk);
        if replaced.is_some() || self.open.len() <= most {
            return replaced;
        }
        // A scan, but of a shard's few dozen entries and only when a file was opened anyway.
        let oldest = self.open.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id)?;
        self.open.remove(&oldest).map(|(chunk, _)| chunk)
    }
}

/// The handles that were used last, shared by all threads.
pub struct HandleCache {
    shards: Vec<Mutex<Shard>>,
    each: usize,
}

impl std::fmt::Debug for HandleCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandleCache").field("each", &self.each).finish_non_exhaustive()
    }
}

impl HandleCache {
    /// A cache of at most `handles` (by default 512) open chunks, and no more than a quarter of the
    /// files that this process may open.
    #[must_use]
    pub fn new(handles: Option<usize>) -> Self {
        let mut limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
        // SAFETY: fills the structure.
        unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
        let quarter = usize::try_from(limit.rlim_cur / 4).unwrap_or(HANDLES);
        let all = handles.unwrap_or(HANDLES).min(quarter);
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            each: (all / SHARDS).max(1),
        }
    }

    /// The open chunk of this id, opened now if it is not.
    pub fn get(
        &self,
        vault: &Vault,
        store: &dyn ChunkStore,
        id: &ChunkId,
    ) -> Result<Arc<OpenChunk>, ReadError> {
        let shard = &self.shards[usize::from(id.0[31]) % SHARDS];
        if let Some(chunk) = lock(shard).find(id) {
            return Ok(chunk);
        }
        // Opened without the lock: two threads may both do it, and one of the handles is dropped
        // again.
        let chunk = Arc::new(OpenChunk::open(vault, store, id)?);
        let evicted = lock(shard).keep(chunk.clone(), self.each);
        // Closing a file takes time, so not under the lock.
        drop(evicted);
        Ok(chunk)
    }

    /// Lets go of a chunk that was deleted: an open file would keep its room.
    pub fn forget(&self, id: &ChunkId) {
        let shard = &self.shards[usize::from(id.0[31]) % SHARDS];
        let forgotten = lock(shard).open.remove(id);
        drop(forgotten);
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
