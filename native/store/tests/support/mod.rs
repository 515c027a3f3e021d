//! A directory of a test's own, on a file system that it asks for.
use millrace_vault::{ChunkId, HeadBuf, Vault};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory that goes with its value.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// A fresh directory below `base`.
    pub(crate) fn below(base: &Path) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("millrace-store-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A directory on a disk (the build's own) and, where there is one, one on a tmpfs.
pub(crate) fn everywhere() -> Vec<Directory> {
    let mut all = vec![Directory::below(Path::new(env!("CARGO_TARGET_TMPDIR")))];
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        all.push(Directory::below(memory));
    }
    all
}

/// A chunk's plaintext, id and object.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) plain: Vec<u8>,
    pub(crate) id: ChunkId,
    pub(crate) head: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

impl Sample {
    pub(crate) fn new(vault: &Vault, bytes: usize, seed: u8) -> Self {
        let plain: Vec<u8> = (0..bytes).map(|i| (i ^ (i >> 8) ^ (i >> 14)) as u8 ^ seed).collect();
        let (mut data, mut head) = (plain.clone(), HeadBuf::new());
        let id = vault.seal_buffer(&mut data, &mut head);
        Self { plain, id, head: head.bytes().to_vec(), data }
    }

    pub(crate) fn object(&self) -> [IoSlice<'_>; 2] {
        [IoSlice::new(&self.head), IoSlice::new(&self.data)]
    }
}
