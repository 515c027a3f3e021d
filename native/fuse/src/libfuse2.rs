//! What a call of the npm binding `fuse-native` 2.2.6 holds beyond what it passes to JavaScript.
//!
//! The binding hands JavaScript a buffer that identifies a call. It is the binding's own record of that call, with the
//! pointers that libfuse 2.9 gave it; they are valid until the call is answered. Through them names keep their bytes,
//! times their nanoseconds and numbers their 64 bits, where the binding's own conversions lose them.
//!
//! The layout is that of the pinned version, on 64-bit Linux; [`Call::of`] refuses a record of another size.
use std::ffi::{CStr, c_char, c_int, c_void};

/// `struct fuse_file_info` of libfuse 2.9.
#[repr(C)]
#[derive(Debug)]
struct FileInfo {
    flags: c_int,
    fh_old: libc::c_ulong,
    writepage: c_int,
    /// `direct_io`, `keep_cache`, flush, nonseekable, …: bit by bit.
    bits: u32,
    handle: u64,
    lock_owner: u64,
}

/// `fuse_fill_dir_t`: not 0 when the entry does not fit.
type Filler =
    unsafe extern "C" fn(*mut c_void, *const c_char, *const libc::stat, libc::off_t) -> c_int;

/// One call of the binding.
#[repr(C)]
#[derive(Debug)]
pub struct Call {
    this: *mut c_void,
    operation: u32,
    function: *mut c_void,
    path: *const c_char,
    second_path: *const c_char,
    link: *mut c_char,
    info: *mut FileInfo,
    buffer: *mut c_void,
    offset: libc::off_t,
    length: usize,
    mode: u32,
    device: u64,
    uid: u32,
    gid: u32,
    atime: usize,
    mtime: usize,
    result: i32,
    name: *const c_char,
    value: *const c_char,
    list: *mut c_char,
    size: usize,
    position: u32,
    flags: i32,
    stat: *mut libc::stat,
    statvfs: *mut libc::statvfs,
    filler: Option<Filler>,
}

/// Bytes of the binding's record: the fields above, its thread, a semaphore and a handle of libuv.
pub const CALL_BYTES: usize = 360;
/// Bytes of the binding's record of a mount.
pub const MOUNT_BYTES: usize = 2640;
/// Where that record has the thread that serves the mount.
const MOUNT_THREAD: usize = 8;
/// `direct_io` of `FileInfo`, at the place of `FOPEN_DIRECT_IO`. `keep_cache` is libfuse's own to decide (`auto_cache`):
/// it has an inode of its own for each hard link, so that no worker can know what the kernel's caches hold.
const OPEN_BITS: u32 = 1;

const _: () = {
    assert!(std::mem::offset_of!(Call, path) == 24);
    assert!(std::mem::offset_of!(Call, offset) == 64);
    assert!(std::mem::offset_of!(Call, mtime) == 112);
    assert!(std::mem::offset_of!(Call, flags) == 164);
    assert!(std::mem::offset_of!(Call, filler) == 184);
    assert!(std::mem::offset_of!(FileInfo, bits) == 20);
    assert!(std::mem::offset_of!(FileInfo, handle) == 24);
};

/// Which text of a call is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// The first path, or a link's target.
    Path,
    /// The second path.
    SecondPath,
    /// The name of an xattr.
    Name,
}

/// The thread that serves a mount, by the binding's record of it. `None`: the record is not what is expected.
#[must_use]
pub fn thread_of(mount: &[u8]) -> Option<libc::pthread_t> {
    if mount.len() != MOUNT_BYTES {
        return None;
    }
    let bytes = mount.get(MOUNT_THREAD..MOUNT_THREAD + size_of::<libc::pthread_t>())?;
    Some(libc::pthread_t::from_ne_bytes(bytes.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

/// Bytes of `struct fuse_attr`.
const ATTR_BYTES: usize = 88;
/// Bytes of `struct fuse_kstatfs`.
const STATFS_BYTES: usize = 80;
/// Bytes of `struct fuse_dirent` before the name.
const DIRENT_BYTES: usize = 24;

impl Call {
    /// The call behind a record of the binding. `None` when it cannot be one.
    ///
    /// # Safety
    /// The record must be the binding's, of a call that is not answered yet.
    pub unsafe fn of(record: &mut [u8]) -> Option<&mut Self> {
        let fits =
            record.len() == CALL_BYTES && record.as_ptr().align_offset(align_of::<Self>()) == 0;
        #[expect(clippy::cast_ptr_alignment, reason = "just checked")]
        // SAFETY: large enough, aligned, and of this layout by the caller's promise.
        fits.then(|| unsafe { &mut *record.as_mut_ptr().cast::<Self>() })
    }

    /// Copy a text without its NUL; its length, also when that is more than fits and nothing was copied. 0: there is none.
    pub fn text(&self, which: Text, out: &mut [u8]) -> usize {
        let from = match which {
            Text::Path => self.path,
            Text::SecondPath => self.second_path,
            Text::Name => self.name,
        };
        if from.is_null() {
            return 0;
        }
        // SAFETY: libfuse's text, valid while the call is not answered.
        let bytes = unsafe { CStr::from_ptr(from) }.to_bytes();
        if let Some(out) = out.get_mut(..bytes.len()) {
            out.copy_from_slice(bytes);
        }
        bytes.len()
    }

    /// Flags of open(2). 0 for a call that opens nothing.
    #[must_use]
    pub fn open_flags(&self) -> i32 {
        // SAFETY: null or libfuse's, valid while the call is not answered.
        unsafe { self.info.as_ref() }.map_or(0, |info| info.flags)
    }

    /// Say what was opened: a handle, and FOPEN flags as the kernel knows them.
    pub fn opened(&mut self, handle: u64, flags: u32) {
        // SAFETY: as above, and nobody else uses it meanwhile.
        if let Some(info) = unsafe { self.info.as_mut() } {
            info.handle = handle;
            info.bits = (info.bits & !OPEN_BITS) | (flags & OPEN_BITS);
        }
    }

    /// Fill in the attributes that were asked for from a `struct fuse_attr`. False: too short, or none were asked for.
    pub fn fill_attributes(&mut self, attr: &[u8]) -> bool {
        // SAFETY: null or libfuse's, valid while the call is not answered.
        let Some(stat) = (unsafe { self.stat.as_mut() }) else { return false };
        if attr.len() < ATTR_BYTES {
            return false;
        }
        stat.st_ino = long(attr, 0);
        stat.st_size = long(attr, 8) as i64;
        stat.st_blocks = long(attr, 16) as i64;
        stat.st_atime = long(attr, 24) as i64;
        stat.st_mtime = long(attr, 32) as i64;
        stat.st_ctime = long(attr, 40) as i64;
        stat.st_atime_nsec = i64::from(word(attr, 48));
        stat.st_mtime_nsec = i64::from(word(attr, 52));
        stat.st_ctime_nsec = i64::from(word(attr, 56));
        stat.st_mode = word(attr, 60);
        stat.st_nlink = word(attr, 64).into();
        stat.st_uid = word(attr, 68);
        stat.st_gid = word(attr, 72);
        stat.st_rdev = word(attr, 76).into();
        stat.st_blksize = word(attr, 80).into();
        true
    }

    /// Fill in the statistics that were asked for from a `struct fuse_kstatfs`. False: as above.
    pub fn fill_statistics(&mut self, statistics: &[u8]) -> bool {
        // SAFETY: null or libfuse's, valid while the call is not answered.
        let Some(out) = (unsafe { self.statvfs.as_mut() }) else { return false };
        if statistics.len() < STATFS_BYTES {
            return false;
        }
        out.f_blocks = long(statistics, 0);
        out.f_bfree = long(statistics, 8);
        out.f_bavail = long(statistics, 16);
        out.f_files = long(statistics, 24);
        out.f_ffree = long(statistics, 32);
        out.f_favail = out.f_ffree;
        out.f_bsize = word(statistics, 40).into();
        out.f_namemax = word(statistics, 44).into();
        out.f_frsize = word(statistics, 48).into();
        true
    }

    /// Fill in the target of a link, cut where libfuse has no room for more. False: none was asked for.
    pub fn fill_link(&mut self, target: &[u8]) -> bool {
        if self.link.is_null() || self.length == 0 {
            return false;
        }
        let bytes = target.len().min(self.length - 1);
        // SAFETY: libfuse's buffer of `length` bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(target.as_ptr(), self.link.cast(), bytes);
            *self.link.add(bytes) = 0;
        }
        true
    }

    /// Hand the entries of a READDIR's answer to libfuse and move the call's offset behind them. False: libfuse has no
    /// room for more, or the answer makes no sense.
    pub fn fill_directory(&mut self, entries: &[u8]) -> bool {
        let Some(filler) = self.filler else { return false };
        let mut rest = entries;
        while rest.len() >= DIRENT_BYTES {
            let bytes = word(rest, 16) as usize;
            let Some(name) = rest.get(DIRENT_BYTES..DIRENT_BYTES + bytes) else { return false };
            let mut text = [0u8; 256];
            let Some(to) = text[..255].get_mut(..bytes) else { return false };
            to.copy_from_slice(name);
            // SAFETY: all zeros are a valid stat.
            let mut stat: libc::stat = unsafe { std::mem::zeroed() };
            stat.st_ino = long(rest, 0);
            stat.st_mode = word(rest, 20) << 12;
            let offset = long(rest, 8) as libc::off_t;
            // SAFETY: libfuse's function and buffer, which it gave for this call.
            let full =
                unsafe { filler(self.buffer, text.as_ptr().cast(), &raw const stat, offset) };
            if full != 0 {
                return false;
            }
            self.offset = offset;
            rest = rest.get((DIRENT_BYTES + bytes).next_multiple_of(8)..).unwrap_or(&[]);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory as the binding allocates it for a call.
    #[repr(C, align(16))]
    struct Record([u8; CALL_BYTES]);

    fn call(record: &mut Record) -> &mut Call {
        // SAFETY: zeros are a call whose pointers are all null, and nobody else uses the record.
        unsafe { Call::of(&mut record.0) }.unwrap()
    }

    #[test]
    fn a_record_of_another_size_is_refused() {
        let mut record = Record([0; CALL_BYTES]);
        // SAFETY: never used as a call.
        assert!(unsafe { Call::of(&mut record.0[..CALL_BYTES - 8]) }.is_none());
        assert!(thread_of(&[0; MOUNT_BYTES - 1]).is_none());
        let mut mount = [0; MOUNT_BYTES];
        mount[MOUNT_THREAD] = 3;
        assert_eq!(thread_of(&mount), Some(3));
    }

    #[test]
    fn texts_are_copied_as_bytes_or_not_at_all() {
        let mut record = Record([0; CALL_BYTES]);
        let call = call(&mut record);
        call.second_path = c"/\u{e4}\n".as_ptr();
        let mut out = [9; 5];
        assert_eq!(call.text(Text::SecondPath, &mut out), 4);
        assert_eq!(out, [b'/', 0xc3, 0xa4, b'\n', 9]);
        assert_eq!(call.text(Text::SecondPath, &mut [0; 3]), 4);
        assert_eq!(call.text(Text::Path, &mut out), 0);
    }

    #[test]
    fn what_nobody_asked_for_is_not_filled_in() {
        let mut record = Record([0; CALL_BYTES]);
        let call = call(&mut record);
        assert!(!call.fill_attributes(&[0; ATTR_BYTES]));
        assert!(!call.fill_statistics(&[0; STATFS_BYTES]));
        assert!(!call.fill_link(b"target"));
        assert!(!call.fill_directory(&[0; DIRENT_BYTES]));
        assert_eq!(call.open_flags(), 0);
        call.opened(1, 1);
    }

    #[test]
    fn attributes_keep_all_their_bits() {
        let mut record = Record([0; CALL_BYTES]);
        // SAFETY: zeros are a valid stat.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        let call = call(&mut record);
        call.stat = &raw mut stat;
        let mut attr = [0; ATTR_BYTES];
        attr[..8].copy_from_slice(&(1u64 << 40 | 7).to_le_bytes());
        attr[32..40].copy_from_slice(&(-3i64).to_le_bytes());
        attr[52..56].copy_from_slice(&123_456_789u32.to_le_bytes());
        attr[60..64].copy_from_slice(&0o100_644u32.to_le_bytes());
        assert!(!call.fill_attributes(&attr[..ATTR_BYTES - 1]));
        assert!(call.fill_attributes(&attr));
        assert_eq!((stat.st_ino, stat.st_mode), (1 << 40 | 7, 0o100_644));
        assert_eq!((stat.st_mtime, stat.st_mtime_nsec), (-3, 123_456_789));
    }

    #[test]
    fn of_what_is_opened_only_direct_io_is_told() {
        let mut record = Record([0; CALL_BYTES]);
        // SAFETY: zeros are valid.
        let mut info: FileInfo = unsafe { std::mem::zeroed() };
        (info.flags, info.bits) = (2, 0b1000);
        let call = call(&mut record);
        call.info = &raw mut info;
        assert_eq!(call.open_flags(), 2);
        call.opened(7, 0b11);
        assert_eq!((info.handle, info.bits), (7, 0b1001));
    }

    #[test]
    fn a_link_is_cut_where_there_is_no_room() {
        let mut record = Record([0; CALL_BYTES]);
        let mut out = [9 as c_char; 4];
        let call = call(&mut record);
        (call.link, call.length) = (out.as_mut_ptr(), out.len());
        assert!(call.fill_link(b"target"));
        assert_eq!(out.map(|c| c as u8), *b"tar\0");
    }

    /// What the filler below was given, and how many entries it takes.
    #[derive(Default)]
    struct Listing {
        room: usize,
        names: Vec<(Vec<u8>, u64, u32, i64)>,
    }

    unsafe extern "C" fn list(
        to: *mut c_void,
        name: *const c_char,
        stat: *const libc::stat,
        offset: libc::off_t,
    ) -> c_int {
        // SAFETY: the test's own listing, and what `fill_directory` passes.
        let (listing, name, stat) =
            unsafe { (&mut *to.cast::<Listing>(), CStr::from_ptr(name), &*stat) };
        if listing.names.len() == listing.room {
            return 1;
        }
        listing.names.push((name.to_bytes().to_vec(), stat.st_ino, stat.st_mode, offset));
        0
    }

    fn entry(ino: u64, offset: u64, kind: u32, name: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(ino.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(name);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn a_listing_goes_on_behind_the_last_entry_that_was_taken() {
        let mut record = Record([0; CALL_BYTES]);
        let mut listing = Listing { room: 2, names: Vec::new() };
        let call = call(&mut record);
        call.buffer = (&raw mut listing).cast();
        call.filler = Some(list);
        let entries = [
            entry(1 << 33, 11, 4, b"a"),
            entry(2, 12, 8, b"\xff-long-name"),
            entry(3, 13, 8, b"c"),
        ];
        assert!(!call.fill_directory(&entries.concat()));
        assert_eq!(call.offset, 12);
        assert_eq!(listing.names[0], (b"a".to_vec(), 1 << 33, 0o040_000, 11));
        assert_eq!(listing.names[1], (b"\xff-long-name".to_vec(), 2, 0o100_000, 12));
        listing.room = 3;
        assert!(call.fill_directory(&entries[2]));
        assert_eq!((listing.names.len(), call.offset), (3, 13));
        assert!(!call.fill_directory(&entries[2][..DIRENT_BYTES]), "a name that is not all there");
    }
}
