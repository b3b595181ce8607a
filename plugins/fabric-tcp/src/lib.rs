//! Fabric plugin `tcp`: tagged messages and remote memory access over plain TCP sockets, on any
//! network interface, without libfabric.
//!
//! It speaks a protocol of its own: both ends must use this plugin. An endpoint of it does not talk to one of
//! libfabric's TCP or sockets providers (`ofi+tcp`, `ofi+sockets` ...), and their names are not its own.
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
