//! Writing one object file: all of it, whatever the kernel takes at once.
use crate::last_errno;
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::AsRawFd;

/// The most pieces of one pwritev (Linux' `IOV_MAX`).
const PIECES_MAX: usize = 1024;

/// Write the pieces one behind the other from an offset of the file on.
pub(crate) fn write_all(file: &File, pieces: &[IoSlice<'_>], start: u64) -> Result<(), i32> {
    let mut offset = start;
    let (mut index, mut skip) = (0, 0);
    let mut vector = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PIECES_MAX];
    while index < pieces.len() {
        let mut count = 0;
        for (slot, piece) in vector.iter_mut().zip(&pieces[index..]) {
            let from = if count == 0 { skip } else { 0 };
            slot.iov_base = piece[from..].as_ptr().cast_mut().cast();
            slot.iov_len = piece.len() - from;
            count += 1;
        }
        // SAFETY: each entry is the rest of a piece that outlives the call; the kernel only reads
        // it.
        let n = unsafe {
            libc::pwritev(file.as_raw_fd(), vector.as_ptr(), count, offset as libc::off_t)
        };
        if n < 0 {
            match last_errno() {
                libc::EINTR => continue,
                errno => return Err(errno),
            }
        }
        if n == 0 && pieces[index].len() > skip {
            return Err(libc::EIO);
        }
        offset += n as u64;
        let mut left = n as usize;
        while index < pieces.len() && left >= pieces[index].len() - skip {
            left -= pieces[index].len() - skip;
            skip = 0;
            index += 1;
        }
        skip += left;
    }
    Ok(())
}

/// Fill the buffer from an offset on; EIO when the file ends before.
pub(crate) fn read_all(file: &File, buffer: &mut [u8], offset: u64) -> Result<(), i32> {
    let mut done = 0;
    while done < buffer.len() {
        let rest = &mut buffer[done..];
        // SAFETY: the buffer is ours.
        let n = unsafe {
            libc::pread(
                file.as_raw_fd(),
                rest.as_mut_ptr().cast(),
                rest.len(),
                (offset + done as u64) as libc::off_t,
            )
        };
        match n {
            0 => return Err(libc::EIO),
            n if n > 0 => done += n as usize,
            _ => match last_errno() {
                libc::EINTR => {}
                errno => return Err(errno),
            },
        }
    }
    Ok(())
}
