//! What a scan says of a controller: from the kernel's driver where that has it, else by a look through SPDK.

use crate::config::{CLASS, Name};
use crate::controller::Controller;
use crate::pci::{Function, Identity, Machine};
use daos_plugin_api::control::{ClassKind, DeviceRecord, ScanReport};
use daos_plugin_api::sdk::Result;
use serde_json::{Map, json};
use std::sync::Arc;

/// Adds a record for each namespace of a controller, or one for a controller that cannot be looked into.
/// `attach` takes the controller, which resets it: never one that somebody holds.
pub(crate) fn examine(
    machine: &Machine,
    function: &Function,
    attach: impl FnOnce() -> Result<Arc<Controller>>,
    report: &mut ScanReport,
) {
    let mut in_use = machine.in_use(function);
    let identity = if function.is_ours() && in_use.is_none() {
        match attach() {
            Ok(controller) => controller.identity(),
            Err(error) => {
                // Whoever holds it may be a process that this one cannot look into.
                in_use = Some(error.cause.clone());
                report.notes.push(error.to_string());
                Identity::default()
            }
        }
    } else {
        function.identity().unwrap_or_default()
    };
    report.devices.extend(records(function, &identity, in_use));
}

fn records(function: &Function, identity: &Identity, in_use: Option<String>) -> Vec<DeviceRecord> {
    let mut details = Map::from_iter([
        ("controller".to_owned(), json!(function.address)),
        ("pci_id".to_owned(), json!(function.id)),
        (
            "driver".to_owned(),
            json!(function.driver.as_deref().unwrap_or("none")),
        ),
    ]);
    let record = |address: String, size, block_size, details| DeviceRecord {
        kind: ClassKind::Bdev,
        class: CLASS.to_owned(),
        address,
        model: identity.model.clone(),
        serial: identity.serial.clone(),
        firmware: identity.firmware.clone(),
        size,
        block_size,
        numa_node: function.numa_node,
        in_use: in_use.clone(),
        details,
    };
    if identity.namespaces.is_empty() {
        return vec![record(function.address.clone(), 0, 0, details)];
    }
    let single = identity.namespaces.len() == 1;
    let records = identity.namespaces.iter().map(|namespace| {
        let name = Name {
            controller: function.address.clone(),
            namespace: (!single).then_some(namespace.id),
        };
        details.insert("namespace".to_owned(), json!(namespace.id));
        let format = format!("{}+{}", namespace.block_size, namespace.metadata);
        details.insert("block_format".to_owned(), json!(format));
        record(
            name.to_string(),
            namespace.bytes,
            namespace.block_size,
            details.clone(),
        )
    });
    records.collect()
}
