//! Keys that were rotated: what was sealed before opens, what is sealed now opens with the new key
//! alone, and what is dropped from the ring is gone.
use millrace_vault::{
    ChunkId, Damaged, EPOCHS_MAX, HeadBuf, Header, KeyRing, RotationError, VALUE_OVERHEAD_BYTES,
    Vault,
};
use proptest::prelude::*;

const STORE: &[u8] = b"6b0fd6b2-5f5e-4c43-8f5c-c1b2c25f3a51";
const KEKS: [[u8; 32]; 3] = [[1; 32], [2; 32], [3; 32]];

/// The vault after so many rotations, and the ring that its key opened.
fn rotated(rotations: usize) -> (Vault, Vec<u8>) {
    let mut vault = Vault::from_kek(&KEKS[0]);
    let mut sealed = Vec::new();
    for (n, kek) in KEKS.iter().enumerate().skip(1).take(rotations) {
        sealed = vault.rotated_ring(kek, STORE).unwrap();
        let ring = KeyRing { store: STORE, epoch: n as u32 + 1, sealed: &sealed };
        vault = Vault::unlock(kek, &ring).unwrap();
    }
    (vault, sealed)
}

fn seal(vault: &Vault, plain: &[u8]) -> (ChunkId, Vec<u8>) {
    let mut data = plain.to_vec();
    let mut head = HeadBuf::new();
    let id = vault.seal_buffer(&mut data, &mut head);
    (id, [head.bytes(), &data].concat())
}

fn open(vault: &Vault, id: &ChunkId, object: &[u8]) -> Result<Vec<u8>, Damaged> {
    let header = Header::parse(object, vault, id)?;
    let mut data = object.get(header.data_offset..header.object_bytes()).ok_or(Damaged)?.to_vec();
    vault.open_segments(header.epoch, id, 0, &mut data, &object[header.tags()])?;
    Ok(data)
}

fn seal_value(vault: &Vault, key: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0; plain.len() + VALUE_OVERHEAD_BYTES];
    assert_eq!(vault.seal_value_into(key, plain, &mut out), Some(out.len()));
    out
}

fn open_value(vault: &Vault, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Damaged> {
    let mut out = vec![0; sealed.len()];
    let bytes = vault.open_value_into(key, sealed, &mut out)?;
    out.truncate(bytes);
    Ok(out)
}

#[test]
fn every_key_opens_its_own_epoch_and_those_before() {
    let vaults: Vec<Vault> = (0..3).map(|rotations| rotated(rotations).0).collect();
    assert_eq!(vaults[2].epochs(), [3, 2, 1]);
    let sealed: Vec<_> = vaults.iter().map(|vault| seal(vault, b"the same")).collect();
    let values: Vec<_> = vaults.iter().map(|vault| seal_value(vault, b"k", b"v")).collect();
    for (opener, vault) in vaults.iter().enumerate() {
        assert_eq!(vault.epoch() as usize, opener + 1);
        for (sealer, (id, object)) in sealed.iter().enumerate() {
            assert_eq!(id, &sealed[0].0, "an id is the same in all epochs");
            assert_eq!(Header::claimed_epoch(object), Some(sealer as u32 + 1));
            let opened = open(vault, id, object);
            let value = open_value(vault, b"k", &values[sealer]);
            if sealer <= opener {
                assert_eq!((opened, value), (Ok(b"the same".to_vec()), Ok(b"v".to_vec())));
            } else {
                assert_eq!((opened, value), (Err(Damaged), Err(Damaged)), "{sealer} by {opener}");
            }
        }
    }
    // Not one byte of ciphertext is shared between epochs beyond chance: other keys sealed it.
    assert_ne!(sealed[0].1[128..], sealed[1].1[128..]);
    assert_ne!(sealed[1].1[128..], sealed[2].1[128..]);
}

#[test]
fn what_hashes_stays_and_what_a_key_is_known_by_does_not() {
    let (first, second) = (rotated(0).0, rotated(1).0);
    assert_eq!(first.name_hash(7, b"name"), second.name_hash(7, b"name"));
    assert_eq!(first.tree_hash(b"part"), second.tree_hash(b"part"));
    assert_ne!(first.check(), second.check());
    assert_eq!(second.check(), Vault::check_of(&KEKS[1]));
}

#[test]
fn an_epoch_that_was_dropped_opens_nothing_any_more() {
    let (second, _) = rotated(1);
    let old = seal(&rotated(0).0, b"old");
    let old_value = seal_value(&rotated(0).0, b"k", b"v");
    assert_eq!(second.ring_of_current_epoch(&KEKS[0], STORE), Err(Damaged));
    let sealed = second.ring_of_current_epoch(&KEKS[1], STORE).unwrap();
    let ring = KeyRing { store: STORE, epoch: 2, sealed: &sealed };
    let vault = Vault::unlock(&KEKS[1], &ring).unwrap();
    assert_eq!(vault.epochs(), [2]);
    assert_eq!(open(&vault, &old.0, &old.1), Err(Damaged));
    assert_eq!(open_value(&vault, b"k", &old_value), Err(Damaged));
    let fresh = seal(&second, b"fresh");
    assert_eq!(open(&vault, &fresh.0, &fresh.1), Ok(b"fresh".to_vec()));
    assert_eq!(vault.name_hash(1, b"n"), second.name_hash(1, b"n"));
}

#[test]
fn a_key_that_was_used_before_is_refused() {
    let (third, _) = rotated(2);
    for kek in KEKS {
        assert_eq!(third.rotated_ring(&kek, STORE), Err(RotationError::KeyReused));
    }
    // The first key stays known by what hashes, even when its epoch is gone.
    let sealed = third.ring_of_current_epoch(&KEKS[2], STORE).unwrap();
    let ring = KeyRing { store: STORE, epoch: 3, sealed: &sealed };
    let vault = Vault::unlock(&KEKS[2], &ring).unwrap();
    assert_eq!(vault.rotated_ring(&KEKS[0], STORE), Err(RotationError::KeyReused));
}

#[test]
fn a_ring_has_room_for_so_many_epochs_and_no_more() {
    let mut vault = Vault::from_kek(&[0xee; 32]);
    for epoch in 2..=EPOCHS_MAX as u32 {
        let kek = [epoch as u8; 32];
        let sealed = vault.rotated_ring(&kek, STORE).unwrap();
        vault = Vault::unlock(&kek, &KeyRing { store: STORE, epoch, sealed: &sealed }).unwrap();
    }
    assert_eq!(vault.epochs().len(), EPOCHS_MAX);
    assert_eq!(vault.rotated_ring(&[0xdd; 32], STORE), Err(RotationError::TooManyEpochs));
}

#[test]
fn a_ring_opens_under_its_own_key_store_and_epoch_only() {
    let (_, sealed) = rotated(1);
    let open = |kek: &[u8; 32], store: &[u8], epoch: u32, sealed: &[u8]| {
        Vault::unlock(kek, &KeyRing { store, epoch, sealed }).map(|vault| vault.epoch())
    };
    assert_eq!(open(&KEKS[1], STORE, 2, &sealed), Ok(2));
    assert_eq!(open(&KEKS[0], STORE, 2, &sealed), Err(Damaged));
    assert_eq!(open(&KEKS[1], b"another store", 2, &sealed), Err(Damaged));
    assert_eq!(open(&KEKS[1], STORE, 3, &sealed), Err(Damaged));
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&KEKS[1], STORE, 2, &changed), Err(Damaged), "bit {bit}");
    }
    for bytes in 0..sealed.len() {
        assert_eq!(open(&KEKS[1], STORE, 2, &sealed[..bytes]), Err(Damaged), "{bytes} bytes");
    }
}

#[test]
fn no_key_stands_in_a_ring_or_two_rings_alike() {
    let (_, sealed) = rotated(1);
    assert_ne!(sealed, rotated(1).1);
    for kek in KEKS {
        assert!(!sealed.windows(8).any(|window| window == &kek[..8]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_of_a_ring_make_opening_panic(
        sealed in prop::collection::vec(any::<u8>(), 0..400), epoch in any::<u32>(),
    ) {
        let ring = KeyRing { store: STORE, epoch, sealed: &sealed };
        prop_assert!(Vault::unlock(&KEKS[1], &ring).is_err());
    }
}
