//! Devices of a host.

use crate::plugins::kind_text;
use crate::{FaultRow, bytes, gigabytes, table};
use daos_proto::host;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Answer of `storage scan`.
#[derive(Clone, Debug, Serialize)]
pub struct ScanReport {
    /// The devices, by kind, class and address.
    pub devices: Vec<DeviceRow>,
    /// Plugins that could not be asked, with the reason.
    pub faults: BTreeMap<String, FaultRow>,
}

/// One device.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // the message's own documentation stands in host.proto
pub struct DeviceRow {
    pub kind: &'static str,
    pub class: String,
    pub plugin: String,
    pub address: String,
    pub model: String,
    pub serial: String,
    pub firmware: String,
    pub size_bytes: u64,
    pub block_size: u32,
    pub numa_node: Option<i32>,
    pub use_state: &'static str,
    pub use_reason: String,
    pub details: BTreeMap<String, String>,
    pub fault: Option<FaultRow>,
}

impl From<host::StorageScanDetailResponse> for ScanReport {
    fn from(response: host::StorageScanDetailResponse) -> Self {
        Self {
            devices: response.devices.into_iter().map(DeviceRow::from).collect(),
            faults: response
                .faults
                .into_iter()
                .map(|f| (f.plugin, FaultRow::from(&f.fault.unwrap_or_default())))
                .collect(),
        }
    }
}

impl From<host::Device> for DeviceRow {
    fn from(device: host::Device) -> Self {
        Self {
            kind: kind_text(device.kind()),
            use_state: match device.r#use() {
                host::DeviceUse::Free => "free",
                host::DeviceUse::Formatted => "formatted",
                host::DeviceUse::Engine => "engine",
                host::DeviceUse::Busy => "busy",
                host::DeviceUse::Foreign => "foreign",
                host::DeviceUse::Unspecified => "",
            },
            details: device
                .details
                .into_iter()
                .map(|d| (d.key, d.value))
                .collect(),
            fault: device.fault.as_ref().map(FaultRow::from),
            class: device.class,
            plugin: device.plugin,
            address: device.address,
            model: device.model,
            serial: device.serial,
            firmware: device.firmware,
            size_bytes: device.size_bytes,
            block_size: device.block_size,
            numa_node: device.numa_node,
            use_reason: device.use_reason,
        }
    }
}

impl ScanReport {
    /// The scan for people: NVMe controllers as the deployment guide shows them, then block
    /// devices, memory and interfaces as tables, then what could not be asked.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let of = |kind: &'static str| self.devices.iter().filter(move |d| d.kind == kind);
        let nvme: Vec<_> = of("bdev").filter(|d| d.class == "nvme").collect();
        if !nvme.is_empty() {
            text += "NVMe SSD controller and constituent namespaces:\n";
            for d in nvme {
                // Writing to a String cannot fail.
                let _ = writeln!(
                    text,
                    "\tPCI Addr:{} Serial:{} Model:{} Fwrev:{} Socket:{}",
                    d.address,
                    d.serial,
                    d.model,
                    d.firmware,
                    d.numa_node.unwrap_or(-1)
                );
                let _ = writeln!(
                    text,
                    "\t\tNamespace: id:1 capacity:{}",
                    gigabytes(d.size_bytes)
                );
            }
        }
        let others: Vec<_> = of("bdev").filter(|d| d.class != "nvme").collect();
        section(
            &mut text,
            "Block devices:",
            &[
                "ADDRESS", "CLASS", "SIZE", "BLOCK", "NUMA", "MODEL", "SERIAL", "USE",
            ],
            others.into_iter().map(|d| {
                vec![
                    d.address.clone(),
                    d.class.clone(),
                    bytes(d.size_bytes),
                    d.block_size.to_string(),
                    node(d),
                    d.model.clone(),
                    d.serial.clone(),
                    usage(d),
                ]
            }),
        );
        section(
            &mut text,
            "SCM:",
            &["ADDRESS", "CLASS", "SIZE", "NUMA", "USE"],
            of("scm").map(|d| {
                vec![
                    d.address.clone(),
                    d.class.clone(),
                    bytes(d.size_bytes),
                    node(d),
                    usage(d),
                ]
            }),
        );
        section(
            &mut text,
            "Fabric interfaces:",
            &["INTERFACE", "PROVIDER", "NUMA", "DETAILS"],
            of("fabric").map(|d| {
                let details: Vec<_> = d.details.iter().map(|(k, v)| format!("{k}={v}")).collect();
                vec![
                    d.address.clone(),
                    d.class.clone(),
                    node(d),
                    details.join(" "),
                ]
            }),
        );
        if self.devices.is_empty() {
            text += "no devices found\n";
        }
        for (plugin, fault) in &self.faults {
            let _ = writeln!(text, "\nplugin {plugin} could not be asked: {fault}");
        }
        text.trim_end().to_owned()
    }
}

fn section(
    text: &mut String,
    title: &str,
    headings: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) {
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "{title}\n{}", table(headings, rows));
    }
}

fn node(device: &DeviceRow) -> String {
    device
        .numa_node
        .map_or_else(|| "-".to_owned(), |n| n.to_string())
}

fn usage(device: &DeviceRow) -> String {
    match (&device.fault, device.use_reason.as_str()) {
        (Some(fault), _) => fault.what.clone(),
        (None, "") => device.use_state.to_owned(),
        (None, reason) => format!("{} ({reason})", device.use_state),
    }
}
