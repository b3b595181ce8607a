//! What authors of plugins work with: a first plugin, the suite that every plugin must pass, and
//! measurements.
//!
//! * [`scaffold`] writes the source of a plugin that works.
//! * [`check`] runs the conformance suite on a shared object, [`bench`](mod@bench) measures one or two.
//! * [`worker`] is the other side of both: the process that loads the plugin. `daos_server_helper --kit`
//!   is that process.
//!
//! Architecture invariants: only [`worker`] loads plugins, so that what a plugin does to its process -
//! crash, exit, hang - is a result; each case has a process of its own unless the caller says otherwise.

#![deny(unsafe_code)] // but in the modules that drive data faces

pub mod bench;
pub mod check;
mod figures;
mod junit;
mod process;
mod protocol;
mod report;
pub mod scaffold;
mod scratch;
mod subject;
pub mod worker;

pub use process::Helper;
pub use protocol::{Subject, Verdict};
pub use subject::{Choice, choose};
