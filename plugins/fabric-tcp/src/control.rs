//! Control face: what interfaces there are, and whether a config names one of them.

use crate::data::TcpDomain;
use crate::manifest::{MANIFEST, PROVIDER};
use crate::settings::Settings;
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    ClassKind, ClassRequest, DeviceRecord, FabricOpenRequest, ProviderRecord, ScanReport,
};
use daos_plugin_api::sdk::{CallContext, Error, FabricPlugin, Host, Plugin, Result};
use fabric_interfaces::{self as interfaces, Interface};
use serde_json::{Map, Value, json};

/// The plugin.
pub struct FabricTcp {
    settings: Settings,
}

daos_plugin_api::declare_plugin!(FabricTcp, fabric);

impl Plugin for FabricTcp {
    const MANIFEST: &'static str = MANIFEST;

    fn create(_host: Host, _call: CallContext<'_>, settings: Map<String, Value>) -> Result<Self> {
        let settings = Settings::from_json(settings)?;
        Ok(Self { settings })
    }

    /// Checks the interface (`fabric_iface`) and the first port (`fabric_iface_port`).
    fn validate(&self, _call: CallContext<'_>, request: ClassRequest) -> Result<()> {
        validate(&request)
    }

    fn scan(&self, _call: CallContext<'_>) -> Result<ScanReport> {
        scan()
    }
}

impl FabricPlugin for FabricTcp {
    type Domain = TcpDomain;

    fn open(&self, _call: CallContext<'_>, request: FabricOpenRequest) -> Result<TcpDomain> {
        TcpDomain::open(&request, self.settings)
    }
}

fn validate(request: &ClassRequest) -> Result<()> {
    match interfaces::asked(request)?.interface {
        Some(name) => interfaces::choose(name).map(drop).map_err(|error| Error {
            status: Status::INVALID,
            ..error
        }),
        None => Ok(()),
    }
}

fn scan() -> Result<ScanReport> {
    let interfaces = interfaces::list()?;
    let notes = interfaces
        .iter()
        .filter(|interface| interface.addresses.is_empty())
        .map(|interface| {
            format!(
                "interface {} has no IP address and cannot be used",
                interface.name
            )
        })
        .collect();
    Ok(ScanReport {
        devices: usable_first(&interfaces)
            .into_iter()
            .enumerate()
            .map(|(priority, interface)| record(interface, priority))
            .collect(),
        notes,
        providers: vec![ProviderRecord {
            name: PROVIDER.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            unusable: None,
        }],
    })
}

/// Those that an engine without `fabric_iface` would take first.
fn usable_first(interfaces: &[Interface]) -> Vec<&Interface> {
    let mut all: Vec<&Interface> = interfaces.iter().collect();
    all.sort_by_key(|i| (!i.is_up || i.addresses.is_empty(), i.is_loopback));
    all
}

fn record(interface: &Interface, priority: usize) -> DeviceRecord {
    let details = json!({
        "priority": priority,
        "addresses": interface.addresses,
        "link": if interface.is_up { "up" } else { "down" },
        "loopback": interface.is_loopback,
        "speed_mbps": interface.speed,
        "mtu": interface.mtu,
    });
    let Value::Object(mut details) = details else {
        unreachable!("written as an object");
    };
    details.retain(|_, value| !value.is_null());
    DeviceRecord {
        kind: ClassKind::Fabric,
        class: PROVIDER.to_owned(),
        address: interface.name.clone(),
        model: interface.driver.clone(),
        serial: interface.hardware_address.clone(),
        firmware: String::new(),
        size: 0,
        block_size: 0,
        numa_node: interface.numa_node,
        in_use: None,
        details,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: Value) -> ClassRequest {
        ClassRequest {
            class: PROVIDER.to_owned(),
            config: serde_json::from_value(value).unwrap(),
        }
    }

    #[test]
    fn a_scan_finds_the_loopback() {
        let report = scan().unwrap();
        let loopback = report.devices.iter().find(|d| d.address == "lo").unwrap();
        assert_eq!(loopback.kind, ClassKind::Fabric);
        assert_eq!(loopback.details["link"], "up");
        assert!(
            loopback.details["addresses"]
                .to_string()
                .contains("127.0.0.1")
        );
    }

    #[test]
    fn validation_names_key_and_value() {
        validate(&config(
            json!({"fabric_iface": "lo", "fabric_iface_port": 31416}),
        ))
        .unwrap();
        validate(&config(json!({}))).unwrap();
        for (value, words) in [
            (json!({"fabric_iface": "no-such-0"}), "no-such-0"),
            (json!({"fabric_iface": 3}), "fabric_iface is 3"),
            (
                json!({"fabric_iface_port": 65536}),
                "fabric_iface_port is 65536",
            ),
            (json!({"fabric_iface_port": -1}), "fabric_iface_port is -1"),
        ] {
            let error = validate(&config(value)).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
