//! Key material: derived once from the tenant's key, kept in one page that is never dumped or
//! swapped, wiped at the end.
use ring::hkdf;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use zeroize::Zeroize;

/// Labels of the derivations; part of the format, documented in FORMAT.md.
mod label {
    pub(super) const SALT: &[u8] = b"millrace v1";
    pub(super) const ID: &[u8] = b"millrace v1 id key";
    pub(super) const CHUNK: &[u8] = b"millrace v1 chunk key epoch 1";
    pub(super) const NAME: &[u8] = b"millrace v1 name key";
    pub(super) const VALUE: &[u8] = b"millrace v1 value key epoch 1";
    pub(super) const TREE: &[u8] = b"millrace v1 tree key";
    pub(super) const CHECK: &[u8] = b"millrace v1 check";
}

/// The derived keys, 32 bytes each.
#[repr(C)]
pub(crate) struct Keys {
    pub(crate) id: [u8; 32],
    pub(crate) chunk: [u8; 32],
    pub(crate) name: [u8; 32],
    pub(crate) value: [u8; 32],
    pub(crate) tree: [u8; 32],
    check: [u8; 32],
}

const PAGE_BYTES: usize = 4096;

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

fn random() -> [u8; 16] {
    let mut bytes = [0u8; 16];
    // SAFETY: fills our buffer; 16 bytes are never delivered in part.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert!(n == 16, "the kernel has no random bytes");
    bytes
}

impl Vault {
    /// Derive everything from the tenant's key (epoch 1). The caller wipes its copy.
    ///
    /// A vault must not be used after `fork` in the child: its page is wiped there, and salts would
    /// repeat. A child that makes a vault of its own draws other salts.
    #[must_use]
    pub fn from_kek(kek: &[u8; 32]) -> Self {
        let mut page = Page::new();
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, label::SALT).extract(kek);
        // SAFETY: the page is ours alone until it is returned.
        let keys = unsafe { page.0.as_mut() };
        derive(&prk, label::ID, &mut keys.id);
        derive(&prk, label::CHUNK, &mut keys.chunk);
        derive(&prk, label::NAME, &mut keys.name);
        derive(&prk, label::VALUE, &mut keys.value);
        derive(&prk, label::TREE, &mut keys.tree);
        derive(&prk, label::CHECK, &mut keys.check);
        Self { page, salt_prefix: random(), salt_counter: AtomicU64::new(0) }
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
