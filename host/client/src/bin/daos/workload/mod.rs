//! `daos workload`: a record of what was acknowledged, and the proof that it is there.
//!
//! Each key is written by one worker, one version after the other, so at any moment a key holds the
//! newest acknowledged version or, if its writer ended in between, the one behind it.

pub(crate) mod record;
pub(crate) mod verify;
pub(crate) mod write;
