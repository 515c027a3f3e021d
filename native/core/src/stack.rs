//! Stacks, kept out of core dumps.

/// Leave the calling thread's stack out of core dumps: hashing and sealing spill keys and plaintext to it. Best
/// effort.
///
/// For the main thread `/proc/self/maps` must be readable, so call it there before the process becomes undumpable.
pub fn hide_stack() {
    // SAFETY: asks the C library where this thread's stack lies, and lets go of what it allocated for the answer; the
    // advice does not change what is in memory. Attributes of zeros are never read before they are filled.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes) != 0 {
            return;
        }
        let (mut base, mut bytes) = (std::ptr::null_mut(), 0);
        if libc::pthread_attr_getstack(&raw const attributes, &raw mut base, &raw mut bytes) == 0 {
            libc::madvise(base, bytes, libc::MADV_DONTDUMP);
        }
        libc::pthread_attr_destroy(&raw mut attributes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the kernel leaves the mapping that holds an address out of core dumps.
    fn is_hidden(address: usize) -> bool {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut within = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            if let Some((Ok(start), Ok(end))) = range.map(|(start, end)| {
                (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16))
            }) {
                within = (start..end).contains(&address);
            } else if let (true, Some(flags)) = (within, line.strip_prefix("VmFlags:")) {
                return flags.split_whitespace().any(|flag| flag == "dd");
            }
        }
        panic!("no mapping holds {address:x}");
    }

    #[test]
    fn a_stack_is_left_out_of_dumps_from_the_call_on() {
        let thread = std::thread::spawn(|| {
            let local = 0u8;
            let address = (&raw const local).addr();
            let before = is_hidden(address);
            hide_stack();
            (before, is_hidden(address))
        });
        assert_eq!(thread.join().unwrap(), (false, true));
    }
}
