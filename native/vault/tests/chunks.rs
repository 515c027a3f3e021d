//! Chunks: whatever the pieces that they lie in, one plaintext gives one object, and every change
//! of it is refused.
use millrace_layout::{REGION_BYTES, SEGMENT_BYTES};
use millrace_vault::{
    CHUNK_BYTES_MAX, ChunkId, Damaged, HEADER_BYTES, HeadBuf, Header, RawPiece, Vault,
};
use proptest::prelude::*;

fn vault() -> Vault {
    Vault::from_kek(&[7; 32])
}

/// Bytes that differ from segment to segment.
fn plain(bytes: usize, seed: u8) -> Vec<u8> {
    (0..bytes).map(|i| (i ^ (i >> 7) ^ (i >> 14)) as u8 ^ seed).collect()
}

/// The plaintext, cut at `cuts`, each part in memory of its own.
fn pieces(plain: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (plain.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(plain.len());
    let mut from = 0;
    cuts.into_iter().map(|to| plain[std::mem::replace(&mut from, to)..to].to_vec()).collect()
}

fn raw(pieces: &mut [Vec<u8>]) -> Vec<RawPiece> {
    pieces.iter_mut().map(|p| RawPiece { ptr: p.as_mut_ptr(), len: p.len() }).collect()
}

/// No file of failures: the inputs are printed, and belong in a test of their own.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn the_cut_of_memory_changes_nothing(
        bytes in 1..6 * SEGMENT_BYTES,
        cuts in prop::collection::vec(any::<usize>(), 0..12),
        seed in any::<u8>(),
    ) {
        let vault = vault();
        let plain = plain(bytes, seed);
        let mut whole = plain.clone();
        let mut whole_head = HeadBuf::new();
        let id = vault.seal_buffer(&mut whole, &mut whole_head);

        let mut parts = pieces(&plain, &cuts);
        prop_assert_eq!(vault.chunk_id_of(parts.iter().map(Vec::as_slice)), id);
        let runs = raw(&mut parts);
        let mut head = HeadBuf::new();
        // SAFETY: the parts are ours, and nobody looks at them while they are sealed.
        unsafe { vault.seal_pieces(&id, &runs, &mut head) };
        prop_assert!(parts.concat() == whole);
        prop_assert_eq!(head.bytes(), whole_head.bytes());

        // SAFETY: as for sealing.
        prop_assert_eq!(unsafe { vault.unseal_pieces(&id, &runs, &head) }, Ok(()));
        prop_assert_eq!(parts.concat(), plain);
    }

    #[test]
    fn any_run_of_segments_opens_alone(
        bytes in 1..6 * SEGMENT_BYTES, first in 0..6usize, count in 1..6usize,
    ) {
        let vault = vault();
        let plain = plain(bytes, 3);
        let mut data = plain.clone();
        let mut head = HeadBuf::new();
        let id = vault.seal_buffer(&mut data, &mut head);
        let header = Header::parse(head.bytes(), &vault, &id).unwrap();
        let first = first % header.segments;
        let behind = (first + count).min(header.segments);
        let range = first * SEGMENT_BYTES..(behind * SEGMENT_BYTES).min(bytes);
        let tags = &head.bytes()[header.tags()][first * 16..behind * 16];
        prop_assert_eq!(vault.open_segments(1, &id, first, &mut data[range.clone()], tags), Ok(()));
        prop_assert_eq!(&data[range.clone()], &plain[range]);
    }

    #[test]
    fn no_header_makes_the_parser_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..64usize, with in any::<u64>(),
    ) {
        let vault = vault();
        let id = vault.chunk_id_of([&b"x"[..]]);
        prop_assert_eq!(Header::parse(&bytes, &vault, &id), Err(Damaged));
        let mut head = HeadBuf::new();
        let id = vault.seal_buffer(&mut [1; 100], &mut head);
        let mut changed = head.bytes().to_vec();
        changed[at..at + 8].copy_from_slice(&with.to_le_bytes());
        prop_assume!(changed != head.bytes());
        let parsed = Header::parse(&changed, &vault, &id);
        // Only tags and padding may differ behind an intact header.
        prop_assert_eq!(parsed.is_ok(), changed[..HEADER_BYTES] == head.bytes()[..HEADER_BYTES]);
    }
}

/// Open a whole object the way a reader does.
fn open(vault: &Vault, id: &ChunkId, object: &[u8]) -> Result<Vec<u8>, Damaged> {
    let header = Header::parse(object, vault, id)?;
    let mut data = object.get(header.data_offset..header.object_bytes()).ok_or(Damaged)?.to_vec();
    vault.open_segments(header.epoch, id, 0, &mut data, &object[header.tags()])?;
    Ok(data)
}

#[test]
fn every_changed_bit_of_an_object_is_refused() {
    let vault = vault();
    let plain = plain(200, 9);
    let mut data = plain.clone();
    let mut head = HeadBuf::new();
    let id = vault.seal_buffer(&mut data, &mut head);
    let mut object = [head.bytes(), &data].concat();
    assert_eq!(open(&vault, &id, &object), Ok(plain.clone()));
    let header = Header::parse(&object, &vault, &id).unwrap();
    let padding = header.tags().end..header.data_offset;
    for bit in 0..object.len() * 8 {
        // The vault never looks at the padding: the store's reader and the decoder do.
        if padding.contains(&(bit / 8)) {
            continue;
        }
        object[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&vault, &id, &object), Err(Damaged), "bit {bit}");
        object[bit / 8] ^= 1 << (bit % 8);
    }
    for bytes in 0..object.len() {
        assert_eq!(open(&vault, &id, &object[..bytes]), Err(Damaged), "{bytes} bytes of it");
    }
    assert_eq!(open(&vault, &id, &object), Ok(plain));
}

#[test]
fn an_object_opens_under_its_own_id_key_and_place_only() {
    let vault = vault();
    let mut data = plain(3 * SEGMENT_BYTES, 1);
    let mut head = HeadBuf::new();
    let id = vault.seal_buffer(&mut data, &mut head);
    let object = [head.bytes(), &data].concat();
    let mut other_id = id;
    other_id.0[31] ^= 1;
    assert_eq!(open(&vault, &other_id, &object), Err(Damaged));
    assert_eq!(open(&Vault::from_kek(&[8; 32]), &id, &object), Err(Damaged));
    // The segments of a chunk do not open in each other's place, nor with a tag more or less.
    let header = Header::parse(&object, &vault, &id).unwrap();
    let tags = &object[header.tags()];
    let mut segment = data[..SEGMENT_BYTES].to_vec();
    assert_eq!(vault.open_segments(1, &id, 1, &mut segment, &tags[..16]), Err(Damaged));
    assert_eq!(vault.open_segments(1, &id, 0, &mut segment.clone(), &tags[..15]), Err(Damaged));
    assert_eq!(vault.open_segments(1, &id, 0, &mut segment.clone(), &tags[..32]), Err(Damaged));
}

#[test]
fn pieces_that_were_changed_after_sealing_do_not_open_again() {
    let vault = vault();
    let plain = plain(3 * SEGMENT_BYTES, 5);
    let id = vault.chunk_id_of([&plain[..]]);
    // The first and the last segment lie whole, the one between them straddles.
    for changed in [0, SEGMENT_BYTES, 2 * SEGMENT_BYTES - 1, 3 * SEGMENT_BYTES - 1] {
        let mut parts = pieces(&plain, &[SEGMENT_BYTES + 100]);
        let (runs, mut head) = (raw(&mut parts), HeadBuf::new());
        // SAFETY: the parts are ours alone.
        unsafe { vault.seal_pieces(&id, &runs, &mut head) };
        let (part, at) = match changed.checked_sub(parts[0].len()) {
            Some(at) => (1, at),
            None => (0, changed),
        };
        parts[part][at] ^= 1;
        let runs = raw(&mut parts);
        // SAFETY: as above.
        assert_eq!(unsafe { vault.unseal_pieces(&id, &runs, &head) }, Err(Damaged), "{changed}");
    }
}

#[test]
#[should_panic(expected = "no chunk has 0 bytes")]
fn there_is_no_empty_chunk() {
    vault().seal_buffer(&mut [], &mut HeadBuf::new());
}

#[test]
fn the_head_says_where_ciphertext_starts() {
    for (bytes, segments, offset) in [
        (1, 1, 128),
        (SEGMENT_BYTES, 1, 128),
        (4 * SEGMENT_BYTES - 1, 4, 128),
        (4 * SEGMENT_BYTES, 4, 4096),
        (REGION_BYTES, 256, 8192),
        (CHUNK_BYTES_MAX, 4096, 69632),
    ] {
        let header = Header::of(bytes);
        assert_eq!((header.segments, header.data_offset), (segments, offset), "{bytes} bytes");
    }
}
