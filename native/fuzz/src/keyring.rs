//! The key ring of a rotated store: only what was sealed for this store, epoch and key opens; and whatever is in it, it is
//! keys or damaged.
use crate::guard::at_the_end;
use crate::records::Input;
use millrace_vault::{EPOCHS_MAX, FIRST_EPOCH, KeyRing, Vault};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;

const KEK: [u8; 32] = [9; 32];
const NEXT_KEK: [u8; 32] = [10; 32];
const STORE: &[u8] = b"a store";
/// version ‖ epoch, then salt.
const PREFIX_BYTES: usize = 5;
const HEAD_BYTES: usize = PREFIX_BYTES + 32;
const HASHING_BYTES: usize = 3 * 32;
const EPOCH_BYTES: usize = 4 + 2 * 32;

struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

fn prefix(epoch: u32) -> [u8; PREFIX_BYTES] {
    let mut bytes = [1; PREFIX_BYTES];
    bytes[1..].copy_from_slice(&epoch.to_le_bytes());
    bytes
}

/// Seals as FORMAT.md says, so that what is inside can lie: who has the key could.
fn forge(epoch: u32, plain: &[u8]) -> Vec<u8> {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"millrace v1").extract(&KEK);
    let mut key = [0; 32];
    let filled = prk.expand(&[b"millrace v1 ring key"], Length).and_then(|okm| okm.fill(&mut key));
    assert!(filled.is_ok());
    let salt = [5; 32];
    let key = *blake3::keyed_hash(&key, &salt).as_bytes();
    let mut out = [&prefix(epoch)[..], &salt, plain].concat();
    let Ok(key) = UnboundKey::new(&AES_256_GCM, &key) else { unreachable!() };
    let aad = Aad::from([&prefix(epoch)[..], STORE].concat());
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let tag = LessSafeKey::new(key).seal_in_place_separate_tag(nonce, aad, &mut out[HEAD_BYTES..]);
    let Ok(tag) = tag else { unreachable!() };
    out.extend_from_slice(tag.as_ref());
    out
}

/// Input: what to do, u8; the epoch, u16; then a ring, or (1) what is in one, or (2) the place of a bit, u16.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    let (Some(how), Some(epoch)) = (input.byte(), input.short()) else { return };
    let epoch = epoch as u32;
    match how {
        0 => assert!(unlock(epoch, input.0).is_none(), "a ring that nobody sealed was opened"),
        1 => forged(epoch, input.0),
        _ => changed(input.short().unwrap_or_default()),
    }
}

fn unlock(epoch: u32, sealed: &[u8]) -> Option<Vault> {
    at_the_end(sealed, |sealed| Vault::unlock(&KEK, &KeyRing { store: STORE, epoch, sealed }).ok())
}

/// What is sealed with the right key is still held against itself.
fn forged(epoch: u32, plain: &[u8]) {
    let Some(vault) = unlock(epoch, &forge(epoch, plain)) else { return };
    assert_eq!(vault.epoch(), epoch);
    let epochs = plain[HASHING_BYTES..].chunks_exact(EPOCH_BYTES);
    assert!(epochs.remainder().is_empty() && epochs.len() < EPOCHS_MAX);
    // It is a vault like any other.
    let mut out = [0; 128];
    let Some(bytes) = vault.seal_value_into(b"key", b"value", &mut out) else { unreachable!() };
    let mut opened = [0; 16];
    assert_eq!(vault.open_value_into(b"key", &out[..bytes], &mut opened), Ok(5));
}

/// A ring of ours opens; with any bit changed, in another store, or by another key it does not.
fn changed(bit: usize) {
    let first = Vault::from_kek(&NEXT_KEK);
    let Ok(sealed) = first.rotated_ring(&KEK, STORE) else { panic!("a key was not rotated") };
    let epoch = FIRST_EPOCH + 1;
    assert!(unlock(epoch, &forge(epoch, &[7; HASHING_BYTES])).is_some(), "forgeries do not count");
    assert!(unlock(epoch, &sealed).is_some());
    let mut other = sealed.clone();
    other[bit / 8 % sealed.len()] ^= 1 << (bit % 8);
    assert!(unlock(epoch, &other).is_none(), "bit {bit} was changed");
    assert!(unlock(epoch, &sealed[..sealed.len() - 1]).is_none());
    assert!(unlock(epoch + 1, &sealed).is_none());
    let elsewhere = KeyRing { store: b"another", epoch, sealed: &sealed };
    assert!(Vault::unlock(&KEK, &elsewhere).is_err());
    let here = KeyRing { store: STORE, epoch, sealed: &sealed };
    assert!(Vault::unlock(&NEXT_KEK, &here).is_err());
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let input =
        |how: u8, epoch: u16, rest: &[u8]| [&[how], &epoch.to_le_bytes()[..], rest].concat();
    let epochs = |numbers: &[u32]| {
        let keys = numbers.iter().flat_map(|number| [&number.to_le_bytes()[..], &[7; 64]].concat());
        [3; HASHING_BYTES].into_iter().chain(keys).collect::<Vec<u8>>()
    };
    vec![
        ("sealed-otherwise", input(0, 2, &forge(3, &epochs(&[2, 1])))),
        ("two-epochs", input(1, 2, &epochs(&[1]))),
        ("three-epochs", input(1, 3, &epochs(&[2, 1]))),
        ("same-epoch-twice", input(1, 3, &epochs(&[1, 1]))),
        ("own-epoch", input(1, 3, &epochs(&[3]))),
        ("cut-off", input(1, 3, &epochs(&[2])[..130])),
        ("none", input(1, 2, &epochs(&[]))),
        ("changed", input(2, 0, &[40, 1])),
    ]
}
