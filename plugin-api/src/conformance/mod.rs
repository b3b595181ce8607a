//! The test suite that every backend of a class must pass.
//!
//! ```ignore
//! let target = Target::new(ClassKind::Bdev, "file", json!({"bdev_list": [path], "bdev_size": 1}));
//! conformance::check(thunks::table::<BdevFile>(), target);
//! ```
//!
//! [`run`] is the suite as a library: named cases, each on a fresh thread with freshly opened
//! objects, reported one by one; what a backend says it cannot do is skipped with the reason, not
//! failed. [`check`] wraps it for a plugin's own tests. The cases write to the storage under test.
//!
//! The plugin runs inside this process. A case that does not come back within [`CASE_LIMIT`]
//! fails and ends the run, since nothing after it could be trusted.

mod bdev;
mod case;
mod control;
mod fabric;
mod other;
mod pattern;
mod report;
mod run;
mod scarce;
mod scm;
mod target;
mod wait;

pub use other::{Ended, Line, Process, Processes, play};
pub use report::{Counts, Outcome, PrintReporter, Record, Reporter, Summary};
pub use run::{CASE_LIMIT, CaseInfo, cases, catalogue, check, run};
pub use target::Target;
