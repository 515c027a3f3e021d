//! Sealed values and hashed names.
use millrace_vault::{Damaged, VALUE_OVERHEAD_BYTES, Vault};
use proptest::prelude::*;
use std::collections::HashSet;

fn vault() -> Vault {
    Vault::from_kek(&[7; 32])
}

fn seal(vault: &Vault, key: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0; plain.len() + VALUE_OVERHEAD_BYTES];
    assert_eq!(vault.seal_value_into(key, plain, &mut out), Some(out.len()));
    out
}

fn open(vault: &Vault, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Damaged> {
    let mut out = vec![0; sealed.len()];
    let bytes = vault.open_value_into(key, sealed, &mut out)?;
    out.truncate(bytes);
    Ok(out)
}

/// No file of failures: the inputs are printed, and belong in a test of their own.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn values_come_back(
        key in prop::collection::vec(any::<u8>(), 0..511),
        plain in prop::collection::vec(any::<u8>(), 0..5000),
    ) {
        let vault = vault();
        prop_assert_eq!(open(&vault, &key, &seal(&vault, &key, &plain)), Ok(plain));
    }

    #[test]
    fn no_bytes_make_opening_panic(
        key in prop::collection::vec(any::<u8>(), 0..600),
        sealed in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        prop_assert_eq!(open(&vault(), &key, &sealed), Err(Damaged));
    }
}

#[test]
fn every_changed_bit_is_refused() {
    let vault = vault();
    let mut sealed = seal(&vault, b"key", b"some value");
    for bit in 0..sealed.len() * 8 {
        sealed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&vault, b"key", &sealed), Err(Damaged), "bit {bit}");
        sealed[bit / 8] ^= 1 << (bit % 8);
    }
    for bytes in 0..sealed.len() {
        assert_eq!(open(&vault, b"key", &sealed[..bytes]), Err(Damaged), "{bytes} bytes of it");
    }
    assert_eq!(open(&vault, b"key", &sealed), Ok(b"some value".to_vec()));
}

#[test]
fn a_value_opens_under_its_own_key_only() {
    let vault = vault();
    let sealed = seal(&vault, b"key a", b"value");
    assert_eq!(open(&vault, b"key b", &sealed), Err(Damaged));
    assert_eq!(open(&vault, b"", &sealed), Err(Damaged));
    assert_eq!(open(&Vault::from_kek(&[8; 32]), b"key a", &sealed), Err(Damaged));
}

#[test]
fn salts_never_repeat_between_threads_and_vaults() {
    let vaults = [vault(), vault()];
    let salts: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let vault = &vaults[n % 2];
                scope.spawn(move || {
                    (0..500).map(|_| seal(vault, b"k", b"")[5..29].to_vec()).collect()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| -> Vec<Vec<u8>> { thread.join().unwrap() }).collect()
    });
    assert_eq!(salts.iter().collect::<HashSet<_>>().len(), 2000);
}

#[test]
fn room_and_keys_have_bounds() {
    let vault = vault();
    let mut out = [0; VALUE_OVERHEAD_BYTES + 5];
    assert_eq!(vault.seal_value_into(b"k", b"123456", &mut out), None);
    assert_eq!(vault.seal_value_into(&[0; 512], b"", &mut out), None);
    assert_eq!(vault.seal_value_into(&[0; 511], b"12345", &mut out), Some(out.len()));
    assert_eq!(vault.open_value_into(&[0; 511], &out, &mut [0; 4]), Err(Damaged));
    assert_eq!(vault.open_value_into(&[0; 511], &out, &mut [0; 5]), Ok(5));
}

#[test]
fn names_hash_by_directory_and_key() {
    let vault = vault();
    let hash = vault.name_hash(1, b"a");
    assert_eq!(hash, vault.name_hash(1, b"a"));
    let others = [
        vault.name_hash(2, b"a"),
        vault.name_hash(1, b"b"),
        vault.name_hash(1, b"a\0"),
        Vault::from_kek(&[8; 32]).name_hash(1, b"a"),
    ];
    assert!(!others.contains(&hash));
}

#[test]
fn keys_are_not_shown() {
    let vault = vault();
    assert_eq!(format!("{vault:?}"), "Vault");
    assert_ne!(vault.check(), Vault::from_kek(&[8; 32]).check());
    assert_eq!(vault.check(), Vault::from_kek(&[7; 32]).check());
}

#[test]
fn hashes_of_trees_are_keyed_and_apart_from_all_others() {
    let hash = vault().tree_hash(b"part");
    assert_eq!(hash, vault().tree_hash(b"part"));
    assert_ne!(hash, vault().tree_hash(b"parT"));
    assert_ne!(hash, Vault::from_kek(&[8; 32]).tree_hash(b"part"));
    assert_ne!(hash, vault().chunk_id_of([&b"part"[..]]).0);
}

#[test]
fn a_chunk_has_the_same_id_in_parts() {
    let mut hasher = vault().chunk_hasher();
    hasher.update(b"some");
    hasher.update(b"thing");
    hasher.update_zeros(40_000);
    let whole = [&b"something"[..], &vec![0; 40_000]].concat();
    assert_eq!(hasher.id(), vault().chunk_id_of([&whole[..]]));
}
