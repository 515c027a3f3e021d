//! The file of a tree: whatever its pages say of each other, a survey ends, and tells only what lies in it.
use crate::init::{load, memory_file};
use millrace_pages::{FLAWS_MAX, survey_and_read};
use std::cell::RefCell;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Bytes of the longest key.
const KEY_BYTES_MAX: usize = 511;
/// Bytes of the two meta pages, where pages are as small as they get.
const METAS_BYTES: usize = 2 * 4096;

thread_local! {
    static FILE: RefCell<File> = RefCell::new(memory_file());
}

/// Input: the file.
pub(crate) fn run(data: &[u8]) {
    FILE.with_borrow_mut(|file| {
        load(file, data);
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        check(&path, None, data);
        check(&path, Some(&data[..data.len().min(METAS_BYTES)]), data);
        check(&path, Some(&[]), data);
    });
}

fn check(path: &Path, metas: Option<&[u8]>, data: &[u8]) {
    let (mut records, mut bytes) = (0, 0);
    let found = survey_and_read(path, metas, &mut |key, value| {
        assert!((1..=KEY_BYTES_MAX).contains(&key.len()));
        records += 1;
        bytes += key.len() + value.len();
    });
    let Ok(found) = found else { panic!("a file in memory cannot be read") };
    assert_eq!(found.records, records);
    // Each page is handed on once: led to, or stranded.
    assert!(bytes <= data.len() && found.pages <= 2 * (data.len() / 4096) as u64);
    assert!(found.flaws.len() <= FLAWS_MAX && found.flaws.len() as u64 <= found.flawed);
    assert_eq!(found.flaws.is_empty(), found.flawed == 0);
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    vec![("empty", vec![]), ("zeros", vec![0; 3 * 4096])]
}
