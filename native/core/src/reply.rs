//! Answers to the kernel: one writev of `fuse_out_header` and whatever lies where it lies.
use std::io::IoSlice;

/// `struct fuse_out_header` of linux/fuse.h.
#[repr(C)]
struct OutHeader {
    len: u32,
    error: i32,
    unique: u64,
}

/// The most pieces of one answer.
const PARTS_MAX: usize = 64;

/// Answer request `unique` on the descriptor that it was read from, with an errno or with bytes.
///
/// The kernel refuses an answer to a request that was interrupted or whose connection is gone; both are fine.
///
/// # Panics
/// When there are more than 63 parts.
pub fn reply(fd: i32, unique: u64, errno: i32, parts: &[IoSlice<'_>]) {
    let bytes: usize = parts.iter().map(|p| p.len()).sum();
    let header = OutHeader { len: (size_of::<OutHeader>() + bytes) as u32, error: -errno, unique };
    let mut vector = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PARTS_MAX];
    vector[0] = libc::iovec {
        iov_base: (&raw const header).cast_mut().cast(),
        iov_len: size_of::<OutHeader>(),
    };
    for (slot, part) in vector[1..].iter_mut().zip(parts) {
        *slot = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
    }
    assert!(parts.len() < PARTS_MAX);
    // SAFETY: every part outlives the call, and the kernel only reads them.
    unsafe { libc::writev(fd, vector.as_ptr(), parts.len() as i32 + 1) };
}
