//! The data face: domains, endpoints, operations.

mod domain;
mod endpoint;
mod glances;
mod leftover;
mod local;
mod neighbour;
mod operation;
mod pause;
mod peers;
mod waiting;

pub use domain::{OfiDomain, OfiRegion};
pub use endpoint::OfiEndpoint;
