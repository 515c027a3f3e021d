//! Known answers: what this crate makes of fixed keys and bytes, held against
//! `test/format/vectors.json`.
//!
//! The same file is opened by a second implementation in TypeScript. When the format changes on
//! purpose, run these tests with `MILLRACE_WRITE_VECTORS=1` to write the file anew, and raise the
//! format's version.
use crate::{
    ChunkId, HEADER_BYTES, HeadBuf, Header, KeyRing, RawPiece, TAG_BYTES, VALUE_OVERHEAD_BYTES,
    Vault,
};
use std::fmt::Write as _;

const VECTORS: &str = include_str!("../../../test/format/vectors.json");
const VECTORS_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../test/format/vectors.json");

/// Chunks whose objects the file holds: one byte, within a segment, one byte into the second.
const WHOLE_BYTES: [usize; 3] = [1, 1000, 16385];
/// Chunks of which it holds a digest: around the size from which ciphertext starts at a block, and
/// a whole region.
const DIGEST_BYTES: [usize; 4] = [16384, 65535, 65536, 4 << 20];

fn vault() -> Vault {
    let mut kek = [0; 32];
    for (n, byte) in kek.iter_mut().enumerate() {
        *byte = n as u8;
    }
    Vault::from_kek(&kek)
}

/// The plaintext of the vectors: simple to write down in any language, and no two segments alike.
fn plain(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| ((i * 31) ^ (i >> 8) ^ (i >> 14)) as u8).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// A JSON string; what is written here needs no escapes.
fn text(content: impl std::fmt::Display) -> String {
    format!("\"{content}\"")
}

/// A JSON object in an array, from names and values that are JSON already.
fn row(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("      \"{name}\": {value}")).collect();
    format!("    {{\n{}\n    }}", fields.join(",\n"))
}

fn object(vault: &Vault, bytes: usize) -> (ChunkId, Vec<u8>) {
    let mut data = plain(bytes);
    let mut head = HeadBuf::new();
    let id = vault.seal_buffer(&mut data, &mut head);
    (id, [head.bytes(), &data].concat())
}

fn render_chunks(out: &mut String, vault: &Vault) {
    for (name, sizes, whole) in
        [("chunks", &WHOLE_BYTES[..], true), ("chunkDigests", &DIGEST_BYTES[..], false)]
    {
        let rows: Vec<String> = sizes
            .iter()
            .map(|&bytes| {
                let (id, object) = object(vault, bytes);
                let (field, value) = if whole {
                    ("object", hex(&object))
                } else {
                    ("blake3", blake3::hash(&object).to_hex().to_string())
                };
                row(&[
                    ("plainBytes", bytes.to_string()),
                    ("id", text(id.hex())),
                    (field, text(value)),
                ])
            })
            .collect();
        let _ = writeln!(out, "  \"{name}\": [\n{}\n  ],", rows.join(",\n"));
    }
}

/// A value under a fixed salt, as the file holds it: key, plaintext, salt.
const VALUES: [(&[u8], &[u8], u8); 3] =
    [(b"key", b"value", 0x11), (b"", b"", 0x22), (&[0xff; 511], &[0x5a; 300], 0x33)];

fn sealed(vault: &Vault, (key, plain, salt): (&[u8], &[u8], u8)) -> Vec<u8> {
    let mut out = vec![0; plain.len() + VALUE_OVERHEAD_BYTES];
    let length = vault.seal_with_salt(key, plain, &[salt; 24], &mut out);
    assert_eq!(length, Some(out.len()));
    out
}

fn render_values(out: &mut String, vault: &Vault) {
    let rows: Vec<String> = VALUES
        .iter()
        .map(|&value| {
            let sealed = hex(&sealed(vault, value));
            row(&[
                ("key", text(hex(value.0))),
                ("plain", text(hex(value.1))),
                ("sealed", text(sealed)),
            ])
        })
        .collect();
    let _ = writeln!(out, "  \"values\": [\n{}\n  ],", rows.join(",\n"));
}

/// The same values as version 1 of their layout had them, and the first of them in the second epoch.
const FIRST_VALUES: [&str; 4] = [
    "0101000000111111111111111111111111111111111111111111111111\
     fee66705ba636d003fe5a932e03c3718f8c555e7c9",
    "0101000000222222222222222222222222222222222222222222222222\
     64c0c80cfe6e7cf687fd956c953051e7",
    "01010000003333333333333333333333333333333333333333333333333cd7991bfe707d98b0376a\
     1f4268a9249381c82d3c5af539e6161e7eefcef8e9e2f849fcf7ec784c59fbf0a20e3670c6797349\
     08c0951acc94d9b48f7551d4d7c40e5c66ba2afba3735b6143c5d6e810691f504452255cffe44cb0\
     2782bc639af3417a07cf900fc1589405e83449e7e543e9a94c4276ce8f4071af5a21a4c859551de5\
     5766d9b6af69cd74e8296613373fc082062b5cb25bb27e57de982064ea9c50a10ade9c0e67dfa651\
     30b44486430534b2924a72073e2b5d476d559ca707a20f5bc87b196f68ea8e57fe77757cc8431ea8\
     739bb6fad53a6abfad4590d1cd214e39e21abf5be3cd0ebb77d549d80509a2f0cd3bd4e3646579c7\
     36d896dd5e2ccafcdfc9caf94dfaeb70f5f03c47ca3461a767d12bbb5d6552f5dfd4e1606c673134\
     793eeb47404d45ff9d5f36f27cc999e503bb18f4e5de560658",
    "0102000000111111111111111111111111111111111111111111111111\
     ab163374959758d739dcfe94c0934e318c908d4ea9",
];

/// Each with what it opens to.
fn first_values() -> impl Iterator<Item = ((&'static [u8], &'static [u8], u8), &'static str)> {
    VALUES.into_iter().chain([VALUES[0]]).zip(FIRST_VALUES)
}

fn render_first_values(out: &mut String) {
    let rows = first_values().map(|((key, plain, _), sealed)| {
        row(&[("key", text(hex(key))), ("plain", text(hex(plain))), ("sealed", text(sealed))])
    });
    let rows: Vec<String> = rows.collect();
    let _ = writeln!(out, "    \"firstValues\": [\n{}\n    ]\n  }}", rows.join(",\n"));
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// The store of the vectors, and the salt of its ring.
const STORE: &[u8] = b"00112233-4455-4677-8899-aabbccddeeff";
const RING_SALT: [u8; 32] = [0x44; 32];
/// What is sealed anew in the second epoch.
const ROTATED_BYTES: [usize; 2] = [1, 1000];

/// The key of the second epoch, and the ring that it opens.
fn rotated_ring() -> ([u8; 32], Vec<u8>) {
    let mut kek = [0; 32];
    for (n, byte) in kek.iter_mut().enumerate() {
        *byte = 0xff - n as u8;
    }
    let ring = vault().rotated_ring_with_salt(&kek, STORE, RING_SALT).unwrap();
    (kek, ring)
}

fn rotated_vault() -> Vault {
    let (kek, sealed) = rotated_ring();
    Vault::unlock(&kek, &KeyRing { store: STORE, epoch: 2, sealed: &sealed }).unwrap()
}

/// The same plaintext in the second epoch: other bytes under the same id.
fn render_rotated(out: &mut String) {
    let (kek, ring) = rotated_ring();
    let vault = rotated_vault();
    let chunks = ROTATED_BYTES.iter().map(|&bytes| {
        let (id, object) = object(&vault, bytes);
        row(&[
            ("plainBytes", bytes.to_string()),
            ("id", text(id.hex())),
            ("object", text(hex(&object))),
        ])
    });
    let chunks: Vec<String> = chunks.collect();
    let (key, plain, salt) = VALUES[0];
    let value = row(&[
        ("key", text(hex(key))),
        ("plain", text(hex(plain))),
        ("sealed", text(hex(&sealed(&vault, (key, plain, salt))))),
    ]);
    let _ = writeln!(out, "  \"rotated\": {{");
    let _ = writeln!(out, "    \"kek\": \"{}\",", hex(&kek));
    let _ = writeln!(out, "    \"check\": \"{}\",", hex(&vault.check()));
    let _ = writeln!(out, "    \"uuid\": \"{}\",", String::from_utf8_lossy(STORE));
    let _ = writeln!(out, "    \"epoch\": {},", vault.epoch());
    let _ = writeln!(out, "    \"keyRing\": \"{}\",", hex(&ring));
    let _ = writeln!(out, "    \"chunks\": [\n{}\n    ],", chunks.join(",\n"));
    let _ = writeln!(out, "    \"values\": [\n{value}\n    ],");
    render_first_values(out);
}

const NAMES: [(u64, &[u8]); 3] =
    [(1, b"checkpoint.pt"), (u64::MAX, b""), (0x0001_0203_0405_0607, &[0xff; 255])];

fn render() -> String {
    let vault = vault();
    let mut out = String::from("{\n");
    let kek: Vec<u8> = (0..32).collect();
    let _ = writeln!(out, "  \"kek\": \"{}\",", hex(&kek));
    let _ = writeln!(out, "  \"check\": \"{}\",", hex(&vault.check()));
    render_chunks(&mut out, &vault);
    render_values(&mut out, &vault);
    let rows: Vec<String> = NAMES
        .iter()
        .map(|&(ino, name)| {
            let hash = hex(&vault.name_hash(ino, name));
            row(&[("ino", text(ino.to_string())), ("name", text(hex(name))), ("hash", text(hash))])
        })
        .collect();
    let _ = writeln!(out, "  \"names\": [\n{}\n  ],", rows.join(",\n"));
    render_rotated(&mut out);
    out.push_str("}\n");
    out
}

#[test]
fn the_format_is_what_the_vectors_say() {
    let fresh = render();
    if std::env::var_os("MILLRACE_WRITE_VECTORS").is_some() {
        std::fs::write(VECTORS_PATH, &fresh).unwrap();
        return;
    }
    // Line by line: a failure names the field, not a wall of digits.
    for (number, (fresh, kept)) in fresh.lines().zip(VECTORS.lines()).enumerate() {
        assert_eq!(fresh, kept, "line {} of vectors.json", number + 1);
    }
    assert_eq!(fresh.len(), VECTORS.len());
}

/// The vectors are of chunks in one piece; the same chunks in several must come out the same.
#[test]
fn a_chunk_in_pieces_is_what_the_vectors_say() {
    let vault = vault();
    for bytes in WHOLE_BYTES.into_iter().chain(DIGEST_BYTES) {
        let (id, whole) = object(&vault, bytes);
        for piece_bytes in [7, 999, 16385, 70_000] {
            let mut data = plain(bytes);
            let pieces: Vec<RawPiece> = data
                .chunks_mut(piece_bytes)
                .map(|piece| RawPiece { ptr: piece.as_mut_ptr(), len: piece.len() })
                .collect();
            let mut head = HeadBuf::new();
            // SAFETY: the pieces are parts of a buffer of ours that nobody else sees.
            unsafe { vault.seal_pieces(&id, &pieces, &mut head) };
            assert!([head.bytes(), &data].concat() == whole, "{bytes} in pieces of {piece_bytes}");
        }
    }
}

#[test]
fn what_the_vectors_hold_opens() {
    let vault = vault();
    for bytes in WHOLE_BYTES.into_iter().chain(DIGEST_BYTES) {
        let (id, mut object) = object(&vault, bytes);
        let header = Header::parse(&object, &vault, &id).unwrap();
        assert_eq!(header.object_bytes(), object.len());
        let (head, data) = object.split_at_mut(header.data_offset);
        vault.open_segments(header.epoch, &id, 0, data, &head[header.tags()]).unwrap();
        assert_eq!(data, plain(bytes));
        let padding = &head[HEADER_BYTES + header.segments * TAG_BYTES..];
        assert!(padding.iter().all(|&byte| byte == 0));
    }
    for value in VALUES {
        let mut out = vec![0; value.1.len()];
        assert_eq!(vault.open_value_into(value.0, &sealed(&vault, value), &mut out), Ok(out.len()));
        assert_eq!(out, value.1);
    }
    let rotated = rotated_vault();
    for ((key, plain, _), sealed) in first_values() {
        let mut out = vec![0; plain.len()];
        assert_eq!(rotated.open_value_into(key, &unhex(sealed), &mut out), Ok(plain.len()));
        assert_eq!(out, plain);
    }
}
