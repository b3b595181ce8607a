//! Block devices of class `malloc`: memory of the process that opened them.
//!
//! Every request is carried out during `submit` and its completion waits in a preallocated ring, so
//! what remains of the cost of an I/O is a copy and the boundary between host and plugin. Contents
//! live as long as the plugin's instance: they survive closing a device, not the process.
//!
//! Settings (`plugins: bdev-malloc: settings:`): `block_size`, 512 or 4096 (default 4096).

mod control;
mod data;
mod manifest;
mod memory;

pub use control::BdevMalloc;
pub use data::{MallocDevice, MallocQueue};
pub use manifest::MANIFEST;

daos_plugin_api::declare_plugin!(BdevMalloc, bdev);
