//! NVMe SSDs of class `nvme` through SPDK's user-space driver: the process that opens a device drives it
//! itself, by polling, with no system call per request. Devices are named by their PCI address.
//!
//! Built where SPDK is (20.07 or newer, see the README). Where it is missing the crate is empty: the build
//! says so, and all else builds without it. It is never built in.
//!
//! Layers, from the bottom: `sys` (generated bindings and the C shim), `env` (the process-wide
//! runtime), `gate` (keeps queue threads out while the device is reset), `controller` (a device and
//! its reset), `task` and `queue` (I/O), `device` and `plugin` (the traits of the interface).

#[cfg(spdk)]
mod config;
#[cfg(spdk)]
mod controller;
#[cfg(spdk)]
mod device;
#[cfg(spdk)]
mod env;
#[cfg(spdk)]
mod fabrics;
#[cfg(spdk)]
mod firmware;
#[cfg(spdk)]
mod flight;
#[cfg(spdk)]
mod gate;
#[cfg(spdk)]
mod held;
#[cfg(spdk)]
mod plugin;
#[cfg(spdk)]
mod queue;
#[cfg(spdk)]
mod scan;
#[cfg(spdk)]
mod sync;
#[cfg(spdk)]
mod sys;
#[cfg(spdk)]
mod task;
#[cfg(spdk)]
mod wipe;

#[cfg(spdk)]
pub use device::SpdkDevice;
#[cfg(spdk)]
pub use plugin::{BdevNvme, MANIFEST};
#[cfg(spdk)]
pub use queue::SpdkQueue;

/// Exports the plugin from a shared object, if it was built.
#[cfg(spdk)]
#[macro_export]
macro_rules! export {
    () => {
        daos_plugin_api::export_plugin!($crate::BdevNvme);
    };
}

/// Exports the plugin from a shared object, if it was built.
#[cfg(not(spdk))]
#[macro_export]
macro_rules! export {
    () => {};
}
