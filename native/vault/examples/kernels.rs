//! How fast this machine hashes and seals, in GB/s on one core: `cargo run --release -p
//! millrace-vault --example kernels`.
//!
//! The format's segments have one size; the other rows seal with the same primitives, to show what
//! another would give.
use millrace_layout::REGION_BYTES;
use millrace_vault::{ChunkId, HeadBuf, RawPiece, Vault};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

/// Chunks that are worked on in turn: more than the caches of a core hold, as in a stream.
const CHUNKS: usize = 16;
const RUN: Duration = Duration::from_millis(400);

/// GB/s of the best of three runs of `work` over the chunks.
fn rate(chunks: &mut [Vec<u8>], mut work: impl FnMut(&mut [u8])) -> f64 {
    let mut best = 0f64;
    for _ in 0..3 {
        let (start, mut bytes) = (Instant::now(), 0);
        while start.elapsed() < RUN {
            for chunk in &mut *chunks {
                work(chunk);
                bytes += chunk.len();
            }
        }
        best = best.max(bytes as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}

/// Seal in segments of any size: the primitive without the format.
fn seal(key: &LessSafeKey, data: &mut [u8], segment_bytes: usize) {
    for (number, segment) in data.chunks_mut(segment_bytes).enumerate() {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&(number as u32).to_le_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let _ = black_box(key.seal_in_place_separate_tag(nonce, Aad::from([1u8; 33]), segment));
    }
}

fn main() -> std::io::Result<()> {
    let vault = Vault::from_kek(&[0x42; 32]);
    let mut chunks: Vec<Vec<u8>> = (0..CHUNKS).map(|n| vec![n as u8; REGION_BYTES]).collect();
    let mut out = std::io::stdout().lock();
    let hash = rate(&mut chunks, |chunk| {
        black_box(vault.chunk_id_of([&*chunk]));
    });
    writeln!(out, "hash                  {hash:6.2} GB/s")?;
    // A key that protects nothing: the plaintext is known.
    let Ok(key) = UnboundKey::new(&AES_256_GCM, &[9; 32]).map(LessSafeKey::new) else {
        return Ok(());
    };
    for kib in [16, 32, 64] {
        let rate_seal = rate(&mut chunks, |chunk| seal(&key, chunk, kib << 10));
        let both = rate(&mut chunks, |chunk| {
            black_box(vault.chunk_id_of([&*chunk]));
            seal(&key, chunk, kib << 10);
        });
        writeln!(out, "seal {kib} KiB           {rate_seal:6.2} GB/s   with hash {both:6.2} GB/s")?;
    }
    let mut head = HeadBuf::new();
    writeln!(out, "seal a chunk as the format has it, by where its pieces meet")?;
    for (name, piece_bytes) in [
        ("one piece            ", REGION_BYTES),
        ("one segment in 64    ", (1 << 20) - 100),
        ("one segment in 8     ", (128 << 10) - 100),
        ("every segment        ", 5000),
        ("every segment, 100 B ", 100),
    ] {
        let format = rate(&mut chunks, |chunk| {
            // The id need not be that of the bytes here: all of it is thrown away.
            let pieces: Vec<RawPiece> = chunk
                .chunks_mut(piece_bytes)
                .map(|piece| RawPiece { ptr: piece.as_mut_ptr(), len: piece.len() })
                .collect();
            // SAFETY: the chunk is ours alone, and what is sealed protects nothing.
            unsafe { vault.seal_pieces(&ChunkId([1; 32]), &pieces, &mut head) };
        });
        writeln!(out, "{name} {format:6.2} GB/s")?;
    }
    let whole = rate(&mut chunks, |chunk| {
        black_box(vault.seal_buffer(chunk, &mut head));
    });
    writeln!(out, "hash and seal         {whole:6.2} GB/s")
}
