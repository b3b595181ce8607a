//! The context of a control-face call, seen from the plugin.

use crate::abi::{Call, CallPtr, ErrorInfo, Str};
use crate::sdk::Error;
use std::time::Duration;

/// One control-face call: progress, cancellation, deadline. Valid until the call returns.
#[derive(Clone, Copy)]
pub struct CallContext<'a> {
    call: &'a Call,
}

// SAFETY: the functions of a `Call` may be called from any thread while the call lasts.
unsafe impl Send for CallContext<'_> {}
// SAFETY: as above.
unsafe impl Sync for CallContext<'_> {}

impl<'a> CallContext<'a> {
    /// # Safety
    /// `call` points to a live `Call` of the host for `'a`.
    pub(crate) unsafe fn from_abi(call: CallPtr) -> Self {
        // SAFETY: the caller vouches for the pointer.
        let call = unsafe { &*call.0 };
        Self { call }
    }

    /// Reports progress of the step `what`: `done` of `total` (0 = unknown) in any unit.
    pub fn progress(&self, done: u64, total: u64, what: &str) {
        // SAFETY: the host's function with the host's context; `what` outlives the call.
        unsafe { (self.call.progress)(self.call.ctx, done, total, Str::new(what)) }
    }

    /// Whether the caller wants the operation to stop. Long work asks at least every 100 ms.
    pub fn cancelled(&self) -> bool {
        // SAFETY: the host's function with the host's context.
        unsafe { (self.call.cancelled)(self.call.ctx) != 0 }
    }

    /// `Err(CANCELLED)` once the caller wants the operation to stop.
    pub fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancelled() {
            return Err(Error::new(
                crate::abi::Status::CANCELLED,
                "the operation was cancelled",
            ));
        }
        Ok(())
    }

    /// Time the whole call may take, `None` = no limit.
    pub fn deadline(&self) -> Option<Duration> {
        (self.call.deadline_ms != 0).then(|| Duration::from_millis(self.call.deadline_ms))
    }

    pub(crate) fn fail(&self, error: &Error) {
        let info = ErrorInfo {
            status: error.status,
            reserved: 0,
            what: Str::new(&error.what),
            cause: Str::new(&error.cause),
            remedy: Str::new(&error.remedy),
        };
        // SAFETY: the host's function with the host's context; `info` outlives the call.
        unsafe { (self.call.fail)(self.call.ctx, &info) }
    }

    pub(crate) fn output(&self, bytes: &[u8]) {
        // SAFETY: the host's function with the host's context; `bytes` outlives the call.
        unsafe { (self.call.output)(self.call.ctx, bytes.as_ptr(), bytes.len()) }
    }
}
