//! What a scan tells: a record per provider and interface, and the providers.

use crate::choose::dotted;
use crate::libfabric::{Info, LinkState, offered, version};
use crate::{machine, names};
use daos_plugin_api::control::{ClassKind, DeviceRecord, ProviderRecord, ScanReport};
use daos_plugin_api::sdk::Result;
use fabric_interfaces::{self as interfaces, Interface};
use serde_json::{Map, Value, json};

/// Scans. `priority` counts the entries of a provider from 0, in the order in which libfabric
/// recommends them.
pub(crate) fn scan() -> Result<ScanReport> {
    let all = interfaces::list()?;
    // An error says that there is nothing, in one of several ways.
    let infos = Info::find(None, None).unwrap_or_default();
    let mut devices: Vec<DeviceRecord> = Vec::new();
    for info in &infos {
        for record in records(info, &all) {
            let same = |d: &DeviceRecord| d.class == record.class && d.address == record.address;
            if devices.iter().any(same) {
                continue; // another address of the interface
            }
            let priority = devices.iter().filter(|d| d.class == record.class).count();
            let mut record = record;
            record
                .details
                .insert("priority".to_owned(), priority.into());
            devices.push(record);
        }
    }
    let providers = offered().into_iter().map(|provider| {
        let is_there = infos
            .iter()
            .any(|i| names::core(&i.provider()) == provider.name);
        ProviderRecord {
            version: provider.version.map(dotted).unwrap_or_default(),
            unusable: (!is_there).then(|| "finds nothing here that it could use".to_owned()),
            name: provider.name,
        }
    });
    Ok(ScanReport {
        devices,
        providers: providers.collect(),
        ..ScanReport::default()
    })
}

/// The records of one entry: one per network interface of its device, or one for the device.
fn records(info: &Info, all: &[Interface]) -> Vec<DeviceRecord> {
    let interfaces = machine::interfaces_of(info, all);
    if interfaces.is_empty() {
        return vec![record(info, all, None)];
    }
    interfaces
        .into_iter()
        .map(|interface| record(info, all, Some(interface)))
        .collect()
}

fn record(info: &Info, all: &[Interface], interface: Option<&Interface>) -> DeviceRecord {
    let provider = info.provider();
    let (state, speed) = link(info, interface);
    let details = json!({
        "domain": info.domain_name(),
        "fabric": info.fabric_name(),
        "link": state,
        "speed_mbps": speed,
        "addresses": interface.map(|i| &i.addresses),
        "libfabric": dotted(version()),
    });
    let mut details = match details {
        Value::Object(details) => details,
        _ => Map::new(),
    };
    details.retain(|_, value| !value.is_null());
    DeviceRecord {
        kind: ClassKind::Fabric,
        class: names::spelled(&provider),
        address: interface.map_or_else(|| info.domain_name(), |i| i.name.clone()),
        model: interface.map(|i| i.driver.clone()).unwrap_or_default(),
        serial: interface
            .map(|i| i.hardware_address.clone())
            .unwrap_or_default(),
        firmware: String::new(),
        size: 0,
        block_size: 0,
        numa_node: machine::numa_node(info, all),
        in_use: None,
        details,
    }
}

/// State and speed (megabits per second) of the link: libfabric's word, else the kernel's.
fn link(info: &Info, interface: Option<&Interface>) -> (Option<&'static str>, Option<u64>) {
    let (state, speed) = info.link().unwrap_or((LinkState::Unknown, 0));
    let state = match (state, interface) {
        (LinkState::Up, _) => Some("up"),
        (LinkState::Down, _) => Some("down"),
        (LinkState::Unknown, Some(interface)) if interface.is_up => Some("up"),
        (LinkState::Unknown, Some(_)) => Some("down"),
        (LinkState::Unknown, None) => None,
    };
    let speed = match speed {
        0 => interface.and_then(|interface| interface.speed),
        bits => Some(bits / 1_000_000),
    };
    (state, speed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_finds_the_loopback_and_shared_memory() {
        let report = scan().unwrap();
        let find = |class: &str, address: &str| {
            report
                .devices
                .iter()
                .find(|d| d.class == class && d.address == address)
                .unwrap_or_else(|| panic!("no {class} on {address} in {report:#?}"))
        };
        let loopback = find("ofi+tcp;ofi_rxm", "lo");
        assert_eq!(loopback.kind, ClassKind::Fabric);
        assert_eq!(loopback.details["link"], "up");
        assert!(loopback.details["priority"].is_number());
        find("ofi+shm", "shm");
        let provider = |name: &str| report.providers.iter().find(|p| p.name == name).unwrap();
        assert_eq!(provider("shm").unusable, None);
        assert!(!provider("tcp").version.is_empty());
    }

    #[test]
    fn priorities_count_each_providers_interfaces() {
        let report = scan().unwrap();
        let mut seen: std::collections::HashMap<&str, u64> = Default::default();
        for device in &report.devices {
            let next = seen.entry(&device.class).or_default();
            assert_eq!(device.details["priority"], *next, "{device:?}");
            *next += 1;
        }
    }
}
