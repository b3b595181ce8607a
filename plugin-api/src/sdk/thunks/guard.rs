//! Objects behind handles, and the guard that keeps panics inside the plugin.

use crate::abi::{CallPtr, Handle, Status, Str};
use crate::sdk::{CallContext, Error};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a handle points to: the plugin's object and whether it may still be called.
pub(super) struct Object<T> {
    poisoned: AtomicBool,
    value: T,
}

impl<T> Object<T> {
    pub(super) fn into_handle(value: T) -> Handle {
        Box::into_raw(Box::new(Self {
            poisoned: AtomicBool::new(false),
            value,
        }))
        .cast()
    }

    /// Calls `f` with the object unless it is poisoned; a panic poisons it.
    ///
    /// # Safety
    /// `handle` came from `into_handle` of the same type and is not dropped yet.
    #[inline(always)] // each call of the data face goes through it, some of which take 20 ns
    pub(super) unsafe fn with<R, E: From<Status>>(
        handle: Handle,
        f: impl FnOnce(&T) -> Result<R, E>,
        on_panic: impl FnOnce(String) -> E,
    ) -> Result<R, E> {
        // SAFETY: the caller vouches for the handle.
        let object = unsafe { &*handle.cast::<Self>() };
        if object.poisoned.load(Ordering::Relaxed) {
            return Err(Status::POISONED.into());
        }
        catch_unwind(AssertUnwindSafe(|| f(&object.value))).unwrap_or_else(|payload| {
            object.poisoned.store(true, Ordering::Relaxed);
            Err(on_panic(panic_text(payload)))
        })
    }

    /// Like [`Object::with`] for a call of the data face that answers by a status alone: nothing larger is handed through the guard.
    /// A copy of its three steps - poisoned, caught, poisoned from now on - since such a call takes some 20 ns and every
    /// instruction shows; whoever changes one changes both.
    ///
    /// # Safety
    /// As for `with`.
    #[inline(always)]
    pub(super) unsafe fn status_of(
        handle: Handle,
        f: impl FnOnce(&T) -> Result<(), Status>,
    ) -> Status {
        // SAFETY: the caller vouches for the handle.
        let object = unsafe { &*handle.cast::<Self>() };
        if object.poisoned.load(Ordering::Relaxed) {
            return Status::POISONED;
        }
        catch_unwind(AssertUnwindSafe(|| status(f(&object.value)))).unwrap_or_else(|payload| {
            object.poisoned.store(true, Ordering::Relaxed);
            drop_quietly(payload);
            Status::PANIC
        })
    }

    /// [`Object::with_mut`] for submit and poll, which answer by a count, or a negated status.
    ///
    /// # Safety
    /// As for `with_mut`.
    #[inline(always)]
    pub(super) unsafe fn count_of(
        handle: Handle,
        f: impl FnOnce(&mut T) -> Result<usize, Status>,
    ) -> i32 {
        // SAFETY: the caller vouches for the handle and for exclusiveness.
        unsafe { Self::with_mut(handle, |value| Ok(count(f(value)))) }
            .unwrap_or_else(|status| -status.0)
    }

    /// Like [`Object::with`] with exclusive access, for objects of one thread.
    ///
    /// # Safety
    /// As for `with`; no other call on the handle is in progress.
    #[inline(always)]
    pub(super) unsafe fn with_mut<R>(
        handle: Handle,
        f: impl FnOnce(&mut T) -> Result<R, Status>,
    ) -> Result<R, Status> {
        // SAFETY: the caller vouches for the handle and for exclusiveness.
        let object = unsafe { &mut *handle.cast::<Self>() };
        if *object.poisoned.get_mut() {
            return Err(Status::POISONED);
        }
        match catch_unwind(AssertUnwindSafe(|| f(&mut object.value))) {
            Ok(result) => result,
            Err(payload) => {
                *object.poisoned.get_mut() = true;
                drop_quietly(payload);
                Err(Status::PANIC)
            }
        }
    }

    /// Drops the object; a panic while dropping ends here.
    ///
    /// # Safety
    /// As for `with_mut`; the handle is not used again.
    pub(super) unsafe fn drop_handle(handle: Handle) {
        // SAFETY: the caller vouches for the handle, which came from `Box::into_raw`.
        let object = unsafe { Box::from_raw(handle.cast::<Self>()) };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(object))) {
            drop_quietly(payload);
        }
    }
}

/// A panic payload may itself panic when dropped; it is leaked then.
fn drop_quietly(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}

fn panic_text(payload: Box<dyn Any + Send>) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic with a payload that is no text".to_owned());
    drop_quietly(payload);
    text
}

/// Runs a control-face function on the object behind `handle`: reports failures through the call
/// and turns panics into [`Status::PANIC`].
///
/// # Safety
/// `handle` as for [`Object::with`]; `call` is live until this returns.
pub(super) unsafe fn control<T>(
    handle: Handle,
    call: CallPtr,
    operation: &str,
    f: impl FnOnce(&T, CallContext<'_>) -> Result<(), Error>,
) -> Status {
    // SAFETY: the caller vouches for `call`.
    let context = unsafe { CallContext::from_abi(call) };
    // SAFETY: the caller vouches for `handle`.
    let result = unsafe {
        Object::<T>::with(
            handle,
            |value| f(value, context),
            |text| panicked(operation, text),
        )
    };
    conclude(context, result)
}

/// Runs a function that has no object yet.
///
/// # Safety
/// `call` is live until this returns.
pub(super) unsafe fn control_free(
    call: CallPtr,
    operation: &str,
    f: impl FnOnce(CallContext<'_>) -> Result<(), Error>,
) -> Status {
    // SAFETY: the caller vouches for `call`.
    let context = unsafe { CallContext::from_abi(call) };
    let result = catch_unwind(AssertUnwindSafe(|| f(context)))
        .unwrap_or_else(|payload| Err(panicked(operation, panic_text(payload))));
    conclude(context, result)
}

fn panicked(operation: &str, text: String) -> Error {
    Error::new(Status::PANIC, format!("the plugin panicked in {operation}"))
        .cause(text)
        .remedy("report this to the plugin's vendor")
}

fn conclude(context: CallContext<'_>, result: Result<(), Error>) -> Status {
    match result {
        Ok(()) => Status::OK,
        Err(error) => {
            context.fail(&error);
            error.status
        }
    }
}

/// Status of a data-face result.
#[inline]
pub(super) fn status(result: Result<(), Status>) -> Status {
    result.err().unwrap_or(Status::OK)
}

/// Count of a data-face result: itself, or the negated status.
#[inline]
fn count(result: Result<usize, Status>) -> i32 {
    match result {
        Ok(n) => i32::try_from(n).unwrap_or(i32::MAX),
        Err(status) => -status.0,
    }
}

/// # Safety
/// `text` points to `len` readable bytes (or is empty) for `'a`.
pub(super) unsafe fn text<'a>(text: Str) -> Result<&'a str, Error> {
    if text.len == 0 {
        return Ok("");
    }
    // SAFETY: the caller vouches for pointer and length.
    let bytes = unsafe { std::slice::from_raw_parts(text.ptr, text.len) };
    std::str::from_utf8(bytes).map_err(|e| {
        Error::new(Status::INVALID, "text from the host is not UTF-8").cause(e.to_string())
    })
}

/// Parses a JSON request document.
///
/// # Safety
/// As for [`text`].
pub(super) unsafe fn document<T: serde::de::DeserializeOwned>(request: Str) -> Result<T, Error> {
    // SAFETY: the caller vouches for the text.
    let json = unsafe { text(request)? };
    serde_json::from_str(json).map_err(|e| {
        Error::new(Status::INVALID, "the request document is malformed").cause(e.to_string())
    })
}

/// Writes an answer document.
pub(super) fn answer(
    context: CallContext<'_>,
    document: &impl serde::Serialize,
) -> Result<(), Error> {
    let json = serde_json::to_vec(document).map_err(|e| {
        Error::new(Status::INTERNAL, "cannot encode the answer").cause(e.to_string())
    })?;
    context.output(&json);
    Ok(())
}
