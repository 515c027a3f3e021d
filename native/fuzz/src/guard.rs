//! Memory between two pages that nobody may touch: who reads or writes beside it dies at once, under every build.
use std::cell::RefCell;

const PAGE_BYTES: usize = 4096;
/// Bytes of the longest buffer.
const ROOM_BYTES: usize = 8 << 20;

/// A mapping that is closed on both sides, for one buffer at a time.
struct Fence {
    base: *mut u8,
}

impl Fence {
    fn new() -> Self {
        // SAFETY: a fresh anonymous mapping; its first and last page are closed before anybody knows it.
        unsafe {
            let base = libc::mmap(
                std::ptr::null_mut(),
                ROOM_BYTES + 2 * PAGE_BYTES,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            );
            assert_ne!(base, libc::MAP_FAILED);
            let inner = base.byte_add(PAGE_BYTES);
            assert_eq!(libc::mprotect(inner, ROOM_BYTES, libc::PROT_READ | libc::PROT_WRITE), 0);
            Self { base: inner.cast() }
        }
    }
}

thread_local! {
    static FREE: RefCell<Vec<Fence>> = const { RefCell::new(Vec::new()) };
}

/// Call `body` with a copy of the bytes that ends where memory ends.
///
/// # Panics
/// When there are more than 8 MiB.
pub(crate) fn at_the_end<T>(bytes: &[u8], body: impl FnOnce(&mut [u8]) -> T) -> T {
    at(ROOM_BYTES - bytes.len(), bytes, body)
}

/// Call `body` with a copy of the bytes that begins where memory begins.
///
/// # Panics
/// When there are more than 8 MiB.
pub(crate) fn at_the_start<T>(bytes: &[u8], body: impl FnOnce(&mut [u8]) -> T) -> T {
    at(0, bytes, body)
}

fn at<T>(offset: usize, bytes: &[u8], body: impl FnOnce(&mut [u8]) -> T) -> T {
    assert!(offset + bytes.len() <= ROOM_BYTES);
    let fence = FREE.with_borrow_mut(Vec::pop).unwrap_or_else(Fence::new);
    // SAFETY: inside the mapping, which is this call's alone until it is given back below.
    let copy = unsafe { std::slice::from_raw_parts_mut(fence.base.add(offset), bytes.len()) };
    copy.copy_from_slice(bytes);
    let result = body(copy);
    FREE.with_borrow_mut(|free| free.push(fence));
    result
}
