//! A search for keys in files where none may be.
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

/// Bytes that are read at a time.
const STEP_BYTES: usize = 1 << 20;
/// Half a key is enough to be found.
const HALF_BYTES: usize = 16;
const HEX_LOWER: &[u8; 16] = b"0123456789abcdef";
const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

struct Pattern {
    bytes: Zeroizing<Vec<u8>>,
    name: String,
}

/// How far a search is; any thread may read it meanwhile.
#[derive(Debug, Default)]
pub struct SearchProgress {
    /// Files that were searched.
    pub files: AtomicU64,
    /// Bytes of them.
    pub bytes: AtomicU64,
}

/// A key that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundKey {
    /// What it is called.
    pub name: String,
    /// Where, below the directory that was searched.
    pub path: PathBuf,
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Searched {
    /// Files that were read.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Keys that were found.
    pub found: Vec<FoundKey>,
}

/// Keys to look for: as they are, half of one being enough, in hexadecimal digits and in base64.
/// Wiped when this is dropped.
#[derive(Default)]
pub struct KeySearch {
    keys: usize,
    patterns: Vec<Pattern>,
    /// A bit for each pair of bytes that a pattern begins with.
    starts: Vec<u64>,
}

impl std::fmt::Debug for KeySearch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySearch").field("keys", &self.keys).finish_non_exhaustive()
    }
}

fn hex(bytes: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * bytes.len());
    for byte in bytes {
        out.push(digits[usize::from(byte >> 4)]);
        out.push(digits[usize::from(byte & 15)]);
    }
    out
}

/// Without the last digit, which what comes behind may change.
fn base64(bytes: &[u8], digits: &[u8; 64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() * 4 / 3);
    for three in bytes.chunks_exact(3) {
        let word = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        out.extend([18, 12, 6, 0].map(|shift| digits[(word >> shift & 63) as usize]));
    }
    out
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

impl KeySearch {
    /// Look for this key too.
    pub fn add(&mut self, name: &str, key: &[u8; 32]) {
        self.keys += 1;
        for half in key.chunks_exact(HALF_BYTES) {
            self.add_pattern(name, half.to_vec());
            self.add_pattern(name, hex(half, HEX_LOWER));
            self.add_pattern(name, hex(half, HEX_UPPER));
        }
        self.add_pattern(name, base64(key, BASE64));
        self.add_pattern(name, base64(key, BASE64_URL));
    }

    /// How many keys are looked for.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys
    }

    fn add_pattern(&mut self, name: &str, bytes: Vec<u8>) {
        self.starts.resize(1 << 10, 0);
        let start = pair(bytes[0], bytes[1]);
        self.starts[start / 64] |= 1 << (start % 64);
        self.patterns.push(Pattern { bytes: Zeroizing::new(bytes), name: name.to_owned() });
    }

    /// The keys that these bytes hold.
    fn in_bytes<'a>(&'a self, bytes: &[u8], found: &mut BTreeSet<&'a str>) {
        for (at, two) in bytes.windows(2).enumerate() {
            let start = pair(two[0], two[1]);
            if self.starts[start / 64] >> (start % 64) & 1 == 0 {
                continue;
            }
            for pattern in &self.patterns {
                if bytes[at..].starts_with(&pattern.bytes) {
                    found.insert(&pattern.name);
                }
            }
        }
    }

    fn in_file<'a>(
        &'a self,
        path: &Path,
        buffer: &mut Vec<u8>,
        found: &mut BTreeSet<&'a str>,
        progress: &SearchProgress,
    ) -> std::io::Result<()> {
        let longest = self.patterns.iter().map(|p| p.bytes.len()).max().unwrap_or(0);
        let mut file = File::open(path)?;
        buffer.resize(longest + STEP_BYTES, 0);
        // What a key may begin in is kept for the next step.
        let mut kept = 0;
        loop {
            let count = match file.read(&mut buffer[kept..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if count == 0 {
                return Ok(());
            }
            let filled = kept + count;
            self.in_bytes(&buffer[..filled], found);
            progress.bytes.fetch_add(count as u64, Ordering::Relaxed);
            kept = filled.min(longest.saturating_sub(1));
            buffer.copy_within(filled - kept..filled, 0);
        }
    }

    /// Read every file below a directory, and its name. The first error of the file system: what
    /// was not read was not searched.
    pub fn run(
        &self,
        directory: &Path,
        threads: usize,
        progress: &SearchProgress,
    ) -> std::io::Result<Searched> {
        let mut files = Vec::new();
        let mut all = BTreeSet::new();
        self.list(directory, directory, &mut files, &mut all)?;
        let next = AtomicUsize::new(0);
        let outcome = Mutex::new((all, Ok(())));
        let work = || {
            let mut buffer = Vec::new();
            // ORDER: only that no two threads take the same matters.
            while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut found = BTreeSet::new();
                let read = self.in_file(&directory.join(path), &mut buffer, &mut found, progress);
                progress.files.fetch_add(1, Ordering::Relaxed);
                let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                let name = |name: &str| FoundKey { name: name.to_owned(), path: path.clone() };
                outcome.0.extend(found.into_iter().map(name));
                if read.is_err() {
                    outcome.1 = read;
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(work);
            }
        });
        let (found, read) = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        read?;
        // ORDER: the threads have ended.
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Ok(Searched {
            files: count(&progress.files),
            bytes: count(&progress.bytes),
            found: found.into_iter().collect(),
        })
    }

    fn list(
        &self,
        root: &Path,
        directory: &Path,
        files: &mut Vec<PathBuf>,
        all: &mut BTreeSet<FoundKey>,
    ) -> std::io::Result<()> {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let path = entry.path();
            let below = path.strip_prefix(root).unwrap_or(&path).to_owned();
            let mut found = BTreeSet::new();
            self.in_bytes(entry.file_name().as_bytes(), &mut found);
            let name = |name: &str| FoundKey { name: name.to_owned(), path: below.clone() };
            all.extend(found.into_iter().map(name));
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.list(root, &path, files, all)?;
            } else if kind.is_file() {
                files.push(below);
            }
        }
        Ok(())
    }
}
