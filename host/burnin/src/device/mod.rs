//! The load on a device: what a helper runs, one thread per device.

mod area;
mod fit;
mod io;
mod job;
mod ledger;
mod run;
mod stamp;
mod stats;
mod verify;

pub use fit::check;
pub use run::{Context, Plan, run};
pub use stamp::{Finding, Stamp};

/// Bytes at either end of a device that a writing burn-in leaves alone: labels, partition tables and superblocks lie
/// there, and whatever looks for those later finds what it found before.
pub const KEEP_OUT: u64 = 1 << 20;
