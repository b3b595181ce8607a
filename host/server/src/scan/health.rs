//! Health of devices that no engine holds, and health as the control plane tells it.

use super::engines::not_told;
use super::remark;
use crate::plugins::Plugins;
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{ClassKind, DeviceSpec, DeviceState, HealthRecord, HealthStatus};
use daos_proto::host::{Detail, DeviceHealth, Kind, PluginNote, StorageScanDetailResponse};
use serde_json::{Map, Value, json};

/// What a plugin's class says if it tells the health of memory: of block devices all are asked.
const CAPABILITY: &str = "health";

/// Asks the plugins for the health of each device that has none yet.
pub(super) async fn ask(plugins: &Plugins, response: &mut StorageScanDetailResponse) {
    let leases = plugins.state_dir().leases().unwrap_or_default();
    for device in &mut response.devices {
        if device.health.is_some() || device.engine.is_some() || device.kind() == Kind::Fabric {
            continue;
        }
        let lease = leases
            .devices
            .get(&format!("{}:{}", device.class, device.address));
        // Nobody else opens what an engine holds.
        if let Some(lease) = lease {
            let why = format!(
                "engine {} holds it; ask with `daos_shell storage scan --health`",
                lease.engine
            );
            device.health = Some(not_told(&why));
            continue;
        }
        let Some(plugin) = plugins.get(&device.plugin) else {
            continue;
        };
        let config = match device.kind() {
            Kind::Bdev => Map::from_iter([("bdev_list".to_owned(), json!([device.address]))]),
            _ => {
                let class = plugin.class(ClassKind::Scm, &device.class);
                if !class.is_some_and(|c| c.capabilities.iter().any(|name| name == CAPABILITY)) {
                    continue;
                }
                Map::new()
            }
        };
        let spec = DeviceSpec {
            class: device.class.clone(),
            index: 0,
            address: device.address.clone(),
            size: device.size_bytes,
            state: DeviceState::Present,
            detail: String::new(),
            config,
        };
        device.health = match plugins.health(&plugin, spec).await {
            Ok(document) => Some(read(plugin.name(), document, &mut response.notes)),
            Err((Status::NOT_SUPPORTED, _)) => None,
            Err((_, fault)) => Some(not_told(&fault.description())),
        };
    }
}

/// Reads a plugin's document; what it remarks beside its device goes to the notes of the scan.
fn read(plugin: &str, document: Map<String, Value>, notes: &mut Vec<PluginNote>) -> DeviceHealth {
    match serde_json::from_value::<HealthRecord>(Value::Object(document)) {
        Ok(mut record) => {
            for note in std::mem::take(&mut record.notes) {
                remark(notes, plugin, note);
            }
            health_message(record)
        }
        Err(error) => not_told(&format!("its plugin's answer makes no sense: {error}")),
    }
}

/// A plugin's document as a message.
pub(super) fn health_message(record: HealthRecord) -> DeviceHealth {
    DeviceHealth {
        ok: record.status == HealthStatus::Ok,
        status: match record.status {
            HealthStatus::Ok => "ok",
            HealthStatus::Warning => "warning",
            HealthStatus::Critical => "critical",
            HealthStatus::Gone => "gone",
        }
        .to_owned(),
        temperature_kelvin: record.temperature_kelvin,
        spare_percent: record.spare_percent,
        spare_threshold_percent: record.spare_threshold_percent,
        used_percent: record.used_percent,
        media_errors: record.media_errors,
        power_on_hours: record.power_on_hours,
        power_cycles: record.power_cycles,
        unsafe_shutdowns: record.unsafe_shutdowns,
        error_log_entries: record.error_log_entries,
        critical_warning: record.critical_warning.map(u32::from),
        data_units_read: record.data_units_read,
        data_units_written: record.data_units_written,
        busy_minutes: record.busy_minutes,
        warning_temperature_minutes: record.warning_temperature_minutes,
        critical_temperature_minutes: record.critical_temperature_minutes,
        // Of a device alone, a remark is told beside it.
        warnings: record.warnings.into_iter().chain(record.notes).collect(),
        details: record
            .details
            .into_iter()
            .map(|(key, value)| Detail {
                key,
                value: match value {
                    Value::String(text) => text,
                    other => other.to_string(),
                },
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_device_remarks_is_told_once() {
        let document = |document: Value| match document {
            Value::Object(document) => document,
            _ => panic!("not an object"),
        };
        let mut notes = Vec::new();
        for plugin in ["scm-dcpm", "scm-dcpm", "other"] {
            let told =
                json!({"status": "ok", "notes": ["ipmctl is not installed"], "warnings": ["worn"]});
            let health = read(plugin, document(told), &mut notes);
            assert_eq!(
                (health.status.as_str(), health.warnings),
                ("ok", vec!["worn".to_owned()])
            );
            assert!(health.details.is_empty(), "{:?}", health.details);
        }
        let told: Vec<_> = notes
            .iter()
            .map(|note| (note.plugin.as_str(), note.text.as_str()))
            .collect();
        let text = "ipmctl is not installed";
        assert_eq!(told, [("scm-dcpm", text), ("other", text)]);
        // What an engine tells of one device has no other place.
        let alone = HealthRecord {
            notes: vec!["more".to_owned()],
            ..HealthRecord::default()
        };
        assert_eq!(health_message(alone).warnings, ["more"]);
    }
}
