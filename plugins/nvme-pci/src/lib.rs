//! NVMe controllers between the kernel and user space: who has them, who uses them, handing them over
//! and taking them back.
//!
//! Needs no device library: everything is read from sysfs and procfs, below a root that tests choose
//! ([`Tree`]), and changed through a trait that tests implement ([`System`]).
//!
//! * [`Snapshot`] is how things are, [`plan`] what has to be done about it, [`apply`] does it, [`prepare`]
//!   and [`release`] are all of it as a plugin's control face has it.
//! * A controller is *in use* when one of its namespaces or partitions is mounted, swapped to, part of
//!   a volume, open in a process, refused an exclusive open, or has content that is known and not
//!   ours; or when a process holds it through vfio or uio ([`usage::reasons`]). Such a controller is
//!   never touched, in either direction.
//! * What is changed is recorded before ([`state`]), and each step can be done again: a run that is
//!   killed anywhere is finished or undone by the next one.
#![forbid(unsafe_code)]

mod address;
mod apply;
mod checks;
mod controller;
mod hugefiles;
mod hugepages;
pub mod plan;
mod processes;
mod quiesce;
mod run;
mod snapshot;
pub mod state;
mod step;
mod system;
mod tree;
pub mod usage;

pub use address::{BadAddress, PciAddress, near_miss, parse_list};
pub use apply::{Outcome, apply};
pub use controller::{Controller, Namespace, Peer, USER_DRIVERS};
pub use hugefiles::{HugeMount, StaleFile};
pub use hugepages::{Pool, Pools};
pub use processes::{Process, Processes};
pub use quiesce::quiesce;
pub use run::{Direction, prepare, release, run};
pub use snapshot::{Seen, Snapshot, Target};
pub use step::Step;
pub use system::{Machine, Owner, System};
pub use tree::Tree;
