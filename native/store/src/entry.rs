//! Names within open directories, written on the stack, and what is done with them.
use crate::last_errno;
use millrace_vault::ChunkId;
use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};

/// Bytes of the longest name and its NUL: "PID-N" has at most 31, an object's name has 62.
const NAME_BYTES: usize = 64;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A file name, ended by NUL.
pub(crate) struct Name {
    bytes: [u8; NAME_BYTES],
}

impl Name {
    /// The name of an object on its way.
    pub(crate) fn temporary(number: u64) -> Self {
        let mut bytes = [0; NAME_BYTES];
        // Two numbers have at most 30 digits: this cannot run out of room.
        let _ = write!(&mut bytes[..NAME_BYTES - 1], "{}-{number}", std::process::id());
        Self { bytes }
    }

    /// The name of an object within its fan-out directory: 62 digits.
    pub(crate) fn of(id: &ChunkId) -> Self {
        let mut bytes = [0; NAME_BYTES];
        for (to, byte) in bytes.chunks_exact_mut(2).zip(&id.0[1..]) {
            to.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        Self { bytes }
    }

    fn as_c(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

/// The id of an object from the number of its fan-out directory and its name there.
pub(crate) fn parse(fan: usize, name: &str) -> Option<ChunkId> {
    if name.len() != 62 || !name.bytes().all(|b| DIGITS.contains(&b)) {
        return None;
    }
    let mut id = [0; 32];
    id[0] = fan as u8;
    for (i, byte) in id[1..].iter_mut().enumerate() {
        *byte = u8::from_str_radix(&name[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(ChunkId(id))
}

pub(crate) fn open_at(directory: &File, name: &Name, flags: i32) -> Result<File, i32> {
    loop {
        // SAFETY: the name outlives the call; the descriptor is owned at once.
        let fd = unsafe {
            libc::openat(
                directory.as_raw_fd(),
                name.as_c().as_ptr(),
                flags | libc::O_CLOEXEC,
                0o600,
            )
        };
        if fd >= 0 {
            // SAFETY: the descriptor is fresh and nobody else's.
            return Ok(unsafe { File::from_raw_fd(fd) });
        }
        match last_errno() {
            libc::EINTR => {}
            errno => return Err(errno),
        }
    }
}

pub(crate) fn unlink_at(directory: &File, name: &Name) -> Result<(), i32> {
    // SAFETY: the name outlives the call.
    let rc = unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_c().as_ptr(), 0) };
    if rc < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Whether the name is there.
pub(crate) fn exists_at(directory: &File, name: &Name) -> Result<bool, i32> {
    // SAFETY: the name outlives the call.
    let rc = unsafe { libc::faccessat(directory.as_raw_fd(), name.as_c().as_ptr(), libc::F_OK, 0) };
    match if rc < 0 { last_errno() } else { 0 } {
        0 => Ok(true),
        libc::ENOENT => Ok(false),
        errno => Err(errno),
    }
}

/// Give a temporary file a final name that another may have had until now.
pub(crate) fn replace(tmp: &File, from: &Name, directory: &File, to: &Name) -> Result<(), i32> {
    let (from_name, to_name) = (from.as_c().as_ptr(), to.as_c().as_ptr());
    // SAFETY: both names outlive the call.
    let rc = unsafe { libc::renameat(tmp.as_raw_fd(), from_name, directory.as_raw_fd(), to_name) };
    if rc < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Give a temporary file its final name; false when there is such a name already, and then the
/// temporary one stays.
pub(crate) fn publish(tmp: &File, from: &Name, directory: &File, to: &Name) -> Result<bool, i32> {
    let (from_fd, to_fd) = (tmp.as_raw_fd(), directory.as_raw_fd());
    let (from_name, to_name) = (from.as_c().as_ptr(), to.as_c().as_ptr());
    // SAFETY: both names outlive the call.
    let rc = unsafe { libc::renameat2(from_fd, from_name, to_fd, to_name, libc::RENAME_NOREPLACE) };
    match if rc < 0 { last_errno() } else { 0 } {
        0 => Ok(true),
        libc::EEXIST => Ok(false),
        // Not every file system has the flag: a link never replaces either.
        libc::EINVAL | libc::ENOSYS => {
            // SAFETY: as above.
            let rc = unsafe { libc::linkat(from_fd, from_name, to_fd, to_name, 0) };
            match if rc < 0 { last_errno() } else { 0 } {
                0 => {
                    // The object has its name; should the other one stay, the next start removes
                    // it.
                    let _ = unlink_at(tmp, from);
                    Ok(true)
                }
                libc::EEXIST => Ok(false),
                errno => Err(errno),
            }
        }
        errno => Err(errno),
    }
}
