//! What TypeScript sees of the fronts: the kernel's own, and the bridge for another FUSE library.
use crate::failed;
use crate::registry::{Mounted, bridge, engine, mounted, remember_bridge, remember_mount};
use millrace_core::Region;
use millrace_fuse::libfuse2::{Call, Text, thread_of};
use millrace_fuse::{Bridge, MountPoint, Mounting, Order, Session, Watchers, when_left};
use napi::bindgen_prelude::{AsyncTask, Function, Int32Array, Uint8Array, Uint8ArraySlice};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Env, Result, Task};
use napi_derive::napi;
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::Arc;

/// What to mount: see `Mounting`.
#[napi(object)]
pub struct MountOptions {
    /// Mount point.
    pub directory: String,
    /// What `df` shows as the source.
    pub source: String,
    /// Let other users in.
    pub allow_other: bool,
    /// Let files that are open for writing be mapped, shared and writable.
    pub shared_mmap: bool,
    /// Front threads.
    pub threads: u32,
}

/// A function that wakes the calling thread's event loop.
fn waker(function: &Function<'_, (), ()>) -> Result<impl Fn() + Send + Sync + 'static> {
    let function = function.build_threadsafe_function::<()>().build()?;
    Ok(move || {
        function.call((), ThreadsafeFunctionCallMode::NonBlocking);
    })
}

/// Mount through /dev/fuse and start the front threads; `ended` is called when the mount is gone.
#[napi]
pub fn mount(id: u32, options: MountOptions, ended: Function<'_, (), ()>) -> Result<()> {
    let engine = engine(id)?;
    let ended = waker(&ended)?;
    let session = Session::mount(Mounting {
        directory: PathBuf::from(options.directory),
        source: options.source,
        allow_other: options.allow_other,
        shared_mmap: options.shared_mmap,
    });
    let session = session.map_err(|e| failed(e.to_string()))?;
    let point = session.point().clone();
    if let Err(error) = session.serve(&engine, options.threads as usize, ended) {
        // Nobody uses it yet, and its descriptors are closed with the engine: that aborts it as well.
        let _ = point.abort();
        return Err(failed(error.to_string()));
    }
    remember_mount(id, Mounted { point });
    Ok(())
}

/// Unmounts on a thread of libuv's pool, because a front on the main thread may have to serve meanwhile.
pub struct Unmount {
    point: Arc<MountPoint>,
    lazy: bool,
}

impl Task for Unmount {
    type Output = Option<String>;
    type JsValue = Option<String>;

    fn compute(&mut self) -> Result<Self::Output> {
        Ok(self.point.unmount(self.lazy).err())
    }

    fn resolve(&mut self, _env: Env, refusal: Self::Output) -> Result<Self::JsValue> {
        Ok(refusal)
    }
}

/// Unmount; the reason when it is refused.
#[napi(ts_return_type = "Promise<string | null>")]
pub fn unmount(id: u32, lazy: bool) -> Result<AsyncTask<Unmount>> {
    Ok(AsyncTask::new(Unmount { point: mounted(id)?.point, lazy }))
}

/// Aborts likewise.
pub struct Abort(Arc<MountPoint>);

impl Task for Abort {
    type Output = Option<String>;
    type JsValue = Option<String>;

    fn compute(&mut self) -> Result<Self::Output> {
        Ok(self.0.abort().err())
    }

    fn resolve(&mut self, _env: Env, refusal: Self::Output) -> Result<Self::JsValue> {
        Ok(refusal)
    }
}

/// Fail what is in flight and detach the mount, so that nobody hangs; why the former could not be done.
#[napi(ts_return_type = "Promise<string | null>")]
pub fn abort(id: u32) -> Result<AsyncTask<Abort>> {
    Ok(AsyncTask::new(Abort(mounted(id)?.point)))
}

/// Load a library for those that are loaded later and need it by its name. Null, or why not.
#[napi]
pub fn load_library(file: String) -> Result<Option<String>> {
    let file = CString::new(file).map_err(|e| failed(e.to_string()))?;
    // SAFETY: the path outlives the call; a library is trusted as the packages are that bring it.
    let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if !handle.is_null() {
        return Ok(None);
    }
    // SAFETY: the text of this thread's last error, which is there because dlopen failed.
    let reason = unsafe { std::ffi::CStr::from_ptr(libc::dlerror()) };
    Ok(Some(reason.to_string_lossy().into_owned()))
}

/// Make the calling thread the front of an engine, with so many lanes: see `Bridge`. Main thread only.
#[napi]
pub fn bridge_start(
    id: u32,
    lanes: u32,
    replied: Function<'_, (), ()>,
    room: Function<'_, (), ()>,
) -> Result<()> {
    let watchers = Watchers { replied: Box::new(waker(&replied)?), room: Box::new(waker(&room)?) };
    let started = Bridge::start(engine(id)?, lanes as usize, watchers);
    remember_bridge(id, started.map_err(|e| failed(e.to_string()))?);
    Ok(())
}

/// The mount that a library has made by now: `record` is the binding's; `ended` is called when its thread has left.
#[napi]
pub fn bridge_mounted(
    id: u32,
    directory: String,
    record: Uint8ArraySlice<'_>,
    ended: Function<'_, (), ()>,
) -> Result<()> {
    let ended = waker(&ended)?;
    let thread = thread_of(&record).ok_or_else(|| failed("this is not fuse-native 2.2.6"))?;
    let point = Arc::new(MountPoint::new(PathBuf::from(directory)));
    remember_mount(id, Mounted { point });
    // SAFETY: the binding never joins or detaches its thread.
    unsafe { when_left(thread, ended) }.map_err(|e| failed(e.to_string()))
}

/// Let buffered reads run ahead: once the mount has answered a request.
#[napi]
pub fn widen_readahead(id: u32, kibibytes: u32) -> Result<()> {
    mounted(id)?.point.widen_readahead(kibibytes);
    Ok(())
}

/// A request for `bridge_submit`, as numbers that JavaScript keeps in one object.
#[napi(object)]
pub struct BridgeOrder {
    /// FUSE opcode.
    pub opcode: u32,
    /// Inode.
    pub node: f64,
    /// Caller.
    pub uid: u32,
    /// Caller's group.
    pub gid: u32,
}

/// Queue a request on a lane: see `Bridge::submit`. The destination must stay referenced until it was answered.
#[napi]
pub fn bridge_submit(
    id: u32,
    lane: u32,
    order: BridgeOrder,
    body: Uint8ArraySlice<'_>,
    payload: Option<Uint8ArraySlice<'_>>,
    destination: Uint8ArraySlice<'_>,
) -> Result<i32> {
    let BridgeOrder { opcode, node, uid, gid } = order;
    let order = Order { opcode, node: node as u64, uid, gid };
    let payload: &[u8] = payload.as_deref().unwrap_or(&[]);
    let to = Region { base: destination.as_ptr().cast_mut(), bytes: destination.len() };
    // SAFETY: the caller keeps the destination until the answer was taken or given up.
    Ok(unsafe { bridge(id)?.submit(lane, order, [&body, payload], to) })
}

/// Write (lane, result) pairs of what was answered to `out`, which has room for all lanes; how many.
#[napi]
pub fn bridge_completed(id: u32, mut out: Int32Array) -> Result<u32> {
    // SAFETY: the caller's own array, which it reads after this call.
    let out = unsafe { out.as_mut() };
    let mut count = 0;
    bridge(id)?.completed(|lane, result| {
        if let Some(pair) = out.get_mut(count * 2..count * 2 + 2) {
            pair.copy_from_slice(&[lane as i32, result]);
            count += 1;
        }
    });
    Ok(count as u32)
}

/// Give every request up: see `Bridge::abandon`.
#[napi]
pub fn bridge_abandon(id: u32) -> Result<()> {
    bridge(id)?.abandon();
    Ok(())
}

/// Run `body` with the call behind a record of the binding.
fn with_call<T>(mut record: Uint8Array, body: impl FnOnce(&mut Call) -> T) -> Result<T> {
    // SAFETY: JavaScript passes what the binding gave it, before it answers the call; nobody else uses it meanwhile.
    let call = unsafe { Call::of(record.as_mut()) };
    call.map(body).ok_or_else(|| failed("this is not a call of fuse-native 2.2.6"))
}

/// Copy a text of a call (0: path, 1: second path, 2: name of an xattr); its bytes, which may be more than fit.
#[napi]
pub fn call_text(call: Uint8Array, which: u32, mut out: Uint8Array) -> Result<u32> {
    let which = match which {
        0 => Text::Path,
        1 => Text::SecondPath,
        _ => Text::Name,
    };
    // SAFETY: the caller's own array, which it reads after this call.
    let out = unsafe { out.as_mut() };
    with_call(call, |call| call.text(which, out) as u32)
}

/// Flags of open(2) of a call.
#[napi]
pub fn call_open_flags(call: Uint8Array) -> Result<i32> {
    with_call(call, |call| call.open_flags())
}

/// Say what a call has opened.
#[napi]
pub fn call_opened(call: Uint8Array, handle: u32, flags: u32) -> Result<()> {
    with_call(call, |call| call.opened(handle.into(), flags))
}

/// Fill in what a call asked for from an answer of the kernel's protocol: see `Call`.
#[napi]
pub fn call_fill(call: Uint8Array, what: u32, answer: Uint8ArraySlice<'_>) -> Result<bool> {
    with_call(call, |call| match what {
        0 => call.fill_attributes(&answer),
        1 => call.fill_statistics(&answer),
        2 => call.fill_link(&answer),
        _ => call.fill_directory(&answer),
    })
}
