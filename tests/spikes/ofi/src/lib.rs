//! The fabric data face on libfabric: proof that the plugin interface fits it, kept as a test.
//! `README.md` maps each member of the interface and lists what does not fit by itself.

mod domain;
mod endpoint;
mod handles;
mod operation;
mod plugin;
mod status;
mod sys;

pub use domain::{OfiDomain, OfiRegion};
pub use endpoint::OfiEndpoint;
pub use plugin::FabricOfi;
