//! The life of a mount: attach, negotiate, serve, detach.
use crate::device::{self, Target};
use crate::hosted::Hosted;
use crate::mount_point::MountPoint;
use crate::protocol::{HEAD_BYTES, Head, init_answer, opcode};
use crate::serve::serve;
use millrace_core::{Engine, reply};
use millrace_layout::FRAME_BYTES;
use std::ffi::{CString, OsStr};
use std::io::{Error, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What to mount.
#[derive(Clone, Debug)]
pub struct Mounting {
    /// An empty directory, absolute and without links.
    pub directory: PathBuf,
    /// What `mount` and `df` show as the source.
    pub source: String,
    /// Let other users in (as an ordinary user this needs `user_allow_other` in /etc/fuse.conf).
    pub allow_other: bool,
    /// Let files that are open for writing be mapped, shared and writable; the kernel refuses with ENODEV otherwise.
    pub shared_mmap: bool,
}

/// Why a mount failed, in words for the user.
#[derive(Debug)]
pub enum MountError {
    /// /dev/fuse cannot be opened.
    Device(Error),
    /// mount(2) said no.
    Mount(Error),
    /// fusermount3 said no, with what it printed.
    Helper(String),
    /// The kernel's FUSE is too old or does not speak.
    Protocol(String),
}

impl std::fmt::Display for MountError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Device(error) => write!(f, "/dev/fuse cannot be opened: {error}"),
            Self::Mount(error) => write!(f, "the mount was refused: {error}"),
            Self::Helper(text) => write!(f, "fusermount3: {text}"),
            Self::Protocol(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for MountError {}

/// A mounted file system.
#[derive(Debug)]
pub struct Session {
    fd: OwnedFd,
    point: Arc<MountPoint>,
}

fn path(path: &Path) -> Result<CString, MountError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|e| MountError::Mount(Error::other(e)))
}

fn attach(mounting: &Mounting) -> Result<OwnedFd, MountError> {
    let fd = device::open().map_err(MountError::Device)?;
    let allow = if mounting.allow_other { ",allow_other" } else { "" };
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,max_read={FRAME_BYTES}{allow}",
        fd.as_raw_fd()
    );
    let (target, data) = (path(&mounting.directory)?, path(Path::new(&data))?);
    let source = path(Path::new(&mounting.source))?;
    // SAFETY: all strings outlive the call.
    let rc = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            c"fuse.millrace".as_ptr(),
            // No access times are kept: the mount table says so.
            libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOATIME,
            data.as_ptr().cast(),
        )
    };
    if rc < 0 { Err(MountError::Mount(Error::last_os_error())) } else { Ok(fd) }
}

/// Mount through the setuid helper: it sends the descriptor over a socket whose number it finds in `_FUSE_COMMFD`.
fn attach_with_helper(mounting: &Mounting) -> Result<OwnedFd, MountError> {
    let (ours, theirs) = UnixStream::pair().map_err(MountError::Mount)?;
    // SAFETY: clears close-on-exec of a descriptor that is ours, so that the helper inherits it.
    unsafe { libc::fcntl(theirs.as_raw_fd(), libc::F_SETFD, 0) };
    let allow = if mounting.allow_other { ",allow_other" } else { "" };
    let options = format!(
        "noatime,default_permissions,max_read={FRAME_BYTES},subtype=millrace,fsname={}{allow}",
        mounting.source.replace('\\', "\\\\").replace(',', "\\,")
    );
    let output = Command::new("fusermount3")
        .args([
            OsStr::new("-o"),
            OsStr::new(&options),
            OsStr::new("--"),
            mounting.directory.as_os_str(),
        ])
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .output()
        .map_err(|e| MountError::Helper(format!("{e} (install the package fuse3)")))?;
    drop(theirs);
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(MountError::Helper(text.trim().trim_start_matches("fusermount3: ").to_owned()));
    }
    receive_descriptor(&ours).map_err(MountError::Mount)
}

fn receive_descriptor(socket: &UnixStream) -> Result<OwnedFd, Error> {
    let mut byte = 0u8;
    let mut control = [0u64; 8];
    let mut vector = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: an all-zero msghdr is valid; its pointers below outlive the call, and the control buffer is aligned.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        if libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) < 0 {
            return Err(Error::last_os_error());
        }
        let first = libc::CMSG_FIRSTHDR(&raw const message);
        if first.is_null()
            || (*first).cmsg_type != libc::SCM_RIGHTS
            || (*first).cmsg_len < libc::CMSG_LEN(size_of::<i32>() as u32) as usize
        {
            return Err(Error::other("fusermount3 sent no descriptor"));
        }
        let fd = libc::CMSG_DATA(first).cast::<i32>().read_unaligned();
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Answer the INIT with which a kernel begins, on a descriptor of its own.
///
/// # Errors
/// When something else comes, or the kernel is too old.
pub fn negotiate(fd: BorrowedFd<'_>, shared_mmap: bool) -> Result<(), MountError> {
    let fd = fd.as_raw_fd();
    let mut head = Head([0; HEAD_BYTES]);
    let mut rest = vec![0; FRAME_BYTES];
    let target = Target { base: rest.as_mut_ptr(), bytes: FRAME_BYTES };
    // SAFETY: the buffer is ours.
    let read = unsafe { device::read(fd, &mut head, [Target { bytes: 0, ..target }, target]) };
    let bytes = read.map_err(MountError::Device)?.unwrap_or(0);
    if bytes < 56 || bytes != head.length() || head.opcode() != opcode::INIT {
        return Err(MountError::Protocol("the kernel did not begin with INIT".into()));
    }
    let Some(answer) = init_answer(&head, shared_mmap) else {
        reply(fd, head.unique(), libc::EPROTO, &[]);
        let (major, minor) = (head.body_word(0), head.body_word(1));
        let text =
            format!("the kernel speaks FUSE {major}.{minor}, but 7.28 (Linux 4.20) is needed");
        return Err(MountError::Protocol(text));
    };
    reply(fd, head.unique(), 0, &[IoSlice::new(&answer)]);
    Ok(())
}

impl Session {
    /// Mount, and answer the kernel's INIT. Root mounts by itself, everybody else through fusermount3.
    pub fn mount(mounting: Mounting) -> Result<Self, MountError> {
        // SAFETY: no arguments.
        let privileged = unsafe { libc::geteuid() } == 0;
        let fd = if privileged { attach(&mounting)? } else { attach_with_helper(&mounting)? };
        let shared_mmap = mounting.shared_mmap;
        let point = Arc::new(MountPoint::new(mounting.directory));
        let session = Self { fd, point };
        if let Err(error) = negotiate(session.fd.as_fd(), shared_mmap) {
            let _ = session.point.unmount(true);
            return Err(error);
        }
        Ok(session)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn point(&self) -> &Arc<MountPoint> {
        &self.point
    }

    /// Start `threads` front threads. `ended` is called once, when the last one has left: the mount is gone.
    ///
    /// The engine keeps all descriptors until it is gone itself. That holds nobody up: the kernel ends the connection when
    /// it is aborted, or when the mount is gone.
    ///
    /// # Errors
    /// When a descriptor or a thread cannot be had; the caller then aborts the mount, so that the other threads leave.
    pub fn serve(
        self,
        engine: &Arc<Engine>,
        threads: usize,
        ended: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        let spare = device::clone(&self.fd)?;
        device::never_block(&spare)?;
        let clones: Vec<OwnedFd> =
            (1..threads).map(|_| device::clone(&self.fd)).collect::<std::io::Result<_>>()?;
        let running = Arc::new(AtomicUsize::new(1 + clones.len()));
        let ended = Arc::new(Mutex::new(Some(ended)));
        let spare = engine.keep_open(spare);
        engine.host_front(Some(Box::new(Hosted::new(engine.clone(), spare))));
        for (number, own) in std::iter::once(self.fd).chain(clones).enumerate() {
            let fd = engine.keep_open(own);
            let (served, running, ended) = (engine.clone(), running.clone(), ended.clone());
            let front = move || {
                let run = std::panic::AssertUnwindSafe(|| serve(&served, fd));
                match std::panic::catch_unwind(run) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => served.fail(format!("/dev/fuse failed: {error}")),
                    Err(_) => served.fail(format!("front {number} died: the mount ends")),
                }
                if running.fetch_sub(1, Ordering::SeqCst) == 1 {
                    served.host_front(None);
                    let ended = ended.lock().unwrap_or_else(PoisonError::into_inner).take();
                    if let Some(ended) = ended {
                        ended();
                    }
                }
            };
            let started = std::thread::Builder::new().name(format!("front-{number}")).spawn(front);
            if let Err(error) = started {
                // It holds the engine, and the thread that would take it away may never come.
                engine.host_front(None);
                return Err(error);
            }
        }
        self.point.widen_readahead(2048);
        Ok(())
    }
}
