//! Block devices of class `kdev`: whatever the kernel drives, disks and partitions, through
//! io_uring with direct I/O.
//!
//! A device is opened exclusively (`O_EXCL`), so the kernel itself refuses one that is mounted,
//! swapped to, or part of a volume; who uses it is looked up for the message. Unmap is a real
//! discard (`BLKDISCARD`), write-zeroes the kernel's zero-out.
//!
//! Settings (`plugins: bdev-kdev: settings:`): `io_engine`: `auto` (default), `uring` or `threads`.

mod config;
mod control;
mod data;
mod in_use;
mod manifest;
mod sysfs;
mod wipe;

pub use control::BdevKdev;
pub use data::KernelDevice;
pub use manifest::MANIFEST;

daos_plugin_api::declare_plugin!(BdevKdev, bdev);
