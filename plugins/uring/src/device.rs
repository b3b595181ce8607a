//! An open device: target, memory, engine.

use crate::memory::Registrations;
use crate::queue::{Counted, FdQueue};
use crate::ring;
use crate::target::{MAX_DEPTH, MAX_QUEUES, Target};
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What carries out I/O; the setting `io_engine` of the plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// io_uring, or threads where it is not allowed.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// A few threads per queue.
    Threads,
}

impl Engine {
    /// Settles `Auto`.
    ///
    /// # Errors
    /// NOT_SUPPORTED if io_uring is demanded where it cannot be had.
    fn settle(self) -> Result<Self> {
        if self == Self::Threads {
            return Ok(Self::Threads);
        }
        let Err(cause) = ring::available() else {
            return Ok(Self::Uring);
        };
        if self == Self::Uring {
            return Err(
                Error::new(Status::NOT_SUPPORTED, "io_uring cannot be used here")
                    .cause(cause.to_string())
                    .remedy(
                        "set the plugin's setting io_engine to auto or threads, or allow io_uring \
                     (sysctl kernel.io_uring_disabled, seccomp profile of the container)",
                    ),
            );
        }
        tracing::warn!(
            "io_uring cannot be used here ({cause}): a few threads per queue do the I/O"
        );
        Ok(Self::Threads)
    }

    /// Name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Uring => "io_uring",
            Self::Threads => "threads",
        }
    }
}

/// An open device on a file descriptor.
pub struct FdDevice {
    name: String,
    target: Arc<Target>,
    memory: Arc<Registrations>,
    engine: Engine,
}

impl FdDevice {
    /// A device called `name` in messages, with the memory that the plugin was offered.
    ///
    /// # Errors
    /// NOT_SUPPORTED if `engine` demands io_uring where it cannot be had.
    pub fn new(
        name: impl Into<String>,
        target: Target,
        memory: Arc<Registrations>,
        engine: Engine,
    ) -> Result<Self> {
        let (target, engine) = (Arc::new(target), engine.settle()?);
        Ok(Self {
            name: name.into(),
            target,
            memory,
            engine,
        })
    }

    /// What its queues work on.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The engine in use, never `Auto`.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Opens a queue on the calling thread.
    ///
    /// # Errors
    /// INVALID for a depth out of range, BUSY if too many queues are open, otherwise what the
    /// kernel says.
    pub fn open_queue(&self, depth: u32) -> Result<FdQueue> {
        let failed = |status| {
            Error::new(
                status,
                format!("cannot open a queue of depth {depth} on {}", self.name),
            )
        };
        if !(1..=MAX_DEPTH).contains(&depth) {
            return Err(failed(Status::INVALID).cause(format!("depths are 1 to {MAX_DEPTH}")));
        }
        let open = self.target.queues.fetch_add(1, Ordering::AcqRel);
        let count = Counted(Arc::clone(&self.target));
        if open >= MAX_QUEUES {
            let cause = format!("{MAX_QUEUES} queues are open, which is the most");
            return Err(failed(Status::BUSY).cause(cause));
        }
        FdQueue::open(count, &self.memory, depth, self.engine).map_err(|cause| {
            Error::io(
                format!("cannot open a queue of depth {depth} on {}", self.name),
                cause,
            )
            .remedy("raise the limits of open files and locked memory (ulimit -n, ulimit -l)")
        })
    }

    /// Health as counted while open.
    pub fn health(&self) -> Map<String, Value> {
        let (io, media) = self.target.errors();
        let status = match (self.target.is_gone(), media, io) {
            (true, ..) => "gone",
            (_, 1.., _) => "critical",
            (_, _, 1..) => "warning",
            _ => "ok",
        };
        Map::from_iter([
            ("status".to_owned(), json!(status)),
            ("io_errors".to_owned(), json!(io)),
            ("media_errors".to_owned(), json!(media)),
            (
                "open_queues".to_owned(),
                json!(self.target.queues.load(Ordering::Relaxed)),
            ),
        ])
    }
}
