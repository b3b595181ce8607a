//! What is left on storage after a power failure.
//!
//! Killing a process, or a virtual machine, does not empty a page cache and so proves nothing about
//! flushes. [`Crash`] wraps any plugin's table in another one whose devices behave as hardware does
//! when the power goes:
//!
//! * a **bdev** gets a volatile write cache. What a completed flush or FUA covers is on the medium;
//!   of everything else any subset survives, in any order, torn at [`Tear`] granularity;
//! * an **SCM** region is seen through a cache. What was flushed and drained is on the medium; of
//!   everything else a random subset of 8-byte words is. What "flushed" means class `dcpm` decides itself, line by
//!   line: its instructions are played ([`Crash::wrap_dcpm`]).
//!
//! ```ignore
//! let power = Power::on();
//! let disk = Crash::wrap(thunks::table::<BdevMalloc>(), &power, Tear::Block);
//! let instance = Instance::create(disk.table(), InstanceOptions::built_in())?;
//! power.fail_after(100);             // the power goes in the middle of the work
//! work(&instance);                   // sees DEVICE_GONE from there on
//! power.crash(seed);                 // decides what survived, the same for the same seed
//! verify(&instance);                 // opens the surviving image through the same interface
//! ```
//!
//! Wrapping several plugins with one [`Power`] makes them fail at the same instant. Files that are
//! written through the SCM mount point are not covered: they belong to the kernel. For those there is
//! [`CrashFile`], a file in memory of which a crash keeps what was synced and any part of the rest.

mod bdev;
mod file;
mod forward;
mod plugin;
mod power;
mod random;
mod scm;

pub use bdev::Tear;
pub use file::{CrashFile, OpenFile};
pub use plugin::Crash;
pub use power::{Power, Survival};
pub use scm_dcpm::{Instruction, Method};
