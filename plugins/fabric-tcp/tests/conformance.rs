//! The plugin keeps every promise of its class.

use daos_plugin_api::conformance::{Target, check};
use daos_plugin_api::control::ClassKind;
use daos_plugin_api::sdk::thunks;
use fabric_tcp::FabricTcp;
use serde_json::json;

fn target(provider: &str, interface: &str) -> Target {
    Target::new(
        ClassKind::Fabric,
        provider,
        json!({ "interface": interface }),
    )
    .nonsense(json!({"fabric_iface": "no-such-0"}))
    .nonsense(json!({"fabric_iface_port": 65536}))
}

#[test]
fn every_promise_is_kept_on_the_loopback() {
    check(thunks::table::<FabricTcp>(), target("tcp", "lo"));
}

#[test]
fn every_promise_is_kept_on_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("NOT RUN every_promise_is_kept_on_ipv6: this machine has no IPv6 loopback");
        return;
    }
    check(thunks::table::<FabricTcp>(), target("tcp", "::1"));
}
