//! What running engines hold: asked over dRPC, since a device belongs to one process at a time.

use super::health::health_message;
use crate::state::State;
use daos_drpc::Client;
use daos_drpc::methods::{host, module};
use daos_plugin_api::control::{DeviceRecord, HealthRecord};
use daos_proto::host::{
    Device, DeviceHealth, DeviceUse, EngineDevice, EngineDevices, EngineDevicesRequest,
    EngineState, Kind, StorageScanDetailRequest, StorageScanDetailResponse,
};
use std::path::PathBuf;
use std::time::Duration;

/// How long an engine may take to answer: it asks one device after the other.
const CALL_WITHIN: Duration = Duration::from_secs(20);

/// Adds to a scan what engines know of their devices.
pub(super) async fn ask(
    state: &State,
    request: &StorageScanDetailRequest,
    response: &mut StorageScanDetailResponse,
) {
    for (index, engine) in (0..).zip(state.engines()) {
        if engine.state != EngineState::Ready || engine.drpc_socket.is_empty() {
            continue;
        }
        let asked = EngineDevicesRequest {
            health: request.health,
        };
        let socket = PathBuf::from(engine.drpc_socket);
        let answer = async {
            let mut client = Client::connect(&socket, CALL_WITHIN).await?;
            client
                .request(module::HOST, host::DEVICES, &asked, CALL_WITHIN)
                .await
        };
        let answer: Result<EngineDevices, daos_drpc::Error> = answer.await;
        match answer {
            Ok(answer) => {
                for held in answer.devices {
                    merge(index, held, &mut response.devices);
                }
            }
            // An engine on other software does not know the question.
            Err(error) => tracing::warn!("engine {index} was not asked for its devices: {error}"),
        }
    }
}

/// The name of a device that the configuration may write in several ways.
fn normal(address: &str) -> String {
    let (controller, rest) = match address.split_once('/') {
        Some((controller, namespace)) if !controller.is_empty() => (controller, Some(namespace)),
        _ => (address, None),
    };
    match (daos_config::normalise_pci(controller), rest) {
        (Some(controller), Some(namespace)) => format!("{controller}/{namespace}"),
        (Some(controller), None) => controller,
        (None, _) => address.to_owned(),
    }
}

/// What an engine tells of a device, alone.
pub(super) fn alone(held: EngineDevice) -> Device {
    let mut devices = Vec::new();
    merge(0, held, &mut devices);
    devices.pop().unwrap_or_default()
}

/// Puts what an engine tells of a device into the row of that device, or into one of its own.
fn merge(engine: u32, held: EngineDevice, devices: &mut Vec<Device>) {
    let address = normal(&held.address);
    // A helper cannot look into a controller that an engine holds, and lists it as a whole.
    if let Some((controller, _)) = address.split_once('/') {
        devices.retain(|d| d.class != held.class || d.address != controller || d.size_bytes > 0);
    }
    let same = |d: &Device| d.class == held.class && normal(&d.address) == address;
    let position = devices.iter().position(same).unwrap_or_else(|| {
        devices.push(Device {
            kind: Kind::Bdev.into(),
            class: held.class.clone(),
            address: address.clone(),
            ..Device::default()
        });
        devices.len() - 1
    });
    let device = &mut devices[position];
    device.engine = Some(engine);
    if device.use_reason.is_empty() {
        device.r#use = DeviceUse::Engine.into();
        device.use_reason = format!("engine {engine}");
    }
    if let Ok(record) = serde_json::from_str::<DeviceRecord>(&held.record) {
        let known = super::device(&device.plugin, record);
        let fill = |own: &mut String, known: String| {
            if own.is_empty() {
                *own = known;
            }
        };
        fill(&mut device.model, known.model);
        fill(&mut device.serial, known.serial);
        fill(&mut device.firmware, known.firmware);
        if device.size_bytes == 0 {
            (device.size_bytes, device.block_size) = (known.size_bytes, known.block_size);
        }
        device.numa_node = device.numa_node.or(known.numa_node);
        for detail in known.details {
            if !device.details.iter().any(|d| d.key == detail.key) {
                device.details.push(detail);
            }
        }
    }
    if !held.health.is_empty() {
        device.health = Some(match serde_json::from_str::<HealthRecord>(&held.health) {
            Ok(record) => health_message(record),
            Err(error) => not_told(&format!("its health makes no sense: {error}")),
        });
    } else if let Some(fault) = held.fault {
        device.health = Some(not_told(&fault.to_string()));
    }
}

/// Health of a device that could not be asked.
pub(super) fn not_told(why: &str) -> DeviceHealth {
    DeviceHealth {
        warnings: vec![format!("not known: {why}")],
        ..DeviceHealth::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(address: &str, record: &str, health: &str) -> EngineDevice {
        EngineDevice {
            class: "nvme".to_owned(),
            address: address.to_owned(),
            record: record.to_owned(),
            health: health.to_owned(),
            ..EngineDevice::default()
        }
    }

    fn row(address: &str, size: u64) -> Device {
        Device {
            class: "nvme".to_owned(),
            address: address.to_owned(),
            size_bytes: size,
            ..Device::default()
        }
    }

    #[test]
    fn what_an_engine_holds_is_told_by_the_engine() {
        let mut devices = vec![row("0000:41:00.0", 0), row("0000:42:00.0", 0)];
        devices[0].use_reason = "engine 0 (process 7)".to_owned();
        let record = r#"{"kind":"bdev","class":"nvme","address":"0000:41:00.0","model":"M","serial":"S","size":4096,
            "block_size":512,"details":{"namespace":1}}"#;
        let health = r#"{"status":"ok","temperature_kelvin":300}"#;
        merge(0, held("0000.41.00.0", record, health), &mut devices);
        merge(0, held("0000.42.00.0/2", "", ""), &mut devices);
        let addresses: Vec<&str> = devices.iter().map(|d| d.address.as_str()).collect();
        assert_eq!(addresses, ["0000:41:00.0", "0000:42:00.0/2"]);
        let first = &devices[0];
        assert_eq!((first.model.as_str(), first.size_bytes), ("M", 4096));
        assert_eq!(first.use_reason, "engine 0 (process 7)");
        assert_eq!(first.details[0].key, "namespace");
        assert_eq!(first.health.as_ref().unwrap().temperature_kelvin, Some(300));
        assert_eq!(devices[1].r#use(), DeviceUse::Engine);
        assert!(devices[1].health.is_none());
        merge(1, held("0000:41:00.0", "", "{"), &mut devices);
        assert!(devices[0].health.as_ref().unwrap().warnings[0].contains("makes no sense"));
    }
}
