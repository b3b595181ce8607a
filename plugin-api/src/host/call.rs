//! The host's side of [`Call`]: collects output and error of one call.

use super::services::lossy;
use crate::abi::{Call, CallPtr, ErrorInfo, Status, Str};
use crate::sdk::Error;
use core::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Receiver of progress: done, total (0 = unknown), what.
pub type Progress<'a> = dyn Fn(u64, u64, &str) + Send + Sync + 'a;

/// How a call is made: all optional.
#[derive(Clone, Copy, Default)]
pub struct CallOptions<'a> {
    /// Told to the plugin; enforced by whoever owns the process.
    pub deadline: Option<Duration>,
    /// Set it to ask the plugin to stop.
    pub cancel: Option<&'a AtomicBool>,
    /// Receives progress, from any thread.
    pub progress: Option<&'a Progress<'a>>,
}

/// Most bytes of an answer; a plugin that writes more is broken.
const OUTPUT_LIMIT: usize = 64 << 20;

struct State<'a> {
    options: CallOptions<'a>,
    error: Mutex<Option<Error>>,
    output: Mutex<Vec<u8>>,
}

/// Runs `f` with a call context; returns what the plugin wrote, or the error it described.
pub(super) fn run(
    options: CallOptions<'_>,
    operation: &str,
    f: impl FnOnce(CallPtr) -> Status,
) -> Result<Vec<u8>, Error> {
    let state = State {
        options,
        error: Mutex::new(None),
        output: Mutex::new(Vec::new()),
    };
    let call = Call {
        size: size_of::<Call>() as u32,
        version: u32::from(crate::abi::ABI_MINOR),
        ctx: (&raw const state).cast_mut().cast(),
        deadline_ms: options.deadline.map_or(0, |d| {
            u64::try_from(d.as_millis()).unwrap_or(u64::MAX).max(1)
        }),
        progress,
        cancelled,
        fail,
        output,
    };
    let status = f(CallPtr(&call));
    if status.is_ok() {
        return Ok(state.output.into_inner().unwrap_or_else(|e| e.into_inner()));
    }
    let described = state.error.into_inner().unwrap_or_else(|e| e.into_inner());
    Err(match described {
        Some(mut error) => {
            error.status = status;
            error
        }
        None => Error::new(status, format!("{operation} failed")).cause(status.name()),
    })
}

/// # Safety
/// `ctx` is that of a [`Call`] made by [`run`] which has not returned.
unsafe fn state<'a>(ctx: *mut c_void) -> &'a State<'a> {
    // SAFETY: the caller vouches for it.
    unsafe { &*ctx.cast::<State<'a>>() }
}

unsafe extern "C" fn progress(ctx: *mut c_void, done: u64, total: u64, what: Str) {
    // SAFETY: plugins pass the call's context and a text that lives for the call.
    let (state, what) = unsafe { (state(ctx), lossy(what)) };
    if let Some(progress) = state.options.progress {
        progress(done, total, &what);
    }
}

unsafe extern "C" fn cancelled(ctx: *mut c_void) -> u8 {
    // SAFETY: plugins pass the call's context.
    let state = unsafe { state(ctx) };
    u8::from(
        state
            .options
            .cancel
            .is_some_and(|flag| flag.load(Ordering::Relaxed)),
    )
}

unsafe extern "C" fn fail(ctx: *mut c_void, error: *const ErrorInfo) {
    // SAFETY: plugins pass the call's context and a record whose texts live for the call.
    unsafe {
        let info = &*error;
        let described = Error {
            status: info.status,
            what: lossy(info.what),
            cause: lossy(info.cause),
            remedy: lossy(info.remedy),
        };
        *state(ctx).error.lock().unwrap_or_else(|e| e.into_inner()) = Some(described);
    }
}

unsafe extern "C" fn output(ctx: *mut c_void, data: *const u8, len: usize) {
    if len == 0 {
        return;
    }
    // SAFETY: plugins pass the call's context and `len` readable bytes.
    let (state, bytes) = unsafe { (state(ctx), std::slice::from_raw_parts(data, len)) };
    let mut output = state.output.lock().unwrap_or_else(|e| e.into_inner());
    let room = OUTPUT_LIMIT.saturating_sub(output.len()).min(bytes.len());
    output.extend_from_slice(&bytes[..room]);
}
