//! `storage query`: devices and pools as the hosts' engines know them.

use crate::cli::{Cli, StorageQueryArgs, StorageQueryCommand};
use crate::connect::ctl_client;
use crate::fanout::{self, Answers};
use daos_proto::NO_RANK;
use daos_proto::ctl::{NvmeDevState, SmdDevice, SmdQueryReq};
use daos_report::{bytes, table};
use serde::Serialize;

/// A device of an engine.
#[derive(Clone, Serialize)]
struct DeviceRow {
    rank: u32,
    uuid: String,
    address: String,
    namespace: u32,
    model: String,
    serial: String,
    firmware: String,
    state: &'static str,
    targets: Vec<i32>,
    total_bytes: u64,
    free_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health>,
}

/// What a device tells of itself; what it does not know is 0.
#[derive(Clone, Serialize)]
struct Health {
    temperature_kelvin: u32,
    media_errors: u64,
    error_log_entries: u64,
    power_on_hours: u64,
    power_cycles: u64,
    unsafe_shutdowns: u64,
    warnings: Vec<&'static str>,
}

/// A pool's part on an engine.
#[derive(Clone, Serialize)]
struct PoolRow {
    rank: u32,
    uuid: String,
    targets: Vec<i32>,
}

pub(crate) async fn run(
    cli: &Cli,
    command: &StorageQueryCommand,
    hosts: &[String],
) -> anyhow::Result<bool> {
    match command {
        StorageQueryCommand::ListDevices { which, health } => {
            let told = devices(cli, which, *health, hosts).await;
            fanout::print(cli, told, |rows| devices_text(rows))
        }
        StorageQueryCommand::DeviceHealth(which) => {
            let told = devices(cli, which, true, hosts).await;
            fanout::print(cli, told, |rows| health_text(rows))
        }
        StorageQueryCommand::ListPools(which) => {
            let told = pools(cli, which, hosts).await;
            fanout::print(cli, told, |rows| pools_text(rows))
        }
    }
}

fn request(which: &StorageQueryArgs) -> SmdQueryReq {
    SmdQueryReq {
        uuid: which.uuid.map(|uuid| uuid.to_string()).unwrap_or_default(),
        rank: which.rank.unwrap_or(NO_RANK),
        ..SmdQueryReq::default()
    }
}

async fn devices(
    cli: &Cli,
    which: &StorageQueryArgs,
    health: bool,
    hosts: &[String],
) -> Answers<Vec<DeviceRow>> {
    let request = SmdQueryReq {
        omit_pools: true,
        include_bio_health: health,
        ..request(which)
    };
    fanout::ask_on(cli, hosts, move |channel| {
        let request = request.clone();
        async move {
            let answer = ctl_client(channel).smd_query(request).await?.into_inner();
            let devices = answer.ranks.into_iter().flat_map(|rank| rank.devices);
            Ok(devices.map(DeviceRow::from).collect())
        }
    })
    .await
}

async fn pools(cli: &Cli, which: &StorageQueryArgs, hosts: &[String]) -> Answers<Vec<PoolRow>> {
    let request = SmdQueryReq {
        omit_devices: true,
        ..request(which)
    };
    fanout::ask_on(cli, hosts, move |channel| {
        let request = request.clone();
        async move {
            let answer = ctl_client(channel).smd_query(request).await?.into_inner();
            let rows = answer.ranks.into_iter().flat_map(|engine| {
                let rank = engine.rank;
                engine.pools.into_iter().map(move |pool| PoolRow {
                    rank,
                    uuid: pool.uuid,
                    targets: pool.tgt_ids,
                })
            });
            Ok(rows.collect())
        }
    })
    .await
}

impl From<SmdDevice> for DeviceRow {
    fn from(device: SmdDevice) -> Self {
        let controller = device.ctrlr.unwrap_or_default();
        let state = match controller.dev_state() {
            NvmeDevState::Normal => "normal",
            NvmeDevState::New => "new",
            NvmeDevState::Evicted => "faulty",
            NvmeDevState::Unplugged => "unplugged",
            NvmeDevState::Unknown => "unknown",
        };
        Self {
            rank: device.rank,
            uuid: device.uuid,
            namespace: device.ctrlr_namespace_id,
            state,
            targets: device.tgt_ids,
            total_bytes: device.total_bytes,
            free_bytes: device.avail_bytes,
            address: controller.pci_addr,
            model: controller.model,
            serial: controller.serial,
            firmware: controller.fw_rev,
            health: controller.health_stats.map(|told| {
                let warnings = [
                    (told.temp_warn, "temperature"),
                    (told.avail_spare_warn, "spare blocks"),
                    (told.dev_reliability_warn, "reliability"),
                    (told.read_only_warn, "read only"),
                    (told.volatile_mem_warn, "volatile memory"),
                ];
                let warnings = warnings.into_iter().filter(|(set, _)| *set);
                Health {
                    temperature_kelvin: told.temperature,
                    media_errors: told.media_errs,
                    error_log_entries: told.err_log_entries,
                    power_on_hours: told.power_on_hours,
                    power_cycles: told.power_cycles,
                    unsafe_shutdowns: told.unsafe_shutdowns,
                    warnings: warnings.map(|(_, name)| name).collect(),
                }
            }),
        }
    }
}

fn numbers(numbers: &[i32]) -> String {
    let all: Vec<u32> = numbers.iter().map(|n| n.unsigned_abs()).collect();
    crate::system::set(&all)
}

fn devices_text(rows: &[DeviceRow]) -> String {
    if rows.is_empty() {
        return "no devices".to_owned();
    }
    let row = |d: &DeviceRow| {
        vec![
            d.rank.to_string(),
            d.uuid.clone(),
            d.address.clone(),
            d.state.to_owned(),
            numbers(&d.targets),
            bytes(d.total_bytes),
            bytes(d.free_bytes),
        ]
    };
    let headings = [
        "RANK", "UUID", "ADDRESS", "STATE", "TARGETS", "SIZE", "FREE",
    ];
    let mut text = table(&headings, rows.iter().map(row));
    if rows.iter().any(|d| d.health.is_some()) {
        text = format!("{text}\n\n{}", health_text(rows));
    }
    text
}

fn health_text(rows: &[DeviceRow]) -> String {
    let told = rows.iter().filter_map(|d| Some((d, d.health.as_ref()?)));
    let lines: Vec<Vec<String>> = told
        .map(|(device, health)| {
            let celsius = match health.temperature_kelvin {
                0 => "-".to_owned(),
                kelvin => format!("{} C", i64::from(kelvin) - 273),
            };
            let warnings = match health.warnings.is_empty() {
                true => "none".to_owned(),
                false => health.warnings.join(", "),
            };
            vec![
                device.uuid.clone(),
                device.address.clone(),
                celsius,
                health.media_errors.to_string(),
                health.error_log_entries.to_string(),
                health.power_on_hours.to_string(),
                warnings,
            ]
        })
        .collect();
    if lines.is_empty() {
        return "no device tells its health".to_owned();
    }
    let headings = [
        "UUID",
        "ADDRESS",
        "TEMPERATURE",
        "MEDIA ERRORS",
        "LOG ENTRIES",
        "HOURS",
        "WARNINGS",
    ];
    table(&headings, lines)
}

fn pools_text(rows: &[PoolRow]) -> String {
    if rows.is_empty() {
        return "no pools".to_owned();
    }
    let row = |p: &PoolRow| vec![p.rank.to_string(), p.uuid.clone(), numbers(&p.targets)];
    table(&["RANK", "POOL", "TARGETS"], rows.iter().map(row))
}
