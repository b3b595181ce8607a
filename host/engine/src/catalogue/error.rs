//! Why the catalogue refuses or fails.

use super::snapshot::Missing;
use daos_wire::{LabelError, WireStatus};
use thiserror::Error;

/// Why the catalogue refuses or fails.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CatalogueError {
    /// What was named does not exist.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A pool of that UUID or label exists.
    #[error("{0}")]
    PoolExists(String),
    /// A container of that UUID or label exists.
    #[error("{0}")]
    ContainerExists(String),
    /// One of that UUID is being destroyed: its name comes back when that has ended.
    #[error("{0} is being destroyed; try again when that has ended")]
    Destroying(String),
    /// The label cannot be one.
    #[error("{0}")]
    Label(#[from] LabelError),
    /// The pool would be too small for its targets.
    #[error("{0}")]
    TooSmall(String),
    /// More than is there.
    #[error("{0}")]
    NoSpace(String),
    /// A pool with containers.
    #[error(
        "pool {pool} has {count} container(s); destroy them first, or all at once with --recursive"
    )]
    HasContainers {
        /// Its label.
        pool: String,
        /// How many it has.
        count: usize,
    },
    /// The file is damaged or of another engine.
    #[error("the catalogue of pools and containers is damaged: {0}")]
    Corrupt(String),
    /// The file failed.
    #[error("the catalogue of pools and containers cannot be written: {0}")]
    Io(String),
}

impl CatalogueError {
    /// As a reply says it.
    pub fn wire_status(&self) -> WireStatus {
        match self {
            Self::Missing(_) => WireStatus::NOT_FOUND,
            Self::PoolExists(_) | Self::ContainerExists(_) => WireStatus::EXISTS,
            Self::Destroying(_) | Self::HasContainers { .. } => WireStatus::BUSY,
            Self::Label(_) | Self::TooSmall(_) => WireStatus::INVALID,
            Self::NoSpace(_) => WireStatus::NO_SPACE,
            Self::Corrupt(_) => WireStatus::CORRUPT,
            Self::Io(_) => WireStatus::IO,
        }
    }

    /// As the control plane's status numbers (DER codes) say it.
    pub fn der(&self) -> i32 {
        match self {
            Self::Missing(_) => -1005,
            Self::PoolExists(_) | Self::ContainerExists(_) => -1004,
            Self::Destroying(_) => -1013,
            Self::HasContainers { .. } => -1012,
            Self::Label(_) | Self::TooSmall(_) => -1003,
            Self::NoSpace(_) => -1007,
            Self::Corrupt(_) | Self::Io(_) => -2001,
        }
    }
}
