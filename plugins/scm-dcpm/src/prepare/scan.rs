//! The scan: modules and namespaces.

use super::inventory::{Inventory, Module, Namespace, Region};
use super::plan::ailing;
use super::run::list;
use super::tools::{System, Tools};
use crate::manifest::CLASS;
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{ClassKind, DeviceRecord, ScanReport};
use daos_plugin_api::sdk::Result;
use serde_json::{Map, Value};

/// The scan of this machine.
pub(crate) fn scan() -> Result<ScanReport> {
    scan_with(&mut System::default())
}

/// The scan of a machine: namespaces with what a config names, and modules, which are never free
/// themselves.
///
/// # Errors
/// Persistent memory cannot be listed. Without `ndctl` the scan says so and is empty.
pub fn scan_with(tools: &mut dyn Tools) -> Result<ScanReport> {
    let inventory = match list(tools, 1) {
        Ok(inventory) => inventory,
        Err(e) if e.status == Status::NOT_FOUND => {
            return Ok(ScanReport {
                notes: vec![e.to_string()],
                ..ScanReport::default()
            });
        }
        Err(e) => return Err(e),
    };
    let mut devices = Vec::new();
    for region in &inventory.regions {
        for namespace in region.real() {
            let user = match namespace.blockdev.as_str() {
                "" => None,
                device => tools.user(device)?,
            };
            devices.push(namespace_record(region, namespace, user));
        }
    }
    devices.extend(
        inventory
            .modules
            .iter()
            .map(|m| module_record(&inventory, m)),
    );
    let unknown = inventory.dimms_unknown.iter();
    Ok(ScanReport {
        devices,
        notes: unknown.map(ToString::to_string).collect(),
        ..ScanReport::default()
    })
}

fn namespace_record(region: &Region, namespace: &Namespace, user: Option<String>) -> DeviceRecord {
    let unusable = match (namespace.state.as_str(), namespace.mode.as_str()) {
        ("disabled", _) => Some("it is disabled".to_owned()),
        (_, "fsdax") => None,
        (_, mode) => Some(format!("its mode is {mode}, not fsdax")),
    };
    let mut details = Map::from_iter([
        ("what".to_owned(), Value::from("namespace")),
        ("namespace".to_owned(), Value::from(namespace.dev.clone())),
        ("uuid".to_owned(), Value::from(namespace.uuid.clone())),
        ("mode".to_owned(), Value::from(namespace.mode.clone())),
        ("dax".to_owned(), Value::from(namespace.is_ready())),
        ("region".to_owned(), Value::from(region.dev.clone())),
        (
            "persistence".to_owned(),
            Value::from(region.persistence_domain.clone()),
        ),
    ]);
    if namespace.align > 0 {
        details.insert("align".to_owned(), Value::from(namespace.align));
    }
    if namespace.badblock_count > 0 {
        details.insert(
            "bad_blocks".to_owned(),
            Value::from(namespace.badblock_count),
        );
    }
    DeviceRecord {
        kind: ClassKind::Scm,
        class: CLASS.into(),
        address: namespace.address(),
        model: format!("{} namespace", namespace.mode),
        serial: String::new(),
        firmware: String::new(),
        size: namespace.size,
        block_size: 0,
        numa_node: region.numa_node,
        in_use: user.or(unusable),
        details,
    }
}

fn module_record(inventory: &Inventory, module: &Module) -> DeviceRecord {
    let regions = inventory
        .regions
        .iter()
        .filter(|r| r.mappings.iter().any(|m| m.dimm == module.dev));
    let regions: Vec<&Region> = regions.collect();
    let parts = regions.iter().flat_map(|r| &r.mappings);
    let size = parts
        .filter(|m| m.dimm == module.dev)
        .map(|m| m.length)
        .sum();
    let names: Vec<&str> = regions.iter().map(|r| r.dev.as_str()).collect();
    let dimm = inventory.dimm_of(module);
    let ailing = ailing(module).or_else(|| dimm?.ailing());
    let ailing = ailing.map(|(why, _)| format!("it {why}"));
    let mut details = Map::from_iter([
        ("what".to_owned(), Value::from("module")),
        ("region".to_owned(), Value::from(names.join(" "))),
    ]);
    if let Some(id) = module.phys_id {
        details.insert("physical_id".to_owned(), Value::from(id));
    }
    if let Some(handle) = module.handle {
        // ACPI 6.5, 5.2.26.3: NFIT device handle.
        let places = [
            ("channel_position", 0),
            ("channel", 4),
            ("memory_controller", 8),
            ("socket", 12),
        ];
        details.extend(
            places.map(|(name, shift)| (name.to_owned(), Value::from(handle >> shift & 0xf))),
        );
    }
    if let Some(dimm) = dimm {
        let texts = [
            ("location", &dimm.locator),
            ("health", &dimm.health),
            ("lock", &dimm.lock),
        ];
        details.extend(texts.map(|(name, text)| (name.to_owned(), Value::from(text.clone()))));
        let bytes = [
            ("capacity", dimm.capacity),
            ("memory_mode", dimm.memory),
            ("app_direct", dimm.app_direct),
        ];
        details.extend(bytes.map(|(name, bytes)| (name.to_owned(), Value::from(bytes))));
    }
    if !module.security.is_empty() {
        details.insert("security".to_owned(), Value::from(module.security.clone()));
    }
    if let Some(health) = &module.health {
        details
            .entry("health")
            .or_insert_with(|| health.health_state.clone().into());
        let numbers = [
            ("temperature_celsius", health.temperature_celsius),
            ("life_used_percent", health.life_used_percentage),
        ];
        for (name, value) in numbers {
            details.extend(value.map(|v| (name.to_owned(), Value::from(v))));
        }
        if !health.shutdown_state.is_empty() {
            details.insert(
                "shutdown".to_owned(),
                Value::from(health.shutdown_state.clone()),
            );
        }
    }
    DeviceRecord {
        kind: ClassKind::Scm,
        class: CLASS.into(),
        address: module.dev.clone(),
        model: match dimm.map_or("", |dimm| dimm.part.as_str()) {
            "" => "NVDIMM".to_owned(),
            part => part.to_owned(),
        },
        serial: module.id.clone(),
        firmware: dimm.map(|dimm| dimm.firmware.clone()).unwrap_or_default(),
        // What regions have of it, where it does not tell itself; the rest is not the kernel's to see.
        size: dimm.map_or(size, |dimm| dimm.capacity),
        block_size: 0,
        numa_node: regions.first().map_or(-1, |r| r.numa_node),
        in_use: Some(ailing.unwrap_or_else(|| match names.is_empty() {
            true => "a module without a region".to_owned(),
            false => format!("a module of {}", names.join(", ")),
        })),
        details,
    }
}
