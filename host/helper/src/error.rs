//! What can become of an operation.

use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::Error;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A failure as a plugin describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginError {
    /// Number of the [`Status`].
    pub status: i32,
    /// What failed, on what.
    pub what: String,
    /// Why; may be empty.
    pub cause: String,
    /// What to do next; may be empty.
    pub remedy: String,
}

impl PluginError {
    /// The code.
    pub fn status(&self) -> Status {
        Status(self.status)
    }
}

impl From<Error> for PluginError {
    fn from(error: Error) -> Self {
        Self {
            status: error.status.0,
            what: error.what,
            cause: error.cause,
            remedy: error.remedy,
        }
    }
}

impl From<PluginError> for Error {
    fn from(error: PluginError) -> Self {
        Self::new(Status(error.status), error.what)
            .cause(error.cause)
            .remedy(error.remedy)
    }
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Error::from(self.clone()).fmt(f)
    }
}

/// How a helper process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Death {
    /// A signal killed it.
    Signal(i32),
    /// It exited.
    Exit(i32),
    /// It is gone, nobody knows how.
    Unknown,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "its process was killed by {signal}"),
                Err(_) => write!(f, "its process was killed by signal {number}"),
            },
            Self::Exit(code) if *code == i32::from(daos_loader::EXIT_TAKEN) => f.write_str(
                "it closed its process's connection to the daemon, a descriptor that is not its own, or put another file in its place",
            ),
            Self::Exit(code) => write!(f, "its process exited with code {code}"),
            Self::Unknown => f.write_str("its process vanished"),
        }
    }
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// The plugin said so.
    Plugin(Box<PluginError>),
    /// The plugin was not loaded: one sentence with the remedy.
    Refused(String),
    /// The process of the plugin ended.
    Died {
        /// How.
        how: Death,
        /// The plugin's file is quarantined, since it died while it was being loaded.
        quarantined: bool,
    },
    /// The plugin was not back in time, and its process was killed.
    Deadline {
        /// The deadline in milliseconds.
        after_ms: u64,
        /// The plugin's file is quarantined, since it hung while it was being loaded.
        quarantined: bool,
    },
    /// The caller cancelled the operation.
    Cancelled {
        /// The plugin did not listen, and its process was killed.
        forced: bool,
    },
    /// The process of the plugin sent something that makes no sense, and was killed.
    Nonsense {
        /// What it sent.
        what: String,
        /// The plugin's file is quarantined, since it did so while it was being loaded or scanned.
        quarantined: bool,
    },
    /// No helper process could be started.
    Start(String),
}

/// An operation on a plugin failed. `Display` is one sentence that names plugin and operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelperError {
    /// Name of the plugin.
    pub plugin: String,
    /// Its version. Boxed, as every byte of an error is carried by each successful call's result.
    pub version: Box<str>,
    /// Name of the operation; `load` while it was being loaded.
    pub operation: String,
    /// Why.
    pub cause: Cause,
    /// Last log lines of the plugin, oldest first; only where the cause leaves questions.
    pub log: Vec<String>,
}

impl HelperError {
    /// Code of the failure: the plugin's own, or the nearest to what happened.
    pub fn status(&self) -> Status {
        match &self.cause {
            Cause::Plugin(error) => error.status(),
            Cause::Refused(_) => Status::PERMISSION,
            Cause::Deadline { .. } => Status::TIMED_OUT,
            Cause::Cancelled { .. } => Status::CANCELLED,
            Cause::Died { .. } | Cause::Nonsense { .. } | Cause::Start(_) => Status::INTERNAL,
        }
    }
}

impl fmt::Display for HelperError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            plugin,
            version,
            operation,
            ..
        } = self;
        // A refusal is a sentence that names the plugin already.
        if let Cause::Refused(message) = &self.cause {
            return f.write_str(message);
        }
        write!(f, "plugin {plugin} {version} failed in {operation}: ")?;
        match &self.cause {
            Cause::Plugin(error) => write!(f, "{error}")?,
            Cause::Refused(_) => {}
            Cause::Died { how, .. } => write!(f, "{how}")?,
            Cause::Deadline { after_ms, .. } => {
                let after = Duration::from_millis(*after_ms);
                write!(f, "it did not return within {after:?} and was killed")?;
            }
            Cause::Cancelled { forced: false } => f.write_str("the operation was cancelled")?,
            Cause::Cancelled { forced: true } => {
                f.write_str("the operation was cancelled, which it ignored until it was killed")?;
            }
            Cause::Nonsense { what, .. } => {
                write!(f, "it sent nonsense to the daemon and was killed: {what}")?;
            }
            Cause::Start(what) => write!(f, "no helper process: {what}")?,
        }
        if let Some((last, earlier)) = self.log.split_last() {
            let more = earlier.len();
            write!(f, " (last log line: {last:?}")?;
            if more > 0 {
                write!(f, ", {more} more before it")?;
            }
            f.write_str(")")?;
        }
        match &self.cause {
            Cause::Died { quarantined, .. }
            | Cause::Deadline { quarantined, .. }
            | Cause::Nonsense { quarantined, .. } => {
                if *quarantined {
                    write!(
                        f,
                        "; it is quarantined until its file changes or `daos_server plugin reset {plugin}`"
                    )
                } else {
                    f.write_str("; tell its vendor if it happens again")
                }
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for HelperError {}
