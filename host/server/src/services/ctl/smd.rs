//! Devices and pools as engines know them, in the terms of the DAOS 2.8 control plane.

use super::scan::{detail, health};
use crate::pools::{Member, Pools};
use crate::scan;
use crate::state::{State, now_ms};
use daos_proto::NO_RANK;
use daos_proto::ctl::nvme_controller::Namespace;
use daos_proto::ctl::smd_manage_req::Op;
use daos_proto::ctl::{
    LedState, NvmeController, NvmeDevState, ResponseStatus, SmdDevice, SmdManageReq, SmdManageResp,
    SmdQueryReq, SmdQueryResp, smd_manage_resp, smd_query_resp,
};
use daos_proto::fault::NOT_SUPPORTED;
use daos_proto::host::{Device, EngineDevice, EngineDevicesRequest, EngineSpace, Fault};
use std::time::Duration;
use tonic::Status;

/// Fault number of a host none of whose engines serves.
const NOT_STARTED: i32 = 611;
/// How long an engine may take: it asks one device after the other.
const WITHIN: Duration = Duration::from_secs(20);

/// The engines that serve.
///
/// # Errors
/// There is none.
fn serving(state: &State, pools: &Pools, rank: u32) -> Result<Vec<Member>, Status> {
    if pools.local_members(|_| true).is_empty() {
        let (_, reason, hint) = state.phase();
        let fault = Fault::new(
            ResponseStatus::CtlErrApp,
            "server",
            NOT_STARTED,
            "no engine of this host is ready",
            reason,
            hint,
        );
        return Err(fault.to_status());
    }
    Ok(pools.local_members(|r| rank == NO_RANK || r == rank))
}

/// Devices and pools of the engines that serve, one entry per engine and kind.
pub(super) async fn query(
    state: &State,
    pools: &Pools,
    request: &SmdQueryReq,
) -> Result<SmdQueryResp, Status> {
    let members = serving(state, pools, request.rank)?;
    let is_wanted = |uuid: &str| request.uuid.is_empty() || request.uuid == uuid;
    let mut ranks = Vec::new();
    for member in &members {
        if !request.omit_devices {
            let mut devices = devices(member, request.include_bio_health).await?;
            devices.retain(|device| is_wanted(&device.uuid));
            ranks.push(smd_query_resp::RankResp {
                rank: member.rank,
                devices,
                pools: Vec::new(),
            });
        }
        if !request.omit_pools {
            let told = member.pools().await?;
            let targets = told.space.as_ref().map_or(0, |space| space.targets);
            let pool = |uuid: String| smd_query_resp::Pool {
                uuid,
                tgt_ids: (0..targets as i32).collect(),
                // A pool's blocks on a target are one set, which has no number of its own.
                blobs: vec![0; targets as usize],
            };
            let of_engine = told.pools.into_iter().map(|p| p.uuid);
            ranks.push(smd_query_resp::RankResp {
                rank: member.rank,
                devices: Vec::new(),
                pools: of_engine.filter(|uuid| is_wanted(uuid)).map(pool).collect(),
            });
        }
    }
    Ok(SmdQueryResp { status: 0, ranks })
}

/// Light, fault and replacement: no backend has the functions, which each device is told with its own result.
pub(super) async fn manage(
    state: &State,
    pools: &Pools,
    request: &SmdManageReq,
) -> Result<SmdManageResp, Status> {
    let ids: Vec<String> = match &request.op {
        None => return Err(Status::unknown("nil operation in request")),
        Some(Op::Led(led)) => led
            .ids
            .split(',')
            .map(|id| id.trim().to_owned())
            .filter(|id| !id.is_empty())
            .collect(),
        Some(Op::Replace(replace)) => vec![replace.old_dev_uuid.clone()],
        Some(Op::Faulty(faulty)) => vec![faulty.uuid.clone()],
    };
    let is_led = matches!(request.op, Some(Op::Led(_)));
    if !is_led && ids.iter().any(String::is_empty) {
        return Err(Status::unknown("empty uuid in request"));
    }
    let mut ranks = Vec::new();
    let mut missing = ids.clone();
    for member in serving(state, pools, NO_RANK)? {
        let mut results = Vec::new();
        for device in devices(&member, false).await? {
            let address = device.ctrlr.as_ref().map_or("", |c| c.pci_addr.as_str());
            let is_named = |id: &String| *id == device.uuid || (is_led && *id == address);
            missing.retain(|id| !is_named(id));
            if ids.is_empty() || ids.iter().any(is_named) {
                results.push(smd_manage_resp::Result {
                    status: NOT_SUPPORTED,
                    device: Some(device),
                });
            }
        }
        if !results.is_empty() {
            ranks.push(smd_manage_resp::RankResp {
                rank: member.rank,
                results,
            });
        }
    }
    match missing.is_empty() {
        true => Ok(SmdManageResp { ranks }),
        false => Err(Status::unknown(format!(
            "no device of this host's engines is {}; `daos_shell storage query list-devices` shows them",
            missing.join(", ")
        ))),
    }
}

/// The devices of an engine, as it tells them.
pub(super) async fn devices(member: &Member, with_health: bool) -> Result<Vec<SmdDevice>, Status> {
    let request = EngineDevicesRequest {
        health: with_health,
    };
    let told = member.devices(&request, WITHIN).await?;
    let space = member.pools().await?.space.unwrap_or_default();
    let described = |device| described(device, &space, member.rank, with_health);
    Ok(told.devices.into_iter().map(described).collect())
}

fn described(held: EngineDevice, space: &EngineSpace, rank: u32, with_health: bool) -> SmdDevice {
    // Targets share their devices' space alike.
    let targets = u64::from(space.targets.max(1));
    let share = |bytes: u64| bytes / targets * held.targets.len() as u64;
    // What no pool has is free, and all of it can be a pool's.
    let free = share(space.bdev_free);
    let (uuid, total_bytes) = (held.uuid.clone(), held.size_bytes);
    let tgt_ids = held.targets.iter().map(|n| *n as i32).collect();
    let device: Device = scan::held(held);
    // A namespace follows its controller's address; a path begins with the slash.
    let address = match device.address.split_once('/') {
        Some((controller, _)) if !controller.is_empty() => controller,
        _ => &device.address,
    };
    let namespace = detail(&device, "namespace").parse().unwrap_or(1);
    let seconds = now_ms() / 1000;
    let health_stats = device.health.as_ref().filter(|_| with_health).map(|told| {
        let mut stats = health(told, seconds);
        stats.dev_uuid.clone_from(&uuid);
        (stats.total_bytes, stats.avail_bytes) = (total_bytes, free);
        stats
    });
    let controller = NvmeController {
        model: device.model.clone(),
        serial: device.serial.clone(),
        fw_rev: device.firmware.clone(),
        pci_addr: address.to_owned(),
        socket_id: device.numa_node.unwrap_or(-1),
        health_stats,
        namespaces: vec![Namespace {
            id: namespace,
            size: total_bytes,
            ctrlr_pci_addr: address.to_owned(),
        }],
        dev_state: NvmeDevState::Normal.into(),
        led_state: LedState::Na.into(),
        ..NvmeController::default()
    };
    SmdDevice {
        uuid,
        tgt_ids,
        total_bytes,
        avail_bytes: free,
        usable_bytes: free,
        rank,
        ctrlr: Some(controller),
        ctrlr_namespace_id: namespace,
        ..SmdDevice::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_the_share_of_its_targets() {
        let held = EngineDevice {
            class: "nvme".to_owned(),
            address: "0000:41:00.0/2".to_owned(),
            record: r#"{"kind":"bdev","class":"nvme","address":"0000:41:00.0/2","model":"M","serial":"S","size":4096,
                "block_size":512,"details":{"namespace":2}}"#
                .to_owned(),
            health: r#"{"status":"ok","temperature_kelvin":300}"#.to_owned(),
            uuid: "u".to_owned(),
            targets: vec![1, 3],
            size_bytes: 4096,
            ..EngineDevice::default()
        };
        let space = EngineSpace {
            targets: 4,
            bdev_total: 4000,
            bdev_free: 400,
            ..EngineSpace::default()
        };
        let device = described(held, &space, 7, true);
        assert_eq!((device.uuid.as_str(), device.rank), ("u", 7));
        assert_eq!(device.tgt_ids, [1, 3]);
        assert_eq!(
            (device.total_bytes, device.usable_bytes, device.avail_bytes),
            (4096, 200, 200)
        );
        let controller = device.ctrlr.unwrap();
        assert_eq!(
            (controller.pci_addr.as_str(), device.ctrlr_namespace_id),
            ("0000:41:00.0", 2)
        );
        assert_eq!(controller.health_stats.unwrap().temperature, 300);
    }
}
