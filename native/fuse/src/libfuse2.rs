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
