//! Keys from files, and their rotation. Key material never reaches JavaScript: paths go in, and what is sealed comes out.
use crate::failed;
use millrace_vault::{KeyRing, RotationError, Vault};
use napi::Result;
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;
use zeroize::Zeroizing;

/// The key ring of a store, as its superblock holds it.
#[napi(object)]
pub struct KeyRingView {
    /// The store's name: its uuid.
    pub uuid: String,
    /// Epoch of the key that opens it.
    pub epoch: u32,
    /// Its bytes.
    pub sealed: Buffer,
}

impl KeyRingView {
    fn ring(&self) -> KeyRing<'_> {
        KeyRing { store: self.uuid.as_bytes(), epoch: self.epoch, sealed: &self.sealed }
    }
}

impl std::fmt::Debug for KeyRingView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRingView").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// Read a key file: 64 hexadecimal digits, white space around them.
pub(crate) fn read_key(key_file: &str) -> Result<Zeroizing<[u8; 32]>> {
    let text = std::fs::read(key_file).map_err(|e| failed(format!("{key_file}: {e}")))?;
    let text = Zeroizing::new(text);
    let digits = text.trim_ascii();
    let mut kek = Zeroizing::new([0u8; 32]);
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let valid = digits.len() == 64
        && digits.chunks_exact(2).zip(kek.iter_mut()).all(|(pair, out)| {
            match (digit(pair[0]), digit(pair[1])) {
                (Some(high), Some(low)) => {
                    *out = (high << 4 | low) as u8;
                    true
                }
                _ => false,
            }
        });
    if !valid {
        return Err(failed(format!(
            "{key_file} is not a key file: it must hold 64 hexadecimal digits"
        )));
    }
    Ok(kek)
}

/// The keys of a store.
pub(crate) fn read_vault(key_file: &str, ring: Option<&KeyRingView>) -> Result<Vault> {
    let kek = read_key(key_file)?;
    match ring {
        None => Ok(Vault::from_kek(&kek)),
        Some(ring) => Vault::unlock(&kek, &ring.ring())
            .map_err(|_| failed("the key ring of the store does not open: it is damaged")),
    }
}

/// The value by which a store recognises its key.
#[napi]
pub fn key_check(key_file: String) -> Result<Buffer> {
    Ok(Vault::check_of(&*read_key(&key_file)?).to_vec().into())
}

/// The epochs whose objects a key opens, the current one first.
#[napi]
pub fn key_epochs(key_file: String, ring: Option<KeyRingView>) -> Result<Vec<u32>> {
    Ok(read_vault(&key_file, ring.as_ref())?.epochs())
}

/// The key ring of the next epoch of a store, under the key in another file. Throws "key reused" when the store had that
/// key before, "too many epochs" when objects of as many epochs are in it as a ring can hold.
#[napi]
pub fn rotate_key(
    key_file: String,
    ring: Option<KeyRingView>,
    uuid: String,
    new_key_file: String,
) -> Result<Buffer> {
    let vault = read_vault(&key_file, ring.as_ref())?;
    let new_key = read_key(&new_key_file)?;
    let sealed = vault.rotated_ring(&new_key, uuid.as_bytes()).map_err(|error| {
        failed(match error {
            RotationError::KeyReused => "key reused",
            RotationError::TooManyEpochs => "too many epochs",
        })
    })?;
    Ok(sealed.into())
}

/// The key ring of a store without the keys of earlier epochs.
#[napi]
pub fn drop_epochs(key_file: String, ring: KeyRingView) -> Result<Buffer> {
    let vault = read_vault(&key_file, Some(&ring))?;
    let sealed = vault.ring_of_current_epoch(&*read_key(&key_file)?, ring.uuid.as_bytes());
    Ok(sealed.map_err(|_| failed("the key has changed meanwhile"))?.into())
}
