//! The interface between the DAOS storage-node programs and their plugins.
#![doc = ""]
// abi_stable's derive macros emit impls inside functions.
#![allow(non_local_definitions)]

pub mod abi;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod control;
#[cfg(feature = "host")]
pub mod host;
pub mod sdk;
