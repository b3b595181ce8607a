//! Fabric plugin `ofi`: the providers of the installed libfabric, each chosen by its name in the config
//! (`ofi+tcp;ofi_rxm`, `ofi+verbs;ofi_rxm`, `ofi+psm2` ...).
//!
//! Built against libfabric 1.17 or newer. Where its headers are missing the crate is empty: the
//! build says so, and all else builds without it.

#[cfg(libfabric)]
mod choose;
#[cfg(libfabric)]
mod control;
#[cfg(libfabric)]
mod data;
#[cfg(libfabric)]
mod libfabric;
#[cfg(libfabric)]
mod machine;
#[cfg(libfabric)]
mod names;
#[cfg(libfabric)]
mod scan;
#[cfg(libfabric)]
mod settings;

#[cfg(libfabric)]
pub use control::{FabricOfi, MANIFEST};
#[cfg(libfabric)]
pub use data::{OfiDomain, OfiEndpoint, OfiRegion};
#[cfg(libfabric)]
pub use settings::Settings;

/// Exports the plugin from a shared object, if it was built.
#[cfg(libfabric)]
#[macro_export]
macro_rules! export {
    () => {
        daos_plugin_api::export_plugin!($crate::FabricOfi);
    };
}

/// Exports the plugin from a shared object, if it was built.
#[cfg(not(libfabric))]
#[macro_export]
macro_rules! export {
    () => {};
}
