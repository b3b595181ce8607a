//! What a scan says of a controller: from the kernel's driver where that has it, else by a look through SPDK.

use crate::config::{CLASS, Name};
use crate::controller::{Attached, Identity, Namespace};
use daos_plugin_api::control::{ClassKind, DeviceRecord, ScanReport};
use daos_plugin_api::sdk::Result;
use nvme_pci::Controller;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Adds a record for each namespace of a controller, or one for a controller that cannot be looked into.
/// `attach` takes the controller, which resets it: never one that is in use.
pub(crate) fn examine(
    function: &Controller,
    mut in_use: Option<String>,
    attach: impl FnOnce() -> Result<Arc<Attached>>,
    report: &mut ScanReport,
) {
    let identity = if function.is_for_user_space() && in_use.is_none() {
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
        of_kernel(function)
    };
    let driver = function.driver.as_deref().unwrap_or("none");
    let details = [
        ("controller", function.address.to_string()),
        ("pci_id", function.id.clone()),
        ("driver", driver.to_owned()),
    ];
    let place = Place {
        controller: function.address.to_string(),
        numa_node: function.numa_node,
        details: details
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .into_iter()
            .collect(),
    };
    report.devices.extend(place.records(&identity, in_use));
}

/// The same for a controller on a fabric, with its transport id.
pub(crate) fn examine_fabric(
    name: &str,
    transport: &str,
    attach: impl FnOnce() -> Result<Arc<Attached>>,
    report: &mut ScanReport,
) {
    let (identity, in_use) = match attach() {
        Ok(controller) => (controller.identity(), None),
        Err(error) => {
            report.notes.push(error.to_string());
            (Identity::default(), Some(error.cause))
        }
    };
    let details = [("controller", name), ("transport", transport)];
    let place = Place {
        controller: name.to_owned(),
        numa_node: -1,
        details: details
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .into_iter()
            .collect(),
    };
    report.devices.extend(place.records(&identity, in_use));
}

/// Where a controller is.
struct Place {
    /// As a config names it.
    controller: String,
    numa_node: i32,
    details: Map<String, Value>,
}

/// What the kernel's driver tells.
fn of_kernel(function: &Controller) -> Identity {
    let namespaces = function.namespaces.iter().map(|namespace| Namespace {
        id: namespace.id,
        bytes: namespace.size,
        block_size: namespace.block_size,
        metadata: None,
    });
    Identity {
        model: function.model.clone(),
        serial: function.serial.clone(),
        firmware: function.firmware.clone(),
        namespaces: namespaces.collect(),
    }
}

impl Place {
    /// A record for each namespace, or one for a controller without.
    fn records(mut self, identity: &Identity, in_use: Option<String>) -> Vec<DeviceRecord> {
        let record = |address: String, size, block_size, details| DeviceRecord {
            kind: ClassKind::Bdev,
            class: CLASS.to_owned(),
            address,
            model: identity.model.clone(),
            serial: identity.serial.clone(),
            firmware: identity.firmware.clone(),
            size,
            block_size,
            numa_node: self.numa_node,
            in_use: in_use.clone(),
            details,
        };
        if identity.namespaces.is_empty() {
            return vec![record(self.controller, 0, 0, self.details)];
        }
        let single = identity.namespaces.len() == 1;
        let records = identity.namespaces.iter().map(|namespace| {
            let name = Name {
                controller: self.controller.clone(),
                namespace: (!single).then_some(namespace.id),
            };
            self.details
                .insert("namespace".to_owned(), json!(namespace.id));
            let format = match namespace.metadata {
                Some(metadata) => format!("{}+{metadata}", namespace.block_size),
                None => namespace.block_size.to_string(),
            };
            self.details
                .insert("block_format".to_owned(), json!(format));
            record(
                name.to_string(),
                namespace.bytes,
                namespace.block_size,
                self.details.clone(),
            )
        });
        records.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_plugin_api::abi::Status;
    use daos_plugin_api::sdk::Error;

    fn controller(driver: &str, namespaces: &[(u32, u32)]) -> Controller {
        Controller {
            address: "0000:41:00.0".parse().unwrap(),
            id: "1b36:0010".to_owned(),
            driver: Some(driver.to_owned()),
            driver_override: String::new(),
            numa_node: 1,
            iommu_group: None,
            peers: Vec::new(),
            model: "Some Model".to_owned(),
            serial: "S1".to_owned(),
            firmware: "1.0".to_owned(),
            namespaces: namespaces
                .iter()
                .map(|(id, block_size)| nvme_pci::Namespace {
                    name: format!("nvme0n{id}"),
                    id: *id,
                    size: 1 << 20,
                    block_size: *block_size,
                })
                .collect(),
        }
    }

    #[test]
    fn several_namespaces_are_named_by_their_numbers() {
        let addresses = |namespaces: &[(u32, u32)]| -> Vec<(String, u64, u32)> {
            let mut report = ScanReport::default();
            let reason = Some("bound to the kernel driver nvme".to_owned());
            let never = || panic!("the kernel has it");
            examine(&controller("nvme", namespaces), reason, never, &mut report);
            let records = report.devices.into_iter();
            assert!(report.notes.is_empty());
            records
                .map(|d| {
                    assert_eq!((d.serial.as_str(), d.numa_node), ("S1", 1));
                    assert!(d.in_use.is_some());
                    (d.address, d.size, d.block_size)
                })
                .collect()
        };
        let plain = "0000:41:00.0".to_owned();
        assert_eq!(addresses(&[(7, 512)]), [(plain.clone(), 1 << 20, 512)]);
        assert_eq!(
            addresses(&[(1, 512), (5, 4096)]),
            [
                (format!("{plain}/1"), 1 << 20, 512),
                (format!("{plain}/5"), 1 << 20, 4096)
            ]
        );
        assert_eq!(addresses(&[]), [(plain, 0, 0)]);
    }

    #[test]
    fn one_that_cannot_be_attached_is_listed_with_the_reason() {
        let mut report = ScanReport::default();
        let refused = || Err(Error::new(Status::NOT_FOUND, "no").cause("busy"));
        examine(&controller("vfio-pci", &[]), None, refused, &mut report);
        assert_eq!(report.devices[0].in_use.as_deref(), Some("busy"));
        assert_eq!(report.notes.len(), 1);
    }
}
