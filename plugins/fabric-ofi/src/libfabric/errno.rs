//! libfabric's error numbers as the interface's status codes.

use super::sys;
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::Error;
use std::ffi::CStr;

/// A libfabric error: positive, as in `rdma/fi_errno.h`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

impl Errno {
    pub(crate) const AGAIN: Self = Self(libc::EAGAIN);
    /// Of a queue: there is an operation that has failed.
    pub(crate) const AVAILABLE: Self = Self(sys::FI_EAVAIL as i32);

    /// Turns libfabric's "0 or more is good, a negated number is an error" around.
    #[inline]
    pub(crate) fn check(result: isize) -> Result<usize, Self> {
        usize::try_from(result).map_err(|_| Self(i32::try_from(-result).unwrap_or(i32::MAX)))
    }

    pub(crate) fn status(self) -> Status {
        match self.0 as u32 {
            sys::FI_ECANCELED => Status::CANCELLED,
            sys::FI_ETRUNC => Status::TRUNCATED,
            sys::FI_EKEYREJECTED | sys::FI_EACCES | sys::FI_EPERM | sys::FI_ENOKEY => {
                Status::ACCESS
            }
            sys::FI_ECONNREFUSED
            | sys::FI_ECONNRESET
            | sys::FI_ECONNABORTED
            | sys::FI_ENOTCONN
            | sys::FI_ESHUTDOWN
            | sys::FI_EHOSTUNREACH
            | sys::FI_EHOSTDOWN
            | sys::FI_ENETUNREACH
            | sys::FI_ENETDOWN
            | sys::FI_ETIMEDOUT
            | sys::FI_EREMOTEIO
            | PIPE => Status::UNREACHABLE,
            sys::FI_EINVAL => Status::INVALID,
            sys::FI_ENOMEM => Status::NO_MEMORY,
            sys::FI_ENOSYS | sys::FI_EOPNOTSUPP => Status::NOT_SUPPORTED,
            _ => Status::IO,
        }
    }

    /// An error of the control face.
    pub(crate) fn error(self, what: impl Into<String>) -> Error {
        Error::new(self.status(), what).cause(self.to_string())
    }
}

/// EPIPE, which libfabric has no name for.
const PIPE: u32 = libc::EPIPE as u32;

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // SAFETY: fi_strerror takes any number and returns a static text.
        let text = unsafe { CStr::from_ptr(sys::fi_strerror(self.0)) };
        write!(f, "{} ({})", text.to_string_lossy(), self.0)
    }
}

impl std::fmt::Debug for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
