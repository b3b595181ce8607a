//! Errors of plugin code: code, what failed, cause, what to do.

use crate::abi::Status;

/// Result of fallible plugin code.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// A failure as its reader needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Code that programs look at; never [`Status::OK`].
    pub status: Status,
    /// What failed, on what.
    pub what: String,
    /// Why; empty if `what` says it all.
    pub cause: String,
    /// What to do next; empty if there is nothing.
    pub remedy: String,
}

impl Error {
    /// A failure with no more to say than `what`.
    pub fn new(status: Status, what: impl Into<String>) -> Self {
        Self {
            status,
            what: what.into(),
            cause: String::new(),
            remedy: String::new(),
        }
    }

    /// A failed system call or library call; the status follows from the error kind.
    pub fn io(what: impl Into<String>, cause: impl Into<std::io::Error>) -> Self {
        let cause = cause.into();
        Self::new(status_of(&cause), what).cause(cause.to_string())
    }

    /// "This plugin cannot do `operation`".
    pub fn unsupported(operation: &str) -> Self {
        Self::new(
            Status::NOT_SUPPORTED,
            format!("{operation} is not supported by this plugin"),
        )
    }

    /// Adds the cause.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = cause.into();
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(if self.what.is_empty() {
            self.status.name()
        } else {
            &self.what
        })?;
        if !self.cause.is_empty() {
            write!(f, ": {}", self.cause)?;
        }
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::new(status, status.name())
    }
}

fn status_of(error: &std::io::Error) -> Status {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound => Status::NOT_FOUND,
        Kind::PermissionDenied => Status::PERMISSION,
        Kind::AlreadyExists => Status::EXISTS,
        Kind::InvalidInput | Kind::InvalidData => Status::INVALID,
        Kind::TimedOut => Status::TIMED_OUT,
        Kind::OutOfMemory => Status::NO_MEMORY,
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Status::NO_SPACE,
        Kind::ResourceBusy | Kind::ExecutableFileBusy | Kind::AddrInUse => Status::BUSY,
        Kind::Unsupported => Status::NOT_SUPPORTED,
        _ => Status::IO,
    }
}
