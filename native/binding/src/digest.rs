//! Identity of content that has to be read first: on a thread of Node's own pool.
use crate::{engine, failed};
use millrace_core::{Engine, Piece};
use millrace_layout::{CHUNK_ID_BYTES, REGION_BYTES};
use millrace_vault::ChunkId;
use napi::bindgen_prelude::{AsyncTask, Buffer, Uint32Array};
use napi::{Env, Result, Task};
use napi_derive::napi;
use std::sync::Arc;

/// Words of one piece: offset, bytes, then the chunk's id, which is zero for zeros.
const PIECE_WORDS: usize = 2 + CHUNK_ID_BYTES / 4;

/// One content to identify.
pub struct Digest {
    engine: Arc<Engine>,
    pieces: Vec<Piece>,
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digest").field("pieces", &self.pieces).finish_non_exhaustive()
    }
}

impl Task for Digest {
    type Output = ChunkId;
    type JsValue = Buffer;

    fn compute(&mut self) -> Result<ChunkId> {
        self.engine
            .content_id(&self.pieces)
            .map_err(|e| failed(std::io::Error::from_raw_os_error(e).to_string()))
    }

    fn resolve(&mut self, _env: Env, id: ChunkId) -> Result<Buffer> {
        Ok(id.0.to_vec().into())
    }
}

fn piece(words: &[u32]) -> Piece {
    let (place, id) = words.split_at(2);
    let (offset, bytes) = (place[0] as usize, place[1] as usize);
    if id.iter().all(|&word| word == 0) {
        return Piece::Zeros(bytes);
    }
    let mut raw = [0; CHUNK_ID_BYTES];
    for (to, word) in raw.chunks_exact_mut(4).zip(id) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    Piece::Chunk { id: ChunkId(raw), offset, bytes }
}

/// The id of the chunk that would hold these pieces: ten words each, see `PIECE_WORDS`. Rejects with EIO's text when one of
/// them cannot be read.
#[napi(ts_return_type = "Promise<Buffer>")]
pub fn content_id(id: u32, words: Uint32Array) -> Result<AsyncTask<Digest>> {
    let pieces: Vec<Piece> = words.chunks_exact(PIECE_WORDS).map(piece).collect();
    let bytes = |piece: &Piece| match *piece {
        Piece::Chunk { bytes, .. } | Piece::Zeros(bytes) => bytes,
    };
    if pieces.iter().map(bytes).sum::<usize>() > REGION_BYTES {
        return Err(failed("the pieces are larger than a region"));
    }
    Ok(AsyncTask::new(Digest { engine: engine(id)?, pieces }))
}
