//! System calls on /dev/fuse.
use crate::protocol::{HEAD_BYTES, Head};
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `FUSE_DEV_IOC_CLONE` of linux/fuse.h: `_IOR(229, 0, uint32_t)`.
const CLONE: libc::c_ulong = 0x8004_e500;

/// Open /dev/fuse.
pub(crate) fn open() -> Result<OwnedFd> {
    // SAFETY: a constant path; the descriptor is owned at once.
    unsafe {
        let fd = libc::open(c"/dev/fuse".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if fd < 0 { Err(Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// One more queue of the same connection. A request must be answered on the descriptor that it was read from.
pub(crate) fn clone(session: &OwnedFd) -> Result<OwnedFd> {
    let fd = open()?;
    let from = session.as_raw_fd() as u32;
    // SAFETY: the ioctl reads one u32 through the pointer.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), CLONE, &raw const from) };
    if rc < 0 { Err(Error::last_os_error()) } else { Ok(fd) }
}

/// Have reads of a descriptor fail with EAGAIN where they would wait.
pub(crate) fn never_block(fd: &OwnedFd) -> Result<()> {
    // SAFETY: the descriptor is open; the call takes and gives numbers only.
    let rc = unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)
    };
    if rc < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// A stretch of memory that a request may land in.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) base: *mut u8,
    pub(crate) bytes: usize,
}

/// What an attempt to read a request came to.
pub(crate) enum Read {
    /// So many bytes.
    Bytes(usize),
    /// There is none now, or it was interrupted before it could be read.
    Nothing,
    /// The mount is gone.
    Gone,
}

/// Read one request: 80 bytes into `head`, the rest into the targets in order. `None`: the mount is gone.
///
/// # Safety
/// The targets must be writable and used by nobody else.
pub(crate) unsafe fn read(fd: i32, head: &mut Head, targets: [Target; 2]) -> Result<Option<usize>> {
    loop {
        // SAFETY: the caller's promise.
        match unsafe { try_read(fd, head, targets)? } {
            Read::Bytes(bytes) => return Ok(Some(bytes)),
            Read::Nothing => {}
            Read::Gone => return Ok(None),
        }
    }
}

/// The same, once: on a descriptor that does not block, `Nothing` says that there is no request.
///
/// # Safety
/// The targets must be writable and used by nobody else.
pub(crate) unsafe fn try_read(fd: i32, head: &mut Head, targets: [Target; 2]) -> Result<Read> {
    let vector = [
        libc::iovec { iov_base: head.0.as_mut_ptr().cast(), iov_len: HEAD_BYTES },
        libc::iovec { iov_base: targets[0].base.cast(), iov_len: targets[0].bytes },
        libc::iovec { iov_base: targets[1].base.cast(), iov_len: targets[1].bytes },
    ];
    // SAFETY: the head is ours, the targets are the caller's promise.
    let n = unsafe { libc::readv(fd, vector.as_ptr(), 3) };
    if n >= 0 {
        return Ok(Read::Bytes(n as usize));
    }
    let error = Error::last_os_error();
    match error.raw_os_error() {
        // ENOENT: the request was interrupted before it could be read.
        Some(libc::EINTR | libc::ENOENT | libc::EAGAIN) => Ok(Read::Nothing),
        Some(libc::ENODEV) => Ok(Read::Gone),
        _ => Err(error),
    }
}
