//! What plugins tell of themselves, in whichever process they run: metrics, and log lines whose level can be changed
//! while they work.
//!
//! * [`Keeper`] takes the metrics of one plugin of a process; its [`Sample`]s travel to the daemon, where
//!   [`Book`] adds up those of processes that come and go.
//! * [`Masks`] decides which log lines of a process are wanted, by plugin and by part of the program;
//!   [`Masks::filter`] applies it, [`Masks::plugin_log`] is what a plugin logs to.
//! * [`Lines`] are what is kept of what a process printed, for the report of its end.
//!
//! Nothing here trusts a plugin: names, numbers and how many of them there are are bounded.

#![forbid(unsafe_code)]

mod book;
mod filter;
mod histogram;
mod keeper;
mod lines;
mod mask;

pub use book::{Book, Part};
pub use filter::{MaskFilter, Masks};
pub use histogram::Histogram;
pub use keeper::{Keeper, LIMIT, Sample, Value};
pub use lines::Lines;
pub use mask::{Mask, MaskError};
