//! Burn-in of block devices: a long, slow, verified load that finds bad devices before data is on them.
//!
//! * [`Load`] describes the load; [`fio`] reads it from fio's job files.
//! * [`consent`] decides whether a device may be written to.
//! * [`Record`] is what is known about a run while it runs and afterwards: one document, in the server's state
//!   directory, on the wire and in the output of `--json`.
//! * `device` (feature) drives devices through the data face of whatever plugin they have. Every block that is
//!   written carries a stamp (`stamp`): its address, a number that no other write has, the run, and a checksum of the whole
//!   block. So a flipped bit, a write that never arrived and one that arrived elsewhere are told apart.
//!
//! Architecture invariants: who describes and shows burn-ins links no plugin interface (the feature is for
//! helpers); unsafe code is in `device/io.rs` alone.

#![deny(unsafe_code)]

pub mod consent;
#[cfg(feature = "device")]
pub mod device;
pub mod fio;
mod load;
mod record;
pub mod units;

pub use load::{Extent, Job, Limits, Load, LoadError, Pattern, SizeShare};
pub use record::{
    DeviceRecord, ErrorRecord, MAX_ERRORS, MAX_POINTS, Mode, OpPoint, OpTotals, Phase, Point,
    Record, RunState, Update, Verification,
};
