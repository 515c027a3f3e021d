//! Answers: to the kernel, one writev of `fuse_out_header` and whatever lies where it lies; or to a front's own sink.
use crate::engine::Engine;
use std::io::IoSlice;
use std::sync::Arc;

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

/// What a request slot names in place of a descriptor when its front takes the answers itself.
pub const SINK_FD: i32 = -1;

/// Takes the answers of a front that does not hold /dev/fuse. Called on whatever thread has an answer.
pub trait ReplySink: Send + Sync {
    /// Take the answer to request `unique`: an errno, or bytes, which are gone after the call.
    fn reply(&self, unique: u64, errno: i32, parts: &[IoSlice<'_>]);
}

impl Engine {
    /// Give the answers of requests whose descriptor is [`SINK_FD`] to `sink`. Only the first one counts.
    pub fn set_sink(&self, sink: Arc<dyn ReplySink>) {
        let _ = self.sink.set(sink);
    }

    /// Answer a request where it came from: see [`reply`] and [`ReplySink`].
    pub fn reply(&self, fd: i32, unique: u64, errno: i32, parts: &[IoSlice<'_>]) {
        if fd != SINK_FD {
            reply(fd, unique, errno, parts);
        } else if let Some(sink) = self.sink.get() {
            sink.reply(unique, errno, parts);
        }
    }
}
