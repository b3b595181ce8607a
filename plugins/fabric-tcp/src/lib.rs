//! Fabric plugin `tcp`: tagged messages and remote memory access over plain TCP sockets, on any
//! network interface, without libfabric.
//!
//! It speaks a protocol of its own: both ends must use this plugin. The provider names of
//! libfabric's TCP and sockets providers (`ofi+tcp`, `ofi+sockets`, `sockets` ...) are accepted so
//! that a config written for a machine with libfabric works on one without it, but an endpoint
//! of this plugin does not talk to a libfabric endpoint.
//!
//! # Security
//! The protocol is neither encrypted nor authenticated beyond two random numbers: an endpoint
//! talks only to who knows its incarnation, and a peer reaches registered memory only with its
//! key. Both travel in clear text; run it on a network that you trust.

mod control;
mod data;
mod manifest;
mod settings;

pub use control::FabricTcp;
pub use data::{Registered, TcpDomain, TcpEndpoint};
pub use manifest::MANIFEST;
pub use settings::Settings;
