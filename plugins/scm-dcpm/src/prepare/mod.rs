//! Making regions and namespaces, giving them back, and what modules say of themselves.
//!
//! ```text
//! list (ndctl, ipmctl) ─▶ plan: what is in the way, the next steps ─▶ one round of steps ─▶ list again ... ─▶ report
//!                  └─ --dry-run and --status end here
//! ```
//!
//! Each round decides by what is there alone; nothing is remembered. A run that was killed is therefore
//! finished by the next one, and one with nothing to do changes nothing.

mod back;
mod firmware;
mod goals;
mod health;
mod inventory;
mod ipmctl;
mod plan;
mod report;
mod run;
mod scan;
mod step;
mod tools;

pub use crate::block::Holds;
pub use firmware::firmware_with;
pub use health::Readings;
pub use inventory::{Inventory, Module, Namespace, Region};
pub use ipmctl::{Dimm, Dimms, Goal, Set};
pub use run::{Direction, Wish, run};
pub use scan::scan_with;
pub use tools::{Program, Said, Tools};

pub(crate) use firmware::firmware;
pub(crate) use run::{prepare, release};
pub(crate) use scan::scan;
