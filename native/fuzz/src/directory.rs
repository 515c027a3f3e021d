//! A listing on its way to libfuse 2: no entry leads outside of the answer.
use crate::guard::at_the_end;
use millrace_fuse::libfuse2::{CALL_BYTES, Call};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};

/// Where the record of a call has its filler.
const FILLER_AT: usize = 184;
/// Entries for which libfuse has room.
const ENTRIES_MAX: usize = 40;

thread_local! {
    static FILLED: Cell<usize> = const { Cell::new(0) };
}

/// What libfuse would do with an entry.
unsafe extern "C" fn fill(
    _: *mut c_void,
    name: *const c_char,
    _: *const libc::stat,
    _: libc::off_t,
) -> c_int {
    // SAFETY: the caller's promise is what is tested here.
    let name = unsafe { CStr::from_ptr(name) };
    assert!(name.to_bytes().len() <= 255);
    FILLED.set(FILLED.get() + 1);
    c_int::from(FILLED.get() > ENTRIES_MAX)
}

/// Input: the answer of a READDIR.
pub(crate) fn run(data: &[u8]) {
    let mut words = [0u64; CALL_BYTES / 8];
    words[FILLER_AT / 8] = fill as *const () as u64;
    // SAFETY: all of the array, as bytes.
    let record =
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), CALL_BYTES) };
    FILLED.set(0);
    at_the_end(data, |entries| {
        // SAFETY: the record has the filler, and null for all that the target does not use.
        let call = unsafe { Call::of(record) };
        let whole = call.is_some_and(|call| call.fill_directory(entries));
        assert!(!whole || FILLED.get() <= ENTRIES_MAX);
        assert!(FILLED.get() <= entries.len() / 24);
    });
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let entry = |name: &[u8]| {
        let mut bytes = vec![0; 24];
        bytes[0] = 9;
        bytes[8] = 1;
        bytes[16..20].copy_from_slice(&(name.len() as u32).to_le_bytes());
        bytes[20] = 8;
        bytes.extend_from_slice(name);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    vec![
        ("entries", [entry(b"."), entry(b".."), entry(&[b'n'; 255])].concat()),
        ("name-too-long", entry(&[b'n'; 256])),
    ]
}
