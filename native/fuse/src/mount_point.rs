//! A place in the mount table: found, unmounted, aborted, whoever mounted it.
use std::ffi::CString;
use std::io::{Error, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where a file system of ours is mounted.
#[derive(Debug)]
pub struct MountPoint {
    directory: PathBuf,
    /// Root unmounts by itself, everybody else through the setuid helper.
    privileged: bool,
    /// major:minor, read while the mount is in the table.
    device: Option<String>,
}

impl MountPoint {
    /// The mount that is on `directory` now: absolute and without links.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        let device = device_of(&directory);
        // SAFETY: no arguments.
        let privileged = unsafe { libc::geteuid() } == 0;
        Self { directory, privileged, device }
    }

    /// Unmount. `lazy`: also while it is in use (users then get errors). An error says why not; what somebody else has
    /// mounted on the directory since is left alone.
    ///
    /// Threads: not one that serves the mount, which may have to write pages back meanwhile.
    pub fn unmount(&self, lazy: bool) -> Result<(), String> {
        if !self.is_here() {
            return Err("it is not mounted there any more".to_owned());
        }
        if self.privileged {
            let flags = if lazy { libc::MNT_DETACH } else { 0 };
            return self.detach(flags).map_err(|e| e.to_string());
        }
        match self.helper(if lazy { "-uz" } else { "-u" }) {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// umount2(2) of the directory; root only.
    fn detach(&self, flags: i32) -> Result<(), Error> {
        let target = CString::new(self.directory.as_os_str().as_bytes())?;
        // SAFETY: the path outlives the call.
        let rc = unsafe { libc::umount2(target.as_ptr(), flags) };
        if rc < 0 { Err(Error::last_os_error()) } else { Ok(()) }
    }

    /// Whether the directory still shows this mount, as far as the kernel told its device.
    fn is_here(&self) -> bool {
        self.device.is_none() || device_of(&self.directory) == self.device
    }

    /// The helper of libfuse 3, or where there is none that of libfuse 2.
    fn helper(&self, flags: &str) -> Result<Output, Error> {
        let run =
            |program| Command::new(program).arg(flags).arg("--").arg(&self.directory).output();
        match run("fusermount3") {
            Err(error) if error.kind() == ErrorKind::NotFound => run("fusermount"),
            result => result,
        }
    }

    /// Buffered reads follow the device's read-ahead, 128 KiB by default, which is one request or less. Root only; after
    /// INIT was answered, whose answer sets it too.
    pub fn widen_readahead(&self, kibibytes: u32) {
        if let (true, Some(device)) = (self.privileged, &self.device) {
            let _ = std::fs::write(
                format!("/sys/class/bdi/{device}/read_ahead_kb"),
                kibibytes.to_string(),
            );
        }
    }

    /// Fail every request that is in flight and every later one, so that nobody hangs, and detach the mount. An error
    /// says why requests were not failed; the mount is detached even so.
    ///
    /// The connection must be served still: its number is given to another one afterwards.
    pub fn abort(&self) -> Result<(), String> {
        let aborted = self.abort_by_control().or_else(|why| {
            self.abort_by_force().map_err(|too| format!("fusectl: {why}; umount -f: {too}"))
        });
        let _ = self.unmount(true);
        aborted
    }

    /// By the file system fusectl, which containers often lack.
    fn abort_by_control(&self) -> Result<(), String> {
        let device = self.device.as_ref().and_then(|d| d.split_once(':'));
        let (_, minor) = device.ok_or("the number of the connection is not known")?;
        std::fs::write(format!("/sys/fs/fuse/connections/{minor}/abort"), "1")
            .map_err(|e| e.to_string())
    }

    /// By an unmount that is forced: the kernel aborts the connection first, and then finds the mount in use or not.
    fn abort_by_force(&self) -> Result<(), String> {
        if !self.privileged {
            return Err("only root may".to_owned());
        }
        if !self.is_here() {
            return Err("it is not mounted there any more".to_owned());
        }
        match self.detach(libc::MNT_FORCE) {
            Err(error) if error.raw_os_error() != Some(libc::EBUSY) => Err(error.to_string()),
            _ => Ok(()),
        }
    }
}

/// A mount's device number from mountinfo: stat(2) would ask our own threads.
fn device_of(directory: &Path) -> Option<String> {
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    let wanted = escape(directory.as_os_str().as_bytes());
    mounts.split(|&b| b == b'\n').rev().find_map(|line| {
        let mut fields = line.split(|&b| b == b' ').skip(2);
        let device = fields.next()?;
        (fields.nth(1)? == wanted).then(|| String::from_utf8_lossy(device).into_owned())
    })
}

/// mountinfo writes space, tab, newline and backslash as octal.
fn escape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for &byte in path {
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\\') {
            out.extend_from_slice(format!("\\{byte:03o}").as_bytes());
        } else {
            out.push(byte);
        }
    }
    out
}
