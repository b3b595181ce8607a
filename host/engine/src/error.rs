//! Why an engine does not start, and the exit code that says so to whoever started it.

use daos_plugin_api::sdk::Error;
use std::fmt::Display;

/// Exit codes of `daos_io_server`. The daemon restarts the engine after all but 0, 2 and 3.
pub mod exit {
    /// Stopped when asked to.
    pub const OK: u8 = 0;
    /// A device, file or socket failed.
    pub const FAILED: u8 = 1;
    /// Options, environment or configuration cannot work.
    pub const CONFIG: u8 = 2;
    /// The storage is not what its superblock records: a tier is lost, swapped or damaged.
    pub const STORAGE: u8 = 3;
    /// A target gave up while serving.
    pub const TARGET: u8 = 4;
}

/// Why an engine does not start.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct StartError {
    /// One of [`exit`].
    pub code: u8,
    /// What failed, on what, why, and what to do.
    pub text: String,
}

impl StartError {
    /// The configuration cannot work.
    pub fn config(text: impl Display) -> Self {
        Self {
            code: exit::CONFIG,
            text: text.to_string(),
        }
    }

    /// The storage is not what was formatted.
    pub fn storage(text: impl Display) -> Self {
        Self {
            code: exit::STORAGE,
            text: text.to_string(),
        }
    }

    /// Something failed that may work another time.
    pub fn failed(text: impl Display) -> Self {
        Self {
            code: exit::FAILED,
            text: text.to_string(),
        }
    }

    /// A plugin failed at `what`.
    pub fn plugin(what: impl Display, error: &Error) -> Self {
        Self::failed(format_args!("{what}: {error}"))
    }
}
