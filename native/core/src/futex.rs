//! Sleeping on a word of shared memory, and waking who sleeps there.
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleep while the word holds `value`, at most `timeout`. May return early.
pub(crate) fn wait(word: &AtomicU32, value: u32, timeout: Duration) {
    let spec = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
    };
    // SAFETY: the word and the timeout outlive the call; a spurious return is allowed.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            value,
            &raw const spec,
        );
    }
}

/// Wake up to `count` threads that sleep on the word.
pub(crate) fn wake(word: &AtomicU32, count: i32) {
    // SAFETY: the kernel only uses the address as a key.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            count,
        );
    }
}
