//! Keys from files, and their rotation. Paths go in, and what is sealed comes out; JavaScript sees a key as it checks or makes the key's file
//! (`bin/key-file.ts`), in buffers that are wiped, and never otherwise.
use crate::failed;
use millrace_store::{KeySearch, SearchProgress, Searched};
use millrace_vault::{KeyRing, RotationError, Vault};
use napi::bindgen_prelude::{AsyncTask, Buffer};
use napi::{Env, Result, Task};
use napi_derive::napi;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// Remembers a store's keys until it is forgotten, to search for them where none may be any more.
#[napi]
#[derive(Debug)]
pub struct KeyWitness {
    /// Shared methods alone: Node-API lends one value to one caller at a time when it may be changed.
    search: Mutex<Arc<KeySearch>>,
    progress: Arc<SearchProgress>,
}

#[napi]
impl KeyWitness {
    /// Reads the key of a store and, with its ring, all that come from it, and the keys of further files.
    #[napi(constructor)]
    pub fn new(key_file: String, ring: Option<KeyRingView>, others: Vec<String>) -> Result<Self> {
        let mut search = KeySearch::default();
        let vault = read_vault(&key_file, ring.as_ref())?;
        vault.each_key(|name, key| search.add(name, key));
        for file in [key_file].iter().chain(&others) {
            search.add("the key itself", &*read_key(file)?);
        }
        Ok(Self { search: Mutex::new(Arc::new(search)), progress: Arc::default() })
    }

    fn searched(&self) -> MutexGuard<'_, Arc<KeySearch>> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many keys are looked for.
    #[napi]
    pub fn keys(&self) -> u32 {
        self.searched().keys() as u32
    }

    /// Files that were searched so far, and bytes of them.
    #[napi]
    pub fn progress(&self) -> Vec<f64> {
        // ORDER: numbers for people.
        [&self.progress.files, &self.progress.bytes]
            .map(|number| number.load(Ordering::Relaxed) as f64)
            .to_vec()
    }

    /// Look for the keys in every file below a directory. Once: what it counts is not counted anew.
    #[napi(ts_return_type = "Promise<SearchReport>")]
    pub fn search(&self, directory: String, threads: u32) -> AsyncTask<SearchTask> {
        AsyncTask::new(SearchTask {
            search: self.searched().clone(),
            progress: self.progress.clone(),
            directory: directory.into(),
            threads,
        })
    }

    /// Wipe the keys. A search that is under way keeps them until it ends.
    #[napi]
    pub fn forget(&self) {
        *self.searched() = Arc::default();
    }
}

/// What a search for keys found.
#[napi(object)]
#[derive(Debug)]
pub struct SearchReport {
    /// Files that were read.
    pub files: f64,
    /// Bytes of them.
    pub bytes: f64,
    /// "name: path" of each key that was found, in order.
    pub found: Vec<String>,
}

/// A search for keys on its way.
#[derive(Debug)]
pub struct SearchTask {
    search: Arc<KeySearch>,
    progress: Arc<SearchProgress>,
    directory: PathBuf,
    threads: u32,
}

impl Task for SearchTask {
    type Output = Searched;
    type JsValue = SearchReport;

    fn compute(&mut self) -> Result<Searched> {
        self.search
            .run(&self.directory, self.threads as usize, &self.progress)
            .map_err(|error| failed(error.to_string()))
    }

    fn resolve(&mut self, _env: Env, searched: Searched) -> Result<SearchReport> {
        let told = searched.found.iter().map(|key| format!("{}: {}", key.name, key.path.display()));
        Ok(SearchReport {
            files: searched.files as f64,
            bytes: searched.bytes as f64,
            found: told.collect(),
        })
    }
}
