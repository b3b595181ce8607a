//! The log of a target: a ring of records in storage-class memory.
//!
//! A change is acknowledged once its record is durable here. Records leave the ring at the old end
//! once the index has them ([`Ring::trim`]); after a crash, whatever is still in the ring is
//! replayed into the index.
//!
//! What recovery relies on:
//! * Sequence numbers of records grow by one and are never reused for a durable record.
//! * Each opening of the ring begins a new *life*. A record that an earlier life wrote but never
//!   made durable may survive a crash behind the end of the ring; the life in its header keeps it
//!   from coming back when later records happen to end where it begins.
//! * Each record says up to which sequence the ring was durable when it was written. A record that
//!   is missing although a later one says that it was durable was lost by the medium: that is an
//!   error, while one that nobody vouches for was never acknowledged.

mod layout;
mod ring;

pub use ring::{Ring, Usage};

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use crate::defect::Defect;
use daos_plugin_api::abi::Status;
use thiserror::Error;
use uuid::Uuid;

/// Memory of a log. Offsets and lengths are in bytes and inside [`LogMemory::len`]; implementations
/// may panic otherwise.
pub trait LogMemory {
    /// Bytes.
    fn len(&self) -> usize;

    /// Never: a log has at least its header.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads at `offset`.
    ///
    /// # Errors
    /// What the medium says.
    fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), Status>;

    /// Writes at `offset`; durable after `persist` of the range, possibly before.
    fn write(&mut self, offset: usize, data: &[u8]);

    /// Makes a range durable.
    ///
    /// # Errors
    /// What the medium says; what is durable of the range is unknown then.
    fn persist(&mut self, offset: usize, len: usize) -> Result<(), LogError>;
}

/// Whose log it is; a log of somebody else is never opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The engine.
    pub engine: Uuid,
    /// The target, from 0.
    pub target: u32,
}

/// Why a log operation failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogError {
    /// No room before the index has taken over more records.
    #[error("the log is full")]
    Full,
    /// The record can never fit.
    #[error("a record of {len} bytes does not fit into a log of {capacity} bytes")]
    TooLarge {
        /// Bytes of the record.
        len: usize,
        /// Bytes of the ring.
        capacity: u64,
    },
    /// The region is too small for a log.
    #[error("a region of {0} bytes is too small for a log of at least {min} bytes", min = layout::MIN_REGION)]
    TooSmall(usize),
    /// The region holds no log.
    #[error("the region holds no log")]
    Blank,
    /// The log belongs to somebody else.
    #[error("the log belongs to target {} of engine {}, not to target {} of engine {}", .found.target, .found.engine, .expected.target, .expected.engine)]
    Foreign {
        /// In the log.
        found: Identity,
        /// Who opened it.
        expected: Identity,
    },
    /// The medium lost or changed something that was durable.
    #[error("the log is damaged: {0}")]
    Corrupt(String),
    /// The medium failed.
    #[error("storage-class memory failed: {0}")]
    Scm(Status),
    /// The plugin of the medium failed a call.
    #[error("storage-class memory failed: {0}")]
    Plugin(Defect),
    /// Whoever received a replayed record refused it.
    #[error("record {sequence} cannot be replayed: {reason}")]
    Replay {
        /// The record.
        sequence: u64,
        /// Why.
        reason: String,
    },
}

impl From<Status> for LogError {
    fn from(status: Status) -> Self {
        Self::Scm(status)
    }
}
