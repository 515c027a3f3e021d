//! Key material: derived once from the tenant's key, kept in one page that is never dumped or
//! swapped, wiped at the end.
use crate::Damaged;
use ring::hkdf;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use zeroize::{Zeroize, Zeroizing};

/// The epoch of a store whose key was never rotated.
pub const FIRST_EPOCH: u32 = 1;
/// Epochs whose keys a vault can hold, the current one included.
pub const EPOCHS_MAX: usize = 32;

/// Labels of the derivations; part of the format, documented in FORMAT.md.
mod label {
    pub(super) const SALT: &[u8] = b"millrace v1";
    pub(super) const ID: &[u8] = b"millrace v1 id key";
    pub(super) const NAME: &[u8] = b"millrace v1 name key";
    pub(super) const TREE: &[u8] = b"millrace v1 tree key";
    pub(super) const CHECK: &[u8] = b"millrace v1 check";
    pub(super) const RING: &[u8] = b"millrace v1 ring key";

    pub(super) fn chunk(epoch: u32) -> String {
        format!("millrace v1 chunk key epoch {epoch}")
    }
    pub(super) fn value(epoch: u32) -> String {
        format!("millrace v1 value key epoch {epoch}")
    }
}

/// The keys that seal and open what was stored in one epoch.
#[repr(C)]
pub(crate) struct EpochKeys {
    pub(crate) number: u32,
    pub(crate) chunk: [u8; 32],
    pub(crate) value: [u8; 32],
}

/// All keys of a store. What hashes is the same in every epoch, or nothing would be found again.
#[repr(C)]
pub(crate) struct Keys {
    pub(crate) id: [u8; 32],
    pub(crate) name: [u8; 32],
    pub(crate) tree: [u8; 32],
    check: [u8; 32],
    count: u32,
    /// The current epoch first, the others behind it, newest first.
    epochs: [EpochKeys; EPOCHS_MAX],
}

impl Keys {
    /// The epochs whose keys are here, the current one first.
    pub(crate) fn epochs(&self) -> &[EpochKeys] {
        &self.epochs[..self.count as usize]
    }

    pub(crate) fn current(&self) -> &EpochKeys {
        &self.epochs[0]
    }

    /// The keys of an epoch: of hardly ever more than two, so a walk is the fastest search.
    pub(crate) fn of(&self, epoch: u32) -> Result<&EpochKeys, Damaged> {
        self.epochs().iter().find(|keys| keys.number == epoch).ok_or(Damaged)
    }

    /// Add an older epoch; `Damaged` when there is no room, or it is none.
    pub(crate) fn add(&mut self, number: u32, chunk: &[u8], value: &[u8]) -> Result<(), Damaged> {
        let oldest = self.epochs().last().map_or(u32::MAX, |last| last.number);
        let slot = self.epochs.get_mut(self.count as usize).ok_or(Damaged)?;
        if number < FIRST_EPOCH || number >= oldest {
            return Err(Damaged);
        }
        slot.number = number;
        slot.chunk.copy_from_slice(chunk);
        slot.value.copy_from_slice(value);
        self.count += 1;
        Ok(())
    }
}

const PAGE_BYTES: usize = 4096;
const _: () = assert!(size_of::<Keys>() <= PAGE_BYTES);

/// A page of its own for the keys: locked if the limits allow, left out of core dumps, zeroed
/// before it goes.
struct Page(NonNull<Keys>);

// SAFETY: the page belongs to this value; after construction it is only read.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    fn new() -> Self {
        // SAFETY: a fresh anonymous mapping of one page; zeroed memory is a valid `Keys`.
        unsafe {
            let base = libc::mmap(
                std::ptr::null_mut(),
                PAGE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert!(base != libc::MAP_FAILED, "no memory for the page of keys");
            // Best effort: a limit on locked memory must not keep a store from being mounted.
            libc::mlock(base, PAGE_BYTES);
            libc::madvise(base, PAGE_BYTES, libc::MADV_DONTDUMP);
            libc::madvise(base, PAGE_BYTES, libc::MADV_WIPEONFORK);
            Self(NonNull::new_unchecked(base.cast()))
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody refers to it any more.
        unsafe {
            std::slice::from_raw_parts_mut(self.0.as_ptr().cast::<u8>(), PAGE_BYTES).zeroize();
            libc::munmap(self.0.as_ptr().cast(), PAGE_BYTES);
        }
    }
}

/// The tenant's keys, and what is done with them. Shared by all threads of a mount.
pub struct Vault {
    page: Page,
    /// Unique part of the salts of sealed values: random per vault, so that no two processes share
    /// one.
    salt_prefix: [u8; 16],
    salt_counter: AtomicU64,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

fn derive(prk: &hkdf::Prk, info: &[u8], out: &mut [u8; 32]) {
    // 32 bytes are within HKDF's bound of 255 hashes, so neither step can fail.
    let filled = prk.expand(&[info], Length).and_then(|okm| okm.fill(out));
    assert!(filled.is_ok(), "HKDF refused 32 bytes");
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    const { assert!(N <= 256) };
    let mut bytes = [0u8; N];
    // SAFETY: fills our buffer; up to 256 bytes are never delivered in part.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert!(n == N as isize, "the kernel has no random bytes");
    bytes
}

/// What everything of one tenant's key is derived from.
pub(crate) struct Source(hkdf::Prk);

impl Source {
    pub(crate) fn new(kek: &[u8; 32]) -> Self {
        Self(hkdf::Salt::new(hkdf::HKDF_SHA256, label::SALT).extract(kek))
    }

    /// The key that seals a store's other keys.
    pub(crate) fn ring_key(&self) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        derive(&self.0, label::RING, &mut key);
        key
    }

    /// The value by which a store recognises this key.
    pub(crate) fn check(&self) -> [u8; 32] {
        let mut check = [0; 32];
        derive(&self.0, label::CHECK, &mut check);
        check
    }

    fn hashing_keys(&self, keys: &mut Keys) {
        derive(&self.0, label::ID, &mut keys.id);
        derive(&self.0, label::NAME, &mut keys.name);
        derive(&self.0, label::TREE, &mut keys.tree);
    }

    /// The keys of an epoch whose key this is.
    fn epoch_keys(&self, number: u32, keys: &mut EpochKeys) {
        keys.number = number;
        derive(&self.0, label::chunk(number).as_bytes(), &mut keys.chunk);
        derive(&self.0, label::value(number).as_bytes(), &mut keys.value);
    }
}

impl Vault {
    /// Derive everything from the key of a store that was never rotated. The caller wipes its copy.
    ///
    /// A vault must not be used after `fork` in the child: its page is wiped there, and salts would
    /// repeat. A child that makes a vault of its own draws other salts.
    #[must_use]
    pub fn from_kek(kek: &[u8; 32]) -> Self {
        let source = Source::new(kek);
        Self::with_keys(&source, FIRST_EPOCH, |keys| source.hashing_keys(keys))
    }

    /// A vault whose current epoch is derived from `source`, and whose other keys `fill` puts in.
    fn with_keys(source: &Source, epoch: u32, fill: impl FnOnce(&mut Keys)) -> Self {
        let mut page = Page::new();
        // SAFETY: the page is ours alone until it is returned.
        let keys = unsafe { page.0.as_mut() };
        keys.check = source.check();
        source.epoch_keys(epoch, &mut keys.epochs[0]);
        keys.count = 1;
        fill(keys);
        Self { page, salt_prefix: random(), salt_counter: AtomicU64::new(0) }
    }

    /// As `from_kek`, for a later epoch, whose hashing keys and older epochs `fill` puts in.
    pub(crate) fn of_epoch(
        source: &Source,
        epoch: u32,
        fill: impl FnOnce(&mut Keys) -> Result<(), Damaged>,
    ) -> Result<Self, Damaged> {
        let mut filled = Ok(());
        let vault = Self::with_keys(source, epoch, |keys| filled = fill(keys));
        filled.map(|()| vault)
    }

    /// Whether this key was the store's before: of an epoch whose keys are here, or the first one.
    pub(crate) fn has_had(&self, source: &Source) -> bool {
        let mut found = false;
        let mut derived = Zeroizing::new([0; 32]);
        for keys in self.keys().epochs() {
            derive(&source.0, label::chunk(keys.number).as_bytes(), &mut derived);
            found |= *derived == keys.chunk;
        }
        derive(&source.0, label::ID, &mut derived);
        found | (*derived == self.keys().id)
    }

    /// Call `visit` with every key that this vault holds, and what it is called: whoever looks for
    /// them in a place where none may be needs their bytes.
    pub fn each_key(&self, mut visit: impl FnMut(&str, &[u8; 32])) {
        let keys = self.keys();
        visit("id key", &keys.id);
        visit("name key", &keys.name);
        visit("tree key", &keys.tree);
        for epoch in keys.epochs() {
            visit(&format!("chunk key of epoch {}", epoch.number), &epoch.chunk);
            visit(&format!("value key of epoch {}", epoch.number), &epoch.value);
        }
    }

    /// The epoch whose keys seal what is stored now.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.keys().current().number
    }

    /// The epochs that this vault opens, the current one first.
    #[must_use]
    pub fn epochs(&self) -> Vec<u32> {
        self.keys().epochs().iter().map(|keys| keys.number).collect()
    }

    pub(crate) fn keys(&self) -> &Keys {
        // SAFETY: the page lives as long as the vault, and is not written after construction.
        unsafe { self.page.0.as_ref() }
    }

    pub(crate) fn next_salt(&self) -> [u8; 24] {
        let mut salt = [0; 24];
        salt[..16].copy_from_slice(&self.salt_prefix);
        // ORDER: only that no two callers get the same number matters.
        let counter = self.salt_counter.fetch_add(1, Ordering::Relaxed);
        salt[16..].copy_from_slice(&counter.to_le_bytes());
        salt
    }

    /// The value by which a store recognises its key; it tells nothing about the key.
    #[must_use]
    pub fn check(&self) -> [u8; 32] {
        self.keys().check
    }

    /// Keyed hash of a name within an inode (a directory, or the owner of an xattr).
    #[must_use]
    pub fn name_hash(&self, ino: u64, name: &[u8]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.keys().name);
        hasher.update(&ino.to_le_bytes());
        hasher.update(name);
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        hash
    }

    /// Keyed hash of a part of a tree, as the hash of a namespace is made of.
    #[must_use]
    pub fn tree_hash(&self, part: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.keys().tree, part).as_bytes()
    }
}
