//! SPDK 20.07 behind the bdev data face: probe, attach, queues, reset, removal.
//!
//! A proof that the interface fits, kept as a test and meant to grow into the NVMe plugin. The
//! README beside this crate says how each member of the face maps to SPDK.
//!
//! Layers, from the bottom: `sys` (generated bindings and the C shim), `env` (the process-wide
//! runtime), `gate` (keeps queue threads out while the device is reset), `controller` (a device and
//! its reset), `task` and `queue` (I/O), `device` and `plugin` (the traits of the interface).
#![cfg(spdk)]

mod controller;
mod device;
mod env;
mod gate;
mod pci;
mod plugin;
mod queue;
mod sys;
mod task;

pub use plugin::SpdkPlugin;
