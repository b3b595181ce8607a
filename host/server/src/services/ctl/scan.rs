//! `StorageScan`: the devices of a host, and how full they are.

use super::{scm, smd};
use crate::plugins::Plugins;
use crate::pools::Pools;
use crate::scan;
use crate::state::State;
use daos_proto::ctl::nvme_controller::Namespace;
use daos_proto::ctl::{
    BioHealthResp, MemInfo, NvmeController, NvmeDevState, ResponseState, ResponseStatus,
    ScanNvmeReq, ScanNvmeResp, SmdDevice, StorageScanReq, StorageScanResp, SysMemInfo,
};
use daos_proto::host::{
    Device, DeviceHealth, EngineState, Kind, StorageScanDetailRequest, StorageScanDetailResponse,
};
use futures_util::future::join_all;
use std::path::Path;
use tonic::Status;

/// Answers with both halves, each of which has its own state.
///
/// # Errors
/// A half was not asked for.
pub(super) async fn run(
    state: &State,
    plugins: &Plugins,
    pools: &Pools,
    request: &StorageScanReq,
) -> Result<StorageScanResp, Status> {
    let missing = |half: &str| Status::invalid_argument(format!("nil {half} request"));
    let nvme = request.nvme.as_ref().ok_or_else(|| missing("nvme"))?;
    let scm = request.scm.as_ref().ok_or_else(|| missing("scm"))?;
    let wanted = StorageScanDetailRequest {
        kinds: vec![Kind::Bdev.into()],
        health: nvme.health,
        ..StorageScanDetailRequest::default()
    };
    let (found, scm) = tokio::join!(
        scan::scan(plugins, Some(state), &wanted),
        scm::half(state, plugins, pools, scm.usage)
    );
    let mut half = controllers(nvme, found);
    if nvme.meta {
        let (held, silent) = held(state, pools, nvme.health).await;
        if !nvme.basic {
            place(held, &mut half.ctrlrs);
        }
        let state = half.state.get_or_insert_default();
        if let Some(why) = silent.filter(|_| state.status() == ResponseStatus::CtlSuccess) {
            state.set_status(ResponseStatus::CtlErrNvme);
            state.error = why;
        }
    }
    Ok(StorageScanResp {
        nvme: Some(half),
        scm: Some(scm),
        sys_mem_info: Some(memory(Path::new("/"))),
    })
}

/// What engines that serve hold, and why there may be more.
async fn held(state: &State, pools: &Pools, health: bool) -> (Vec<SmdDevice>, Option<String>) {
    let idle = state.engines().into_iter().enumerate();
    let mut idle = idle.filter(|(_, engine)| engine.state != EngineState::Ready);
    let mut silent = idle.next().map(|(index, engine)| {
        format!(
            "engine {index} does not serve, so it does not tell how full its devices are: {}",
            engine.reason
        )
    });
    let members = pools.local_members(|_| true);
    let answers = join_all(members.iter().map(|member| smd::devices(member, health))).await;
    let mut all = Vec::new();
    for answer in answers {
        match answer {
            Ok(devices) => all.extend(devices),
            Err(status) => silent = Some(status.message().to_owned()),
        }
    }
    (all, silent)
}

/// Puts what an engine uses of a device below the device. What no scan of controllers finds, such as a file that stands
/// for a device, becomes a row of its own: tools add up from these what a pool can have.
fn place(held: Vec<SmdDevice>, controllers: &mut Vec<NvmeController>) {
    for mut device in held {
        let Some(controller) = device.ctrlr.take() else {
            continue;
        };
        let same = |c: &NvmeController| c.pci_addr == controller.pci_addr;
        let at = controllers.iter().position(same).unwrap_or_else(|| {
            controllers.push(controller);
            controllers.len() - 1
        });
        controllers[at].smd_devices.push(device);
    }
}

/// The block device half: a controller for all of its namespaces.
fn controllers(request: &ScanNvmeReq, found: StorageScanDetailResponse) -> ScanNvmeResp {
    let time = found.time_ms / 1000;
    let mut controllers: Vec<NvmeController> = Vec::new();
    for device in found.devices.into_iter().filter(|d| d.class == "nvme") {
        let address = device.address.split('/').next().unwrap_or_default();
        let namespace = (device.size_bytes > 0).then(|| Namespace {
            id: detail(&device, "namespace").parse().unwrap_or(1),
            size: device.size_bytes,
            ctrlr_pci_addr: address.to_owned(),
        });
        match controllers.last_mut().filter(|c| c.pci_addr == address) {
            Some(known) => known.namespaces.extend(namespace),
            None => {
                let name = |text: &str| match request.basic {
                    true => String::new(),
                    false => text.to_owned(),
                };
                controllers.push(NvmeController {
                    model: name(&device.model),
                    serial: name(&device.serial),
                    fw_rev: name(&device.firmware),
                    pci_addr: address.to_owned(),
                    socket_id: device.numa_node.unwrap_or(-1),
                    health_stats: device.health.as_ref().map(|h| health(h, time)),
                    namespaces: namespace.into_iter().collect(),
                    vendor_id: detail(&device, "pci_id")
                        .split(':')
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                    dev_state: NvmeDevState::Normal.into(),
                    ..NvmeController::default()
                });
            }
        }
    }
    let failed = found.faults.into_iter().next();
    ScanNvmeResp {
        ctrlrs: controllers,
        state: Some(match failed {
            None => ResponseState::default(),
            Some(failed) => ResponseState {
                status: ResponseStatus::CtlErrNvme.into(),
                error: format!(
                    "plugin {}: {}",
                    failed.plugin,
                    failed.fault.unwrap_or_default()
                ),
                info: String::new(),
            },
        }),
    }
}

pub(super) fn detail<'d>(device: &'d Device, key: &str) -> &'d str {
    let found = device.details.iter().find(|detail| detail.key == key);
    found.map_or("", |detail| detail.value.as_str())
}

/// What is not known is 0, as that protocol has it.
pub(super) fn health(health: &DeviceHealth, seconds: u64) -> BioHealthResp {
    let warns = |bit: u32| health.critical_warning.unwrap_or(0) & 1 << bit != 0;
    BioHealthResp {
        timestamp: seconds,
        warn_temp_time: health.warning_temperature_minutes.unwrap_or(0),
        crit_temp_time: health.critical_temperature_minutes.unwrap_or(0),
        ctrl_busy_time: health.busy_minutes.unwrap_or(0),
        power_cycles: health.power_cycles.unwrap_or(0),
        power_on_hours: health.power_on_hours.unwrap_or(0),
        unsafe_shutdowns: health.unsafe_shutdowns.unwrap_or(0),
        media_errs: health.media_errors.unwrap_or(0),
        err_log_entries: health.error_log_entries.unwrap_or(0),
        temperature: health.temperature_kelvin.unwrap_or(0),
        avail_spare_warn: warns(0),
        temp_warn: warns(1),
        dev_reliability_warn: warns(2),
        read_only_warn: warns(3),
        volatile_mem_warn: warns(4),
        ..BioHealthResp::default()
    }
}

/// Memory of this host, from the kernel's files below `root`.
fn memory(root: &Path) -> SysMemInfo {
    let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let whole = text("proc/meminfo");
    let value = |name| meminfo(&whole, name);
    let nodes = "sys/devices/system/node";
    let mut numa_nodes = Vec::new();
    let entries = std::fs::read_dir(root.join(nodes)).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix("node"));
        let Some(numa_node_index) = number.and_then(|n| n.parse().ok()) else {
            continue;
        };
        let own = text(&format!("{nodes}/node{numa_node_index}/meminfo"));
        let value = |name| meminfo(&own, name);
        numa_nodes.push(MemInfo {
            numa_node_index,
            hugepages_total: value("HugePages_Total"),
            hugepages_free: value("HugePages_Free"),
            hugepages_surplus: value("HugePages_Surp"),
            mem_total_kb: value("MemTotal"),
            mem_free_kb: value("MemFree"),
            mem_used_kb: value("MemUsed"),
        });
    }
    numa_nodes.sort_by_key(|node| node.numa_node_index);
    SysMemInfo {
        hugepages_total: value("HugePages_Total"),
        hugepages_free: value("HugePages_Free"),
        hugepages_reserved: value("HugePages_Rsvd"),
        hugepages_surplus: value("HugePages_Surp"),
        hugepage_size_kb: u32::try_from(value("Hugepagesize")).unwrap_or(0),
        mem_total_kb: value("MemTotal"),
        mem_free_kb: value("MemFree"),
        mem_available_kb: value("MemAvailable"),
        numa_nodes,
    }
}

/// A number of meminfo; lines of nodes begin with `Node N`. 0 if there is none.
fn meminfo(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.split_whitespace().next_back() == Some(name)).then_some(value)
    });
    line.and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_proto::host::{Detail, Fault, PluginFault};

    fn namespace(address: &str, id: &str, size: u64) -> Device {
        let text = |key: &str, value: &str| Detail {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        Device {
            class: "nvme".to_owned(),
            address: address.to_owned(),
            model: "M".to_owned(),
            serial: "S".to_owned(),
            size_bytes: size,
            numa_node: Some(1),
            details: vec![text("namespace", id), text("pci_id", "8086:0a54")],
            health: Some(DeviceHealth {
                temperature_kelvin: Some(323),
                critical_warning: Some(0b110),
                media_errors: Some(4),
                ..DeviceHealth::default()
            }),
            ..Device::default()
        }
    }

    #[test]
    fn namespaces_are_gathered_below_their_controllers() {
        let found = || StorageScanDetailResponse {
            devices: vec![
                namespace("0000:41:00.0/1", "1", 4096),
                namespace("0000:41:00.0/5", "5", 8192),
                namespace("0000:42:00.0", "1", 0),
                Device {
                    class: "kdev".to_owned(),
                    ..Device::default()
                },
            ],
            faults: vec![PluginFault {
                plugin: "p".to_owned(),
                fault: Some(Fault::default()),
            }],
            time_ms: 7000,
            notes: Vec::new(),
        };
        let half = controllers(&ScanNvmeReq::default(), found());
        assert_eq!(half.ctrlrs.len(), 2);
        let first = &half.ctrlrs[0];
        assert_eq!(
            (
                first.pci_addr.as_str(),
                first.serial.as_str(),
                first.socket_id
            ),
            ("0000:41:00.0", "S", 1)
        );
        let ids: Vec<_> = first.namespaces.iter().map(|n| (n.id, n.size)).collect();
        assert_eq!(ids, [(1, 4096), (5, 8192)]);
        assert_eq!(first.vendor_id, "8086");
        let health = first.health_stats.as_ref().unwrap();
        assert_eq!(
            (health.timestamp, health.temperature, health.media_errs),
            (7, 323, 4)
        );
        assert!(health.temp_warn && health.dev_reliability_warn && !health.avail_spare_warn);
        assert!(half.ctrlrs[1].namespaces.is_empty());
        let state = half.state.unwrap();
        assert_eq!(state.status(), ResponseStatus::CtlErrNvme);
        let basic = ScanNvmeReq {
            basic: true,
            ..ScanNvmeReq::default()
        };
        assert_eq!(controllers(&basic, found()).ctrlrs[0].serial, "");
    }

    #[test]
    fn memory_is_told_by_node() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put(
            "proc/meminfo",
            "MemTotal:  100 kB\nHugePages_Total:   6\nHugepagesize:   2048 kB\n",
        );
        put(
            "sys/devices/system/node/node1/meminfo",
            "Node 1 MemUsed: 5 kB\nNode 1 HugePages_Free:  2\n",
        );
        let memory = memory(root.path());
        assert_eq!((memory.mem_total_kb, memory.hugepages_total), (100, 6));
        assert_eq!(memory.hugepage_size_kb, 2048);
        let node = &memory.numa_nodes[0];
        assert_eq!(
            (node.numa_node_index, node.mem_used_kb, node.hugepages_free),
            (1, 5, 2)
        );
    }

    #[test]
    fn what_engines_hold_lies_below_its_controller() {
        let held = |address: &str, rank| SmdDevice {
            rank,
            ctrlr: Some(NvmeController {
                pci_addr: address.to_owned(),
                dev_state: NvmeDevState::Normal.into(),
                ..NvmeController::default()
            }),
            ..SmdDevice::default()
        };
        let mut rows = controllers(
            &ScanNvmeReq::default(),
            StorageScanDetailResponse {
                devices: vec![namespace("0000:41:00.0/1", "1", 4096)],
                ..StorageScanDetailResponse::default()
            },
        )
        .ctrlrs;
        place(
            vec![
                held("0000:41:00.0", 0),
                held("/srv/b0", 1),
                held("0000:41:00.0", 2),
                held("/srv/b0", 3),
            ],
            &mut rows,
        );
        let told: Vec<(&str, Vec<u32>)> = rows
            .iter()
            .map(|row| {
                let ranks = row.smd_devices.iter().map(|device| device.rank);
                (row.pci_addr.as_str(), ranks.collect())
            })
            .collect();
        assert_eq!(
            told,
            [("0000:41:00.0", vec![0, 2]), ("/srv/b0", vec![1, 3])]
        );
        // Tools take no device into account that is not normal, and each below one controller.
        for row in &rows {
            assert_eq!(row.dev_state(), NvmeDevState::Normal);
            assert!(row.smd_devices.iter().all(|device| device.ctrlr.is_none()));
        }
    }
}
