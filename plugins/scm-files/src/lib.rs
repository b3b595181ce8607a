//! What SCM plugins share whose regions are files: names and claims of regions, the lock of the one
//! opener, the mount table, directories and the space they take.
//!
//! Nothing here maps memory or knows how it becomes durable; that is each plugin's own.

pub mod lock;
pub mod mounts;
pub mod regions;
pub mod tree;

pub use lock::Lock;
pub use regions::{Claim, Regions};
