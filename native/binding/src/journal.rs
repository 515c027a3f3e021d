//! The recovery journal of an engine: records in, objects out. Results are errnos, 0 for none.
use crate::failed;
use crate::registry::{engine, journaled};
use millrace_core::Scratch;
use millrace_layout::{CHUNK_ID_BYTES, REGION_BYTES, SEGMENT_BYTES};
use millrace_store::{ChunkStore, Place, ReadError};
use millrace_vault::ChunkId;
use napi::Result;
use napi::bindgen_prelude::{Float64Array, Uint8Array};
use napi_derive::napi;
use std::collections::HashMap;
use std::path::Path;

fn errno_of<T>(result: std::result::Result<T, i32>) -> i32 {
    result.err().unwrap_or(0)
}

fn chunk_id(bytes: &[u8]) -> Result<ChunkId> {
    bytes.try_into().map(ChunkId).map_err(|_| failed("a chunk id has 32 bytes"))
}

/// Begin a journal: from now on what the store refuses goes there.
#[napi]
pub fn journal_begin(id: u32, path: String, header: Uint8Array) -> Result<i32> {
    Ok(errno_of(journaled(id)?.begin(Path::new(&path), &header)))
}

/// Append a record to the journal that was begun.
#[napi]
pub fn journal_append(id: u32, kind: u32, body: Uint8Array) -> Result<i32> {
    Ok(errno_of(journaled(id)?.append(kind, &body)))
}

/// Take no further object; how many there are, and their bytes.
#[napi]
pub fn journal_end_objects(id: u32) -> Result<Vec<f64>> {
    let (objects, bytes) = journaled(id)?.end_objects();
    Ok(vec![objects as f64, bytes as f64])
}

/// Make the journal durable under its final name.
#[napi]
pub fn journal_finish(id: u32, name: String) -> Result<i32> {
    Ok(errno_of(journaled(id)?.finish(Path::new(&name))))
}

/// Delete a journal that was begun and not finished.
#[napi]
pub fn journal_discard(id: u32) -> Result<()> {
    journaled(id)?.discard();
    Ok(())
}

/// Have the objects of a journal read as if the store had them: their ids one behind the other, and two numbers each,
/// offset and bytes in the file.
#[napi]
pub fn journal_attach(id: u32, path: String, ids: Uint8Array, places: Float64Array) -> Result<i32> {
    let mut objects = HashMap::with_capacity(places.len() / 2);
    for (raw, place) in ids.chunks_exact(CHUNK_ID_BYTES).zip(places.chunks_exact(2)) {
        let place = Place { offset: place[0] as u64, bytes: place[1] as u64 };
        objects.insert(chunk_id(raw)?, place);
    }
    Ok(errno_of(journaled(id)?.attach(Path::new(&path), objects)))
}

/// Read no journal any more.
#[napi]
pub fn journal_detach(id: u32) -> Result<()> {
    journaled(id)?.detach();
    Ok(())
}

/// Whether an object of the attached journal is the chunk of its id: its bytes of plaintext, or -errno; -EBADMSG when it
/// is damaged, -ENOKEY when its key is not at hand.
#[napi]
pub fn journal_verify(id: u32, chunk: Uint8Array) -> Result<i32> {
    let mut scratch = Scratch::new(REGION_BYTES + 2 * SEGMENT_BYTES);
    let verified = journaled(id)?.verify(&engine(id)?.vault, &chunk_id(&chunk)?, scratch.bytes());
    Ok(match verified {
        Ok(bytes) => i32::try_from(bytes).unwrap_or(-libc::EBADMSG),
        Err(ReadError::Errno(errno)) => -errno,
        Err(ReadError::Damaged) => -libc::EBADMSG,
        Err(ReadError::Epoch(_)) => -libc::ENOKEY,
    })
}

/// Put an object of the attached journal into the store, unless it has it.
#[napi]
pub fn journal_restore(id: u32, chunk: Uint8Array) -> Result<i32> {
    Ok(errno_of(journaled(id)?.restore(&chunk_id(&chunk)?)))
}

/// Whether the store has a chunk, whatever a journal holds: 1, 0 or -errno.
#[napi]
pub fn store_has(id: u32, chunk: Uint8Array) -> Result<i32> {
    Ok(journaled(id)?.stores(&chunk_id(&chunk)?).map_or_else(|errno| -errno, i32::from))
}

/// Run the store's barrier on this thread.
#[napi]
pub fn store_sync(id: u32) -> Result<i32> {
    Ok(errno_of(engine(id)?.store().sync()))
}

/// Fill `out` with the plaintext of a chunk from an offset on, be it in the store or in the attached journal.
#[napi]
pub fn read_chunk(id: u32, chunk: Uint8Array, offset: u32, mut out: Uint8Array) -> Result<i32> {
    let chunk = chunk_id(&chunk)?;
    // SAFETY: JavaScript runs on this thread and does not touch the view meanwhile.
    let out = unsafe { out.as_mut() };
    Ok(errno_of(engine(id)?.read_chunk(&chunk, offset as usize, out)))
}
