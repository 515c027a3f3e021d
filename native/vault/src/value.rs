//! Sealed values of the tree. Each has a key of its own, derived from a salt that never repeats;
//! see FORMAT.md.
use crate::keys::EpochKeys;
use crate::{Damaged, TAG_BYTES, Vault};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use zeroize::Zeroizing;

/// version u8 ‖ epoch u32
const PREFIX_BYTES: usize = 5;
pub(crate) const SALT_BYTES: usize = 24;
const HEAD_BYTES: usize = PREFIX_BYTES + SALT_BYTES;
/// Layout of what is sealed.
const VERSION: u8 = 2;
/// The layout before, which has no check.
const UNCHECKED_VERSION: u8 = 1;
/// CRC-32 of the key that the value is stored under.
const CHECK_BYTES: usize = 4;
/// Bytes that sealing adds to a value.
pub const VALUE_OVERHEAD_BYTES: usize = HEAD_BYTES + TAG_BYTES + CHECK_BYTES;
/// The same of the layout before.
const UNCHECKED_OVERHEAD_BYTES: usize = HEAD_BYTES + TAG_BYTES;
/// Keys of the Kv are at most 511 bytes (LMDB's bound).
const KEY_BYTES_MAX: usize = 511;

/// What a value is bound to: its version, its epoch, and the key that it is stored under.
struct Binding {
    bytes: [u8; PREFIX_BYTES + KEY_BYTES_MAX],
    length: usize,
}

impl Binding {
    fn new(version: u8, epoch: u32, key: &[u8]) -> Option<Self> {
        let mut bytes = [0; PREFIX_BYTES + KEY_BYTES_MAX];
        bytes[0] = version;
        bytes[1..PREFIX_BYTES].copy_from_slice(&epoch.to_le_bytes());
        let length = PREFIX_BYTES + key.len();
        bytes.get_mut(PREFIX_BYTES..length)?.copy_from_slice(key);
        Some(Self { bytes, length })
    }

    fn prefix(&self) -> &[u8] {
        &self.bytes[..PREFIX_BYTES]
    }

    fn aad(&self) -> Aad<&[u8]> {
        Aad::from(&self.bytes[..self.length])
    }
}

impl EpochKeys {
    fn value_cipher(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let key = Zeroizing::new(*blake3::keyed_hash(&self.value, salt).as_bytes());
        UnboundKey::new(&AES_256_GCM, key.as_slice()).ok().map(LessSafeKey::new)
    }
}

/// Whether a value can be what was sealed under this key, as far as that can be told without keys:
/// false where one of them is damaged. A value whose key is damaged lies where nobody looks for it,
/// so this is asked of all of them; whether the value itself is whole, opening tells.
#[must_use]
pub fn may_belong(key: &[u8], sealed: &[u8]) -> bool {
    match sealed.first() {
        Some(&VERSION) => {
            sealed.len() >= VALUE_OVERHEAD_BYTES
                && sealed[sealed.len() - CHECK_BYTES..] == check_of(key)
        }
        _ => sealed.len() >= UNCHECKED_OVERHEAD_BYTES,
    }
}

fn check_of(key: &[u8]) -> [u8; CHECK_BYTES] {
    crc32fast::hash(key).to_le_bytes()
}

/// What was sealed, without its check, which must fit; and its version.
fn checked<'a>(key: &[u8], sealed: &'a [u8]) -> Result<(&'a [u8], u8), Damaged> {
    if !may_belong(key, sealed) {
        return Err(Damaged);
    }
    match sealed[0] {
        VERSION => Ok((&sealed[..sealed.len() - CHECK_BYTES], VERSION)),
        UNCHECKED_VERSION => Ok((sealed, UNCHECKED_VERSION)),
        _ => Err(Damaged),
    }
}

/// The epoch that a sealed value says it was sealed in, which nothing has vouched for.
fn claimed_epoch(sealed: &[u8]) -> Result<u32, Damaged> {
    let epoch = sealed.get(1..PREFIX_BYTES).ok_or(Damaged)?;
    epoch.try_into().map(u32::from_le_bytes).map_err(|_| Damaged)
}

impl Vault {
    /// Seal `plain` for storage under `key` into `out`; its bytes. `None` when `out` is too small
    /// for [`VALUE_OVERHEAD_BYTES`] more than `plain`, or `key` is longer than 511 bytes. Makes no
    /// system call.
    pub fn seal_value_into(&self, key: &[u8], plain: &[u8], out: &mut [u8]) -> Option<usize> {
        self.seal_with_salt(key, plain, &self.next_salt(), out)
    }

    /// As above; the salt must never have been used.
    pub(crate) fn seal_with_salt(
        &self,
        key: &[u8],
        plain: &[u8],
        salt: &[u8; SALT_BYTES],
        out: &mut [u8],
    ) -> Option<usize> {
        let length = plain.len() + VALUE_OVERHEAD_BYTES;
        let out = out.get_mut(..length)?;
        let keys = self.keys().current();
        let binding = Binding::new(VERSION, keys.number, key)?;
        let cipher = keys.value_cipher(salt)?;
        out[..PREFIX_BYTES].copy_from_slice(binding.prefix());
        out[PREFIX_BYTES..HEAD_BYTES].copy_from_slice(salt);
        let (data, end) = out[HEAD_BYTES..].split_at_mut(plain.len());
        let (end, check) = end.split_at_mut(TAG_BYTES);
        check.copy_from_slice(&check_of(key));
        data.copy_from_slice(plain);
        // The key is used once, so the nonce may be constant.
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let tag = cipher.seal_in_place_separate_tag(nonce, binding.aad(), data).ok()?;
        end.copy_from_slice(tag.as_ref());
        Some(length)
    }

    /// Open a value that was stored under `key` into `out`; its bytes. Never panics, whatever the
    /// bytes are. Nothing of `out` may be used when this fails.
    pub fn open_value_into(
        &self,
        key: &[u8],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Damaged> {
        let (sealed, version) = checked(key, sealed)?;
        let length = sealed.len() - UNCHECKED_OVERHEAD_BYTES;
        let keys = self.keys().of(claimed_epoch(sealed)?)?;
        let binding = Binding::new(version, keys.number, key).ok_or(Damaged)?;
        if sealed[..PREFIX_BYTES] != *binding.prefix() {
            return Err(Damaged);
        }
        let out = out.get_mut(..length).ok_or(Damaged)?;
        let cipher = keys.value_cipher(&sealed[PREFIX_BYTES..HEAD_BYTES]).ok_or(Damaged)?;
        let (data, tag) = sealed[HEAD_BYTES..].split_at(length);
        let tag: [u8; TAG_BYTES] = tag.try_into().map_err(|_| Damaged)?;
        out.copy_from_slice(data);
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let opened =
            cipher.open_in_place_separate_tag(nonce, binding.aad(), Tag::from(tag), out, 0..);
        opened.map(|_| length).map_err(|_| Damaged)
    }
}
