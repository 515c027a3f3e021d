//! The key ring: what a rotated store needs of its earlier keys, sealed under the current one.
//!
//! It holds derived keys and never an earlier tenant's key: what is dropped from it is gone.
use crate::keys::{EPOCHS_MAX, EpochKeys, Keys, Source, random};
use crate::{Damaged, FORMAT_VERSION, TAG_BYTES, Vault};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use zeroize::Zeroizing;

/// version u8 ‖ epoch u32
const PREFIX_BYTES: usize = 5;
const SALT_BYTES: usize = 32;
const HEAD_BYTES: usize = PREFIX_BYTES + SALT_BYTES;
const KEY_BYTES: usize = 32;
/// id key ‖ name key ‖ tree key
const HASHING_BYTES: usize = 3 * KEY_BYTES;
/// epoch u32 ‖ chunk key ‖ value key
const EPOCH_BYTES: usize = 4 + 2 * KEY_BYTES;

/// A key ring as a store holds it.
#[derive(Clone, Copy, Debug)]
pub struct KeyRing<'a> {
    /// Names the store: 1 to 64 bytes.
    pub store: &'a [u8],
    /// The epoch of the key that it is sealed under.
    pub epoch: u32,
    /// Its bytes.
    pub sealed: &'a [u8],
}

/// Why a key cannot be rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationError {
    /// The new key is, or was, a key of the store.
    KeyReused,
    /// Objects of too many epochs are in the store: they have to be sealed anew first.
    TooManyEpochs,
}

fn prefix(epoch: u32) -> [u8; PREFIX_BYTES] {
    let mut bytes = [FORMAT_VERSION; PREFIX_BYTES];
    bytes[1..].copy_from_slice(&epoch.to_le_bytes());
    bytes
}

fn cipher(source: &Source, salt: &[u8]) -> Result<LessSafeKey, Damaged> {
    let key = Zeroizing::new(*blake3::keyed_hash(&source.ring_key(), salt).as_bytes());
    UnboundKey::new(&AES_256_GCM, key.as_slice()).map(LessSafeKey::new).map_err(|_| Damaged)
}

/// The key is used for one ring, because of its salt, so the nonce may be constant.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// What a ring is bound to: version, epoch, store.
fn binding(epoch: u32, store: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([&prefix(epoch)[..], store].concat())
}

fn seal(
    source: &Source,
    epoch: u32,
    store: &[u8],
    plain: &[u8],
    salt: [u8; SALT_BYTES],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + plain.len() + TAG_BYTES);
    out.extend(prefix(epoch));
    out.extend(salt);
    out.extend(plain);
    let data = &mut out[HEAD_BYTES..];
    let tag = cipher(source, &salt).and_then(|cipher| {
        let sealed = cipher.seal_in_place_separate_tag(nonce(), binding(epoch, store), data);
        sealed.map_err(|_| Damaged)
    });
    // GCM refuses only what is longer than 64 GiB. Going on would give keys away, so never do.
    let tag = tag.unwrap_or_else(|_| unreachable!("AES-GCM refused a key ring"));
    out.extend(tag.as_ref());
    out
}

fn open(source: &Source, ring: &KeyRing<'_>) -> Result<Zeroizing<Vec<u8>>, Damaged> {
    let (head, body) = ring.sealed.split_at_checked(HEAD_BYTES).ok_or(Damaged)?;
    let (head_prefix, salt) = head.split_at(PREFIX_BYTES);
    if head_prefix != prefix(ring.epoch) {
        return Err(Damaged);
    }
    let length = body.len().checked_sub(TAG_BYTES).ok_or(Damaged)?;
    let (data, tag) = body.split_at(length);
    let tag: [u8; TAG_BYTES] = tag.try_into().map_err(|_| Damaged)?;
    let mut plain = Zeroizing::new(data.to_vec());
    let aad = binding(ring.epoch, ring.store);
    cipher(source, salt)?
        .open_in_place_separate_tag(nonce(), aad, Tag::from(tag), &mut plain, 0..)
        .map_err(|_| Damaged)?;
    Ok(plain)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Damaged> {
    let (first, rest) = bytes.split_at_checked(count).ok_or(Damaged)?;
    *bytes = rest;
    Ok(first)
}

fn fill(keys: &mut Keys, mut plain: &[u8]) -> Result<(), Damaged> {
    for key in [&mut keys.id, &mut keys.name, &mut keys.tree] {
        key.copy_from_slice(take(&mut plain, KEY_BYTES)?);
    }
    while !plain.is_empty() {
        let number = take(&mut plain, 4)?.try_into().map_err(|_| Damaged)?;
        let chunk = take(&mut plain, KEY_BYTES)?;
        let value = take(&mut plain, KEY_BYTES)?;
        keys.add(u32::from_le_bytes(number), chunk, value)?;
    }
    Ok(())
}

/// What a ring holds: the keys that hash, and those of some epochs, newest first.
fn plaintext(keys: &Keys, epochs: &[EpochKeys]) -> Zeroizing<Vec<u8>> {
    // No growing, which would leave copies behind.
    let mut out = Zeroizing::new(Vec::with_capacity(HASHING_BYTES + EPOCH_BYTES * EPOCHS_MAX));
    for key in [&keys.id, &keys.name, &keys.tree] {
        out.extend_from_slice(key);
    }
    for epoch in epochs {
        out.extend_from_slice(&epoch.number.to_le_bytes());
        out.extend_from_slice(&epoch.chunk);
        out.extend_from_slice(&epoch.value);
    }
    out
}

impl Vault {
    /// The keys of a rotated store, from the key of its current epoch. The caller wipes its copy.
    /// `Damaged` when the ring is not the store's, or sealed under another key.
    pub fn unlock(kek: &[u8; 32], ring: &KeyRing<'_>) -> Result<Self, Damaged> {
        let source = Source::new(kek);
        let plain = open(&source, ring)?;
        Self::of_epoch(&source, ring.epoch, |keys| fill(keys, &plain))
    }

    /// The ring of the next epoch, under its key: with it the new key opens all that this vault
    /// opens. The caller wipes its copy of the key.
    pub fn rotated_ring(&self, new_kek: &[u8; 32], store: &[u8]) -> Result<Vec<u8>, RotationError> {
        self.rotated_ring_with_salt(new_kek, store, random())
    }

    /// As above; the salt must never have been used under this key.
    pub(crate) fn rotated_ring_with_salt(
        &self,
        new_kek: &[u8; 32],
        store: &[u8],
        salt: [u8; SALT_BYTES],
    ) -> Result<Vec<u8>, RotationError> {
        let source = Source::new(new_kek);
        if self.has_had(&source) {
            return Err(RotationError::KeyReused);
        }
        let epochs = self.keys().epochs();
        let next = self.epoch().checked_add(1).ok_or(RotationError::TooManyEpochs)?;
        if epochs.len() >= EPOCHS_MAX {
            return Err(RotationError::TooManyEpochs);
        }
        Ok(seal(&source, next, store, &plaintext(self.keys(), epochs), salt))
    }

    /// The ring without the keys of older epochs, under the key of the current one, which the
    /// caller gives once more: what these sealed opens never again. `Damaged` when it is another
    /// key.
    pub fn ring_of_current_epoch(&self, kek: &[u8; 32], store: &[u8]) -> Result<Vec<u8>, Damaged> {
        let source = Source::new(kek);
        if source.check() != self.check() {
            return Err(Damaged);
        }
        Ok(seal(&source, self.epoch(), store, &plaintext(self.keys(), &[]), random()))
    }

    /// The value by which a store recognises a key; it tells nothing about the key.
    #[must_use]
    pub fn check_of(kek: &[u8; 32]) -> [u8; 32] {
        Source::new(kek).check()
    }
}
