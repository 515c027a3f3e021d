//! The first request of a kernel: whatever it says, it is answered or refused.
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, FromRawFd};

/// A file in memory: requests are read from it, and answers are written behind them.
pub(crate) fn memory_file() -> File {
    // SAFETY: a constant name; the descriptor is owned at once.
    unsafe {
        let fd = libc::memfd_create(c"millrace-fuzz".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0, "no file in memory");
        File::from_raw_fd(fd)
    }
}

/// Leave nothing but this request, ready to be read.
pub(crate) fn load(file: &mut File, message: &[u8]) {
    // Cut behind the request, not before: pages that are there already need not be made again.
    let loaded = file.set_len(message.len() as u64).and_then(|()| {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(message)?;
        file.seek(SeekFrom::Start(0))
    });
    assert!(loaded.is_ok(), "a file in memory refused: {loaded:?}");
}

/// What was written behind a request of so many bytes.
pub(crate) fn behind(file: &mut File, message: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let read = file.seek(SeekFrom::Start(message as u64)).and_then(|_| file.read_to_end(&mut all));
    assert!(read.is_ok(), "a file in memory refused: {read:?}");
    all
}

/// Input: the request.
pub(crate) fn run(data: &[u8]) {
    let mut file = memory_file();
    load(&mut file, data);
    let shares = data.first().is_some_and(|byte| byte & 1 == 1);
    let agreed = millrace_fuse::negotiate(file.as_fd(), shares).is_ok();
    let answer = behind(&mut file, data.len());
    assert!(!agreed || answer.len() == 16 + 64, "{} bytes", answer.len());
    assert!(answer.is_empty() || answer.len() >= 16);
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let init = |minor: u32, flags: u32, rest: usize| {
        let mut bytes = vec![0; 56 + rest];
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4] = 26;
        for (at, word) in [(40, 7), (44, minor), (48, 0x20000), (52, flags)] {
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    };
    vec![
        ("new", init(45, 0xffff_ffff, 48)),
        ("without-second-word", init(31, 0x3fff_ffff, 0)),
        ("old", init(27, 0, 0)),
    ]
}
