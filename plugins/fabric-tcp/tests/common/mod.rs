//! Endpoints of this plugin, in the rig of all fabric plugins.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test program uses its part"
)]

use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::sdk::FabricDomain;
pub use fabric_rig::*;
use fabric_tcp::{Settings, TcpDomain, TcpEndpoint};

/// An endpoint of this plugin and what it completed.
pub type Node = fabric_rig::Node<TcpEndpoint>;

/// An endpoint of a domain.
pub fn open_node(domain: &TcpDomain) -> Node {
    Node::of(domain.endpoint().unwrap(), domain.info().scratch_size)
}

pub fn domain_with(settings: Settings) -> TcpDomain {
    let request = FabricOpenRequest {
        provider: "tcp".to_owned(),
        interface: "lo".to_owned(),
        ..Default::default()
    };
    TcpDomain::open(&request, settings).unwrap()
}

pub fn domain() -> TcpDomain {
    domain_with(Settings::default())
}
