//! A format through the plugin, without and with the command NVMe Format.

use crate::load::{NVME_512, NVME_4096, Plugin};
use crate::rig::{Op, Rig, fill, holds};
use crate::{Case, Outcome, ensure};
use daos_plugin_api::abi::BdevOp;
use daos_plugin_api::control::{DeviceSpec, DeviceState, FormatRequest};
use daos_plugin_api::host::CallOptions;

pub(crate) const CASES: &[Case] = &[
    ("a format empties blocks of 512 bytes", |p| {
        empties(p, NVME_512, 512, false)
    }),
    ("a format empties blocks of 4096 bytes", |p| {
        empties(p, NVME_4096, 4096, false)
    }),
];

pub(crate) const COMMAND: &[Case] = &[
    ("NVMe Format empties blocks of 512 bytes", |p| {
        empties(p, NVME_512, 512, true)
    }),
    ("NVMe Format empties blocks of 4096 bytes", |p| {
        empties(p, NVME_4096, 4096, true)
    }),
];

/// Writes at both ends and in the middle, formats, and looks: the ends read zeroes, the blocks are as large as before.
fn empties(plugin: &Plugin, address: &str, block: u32, nvme_format: bool) -> Outcome {
    let size = {
        let device = plugin.open(address).map_err(|e| e.to_string())?;
        let last = device.geometry().block_count - 8;
        let mut rig = Rig::new(&device, 2)?;
        (0..2).for_each(|slot| fill(rig.slot(slot), slot as u64));
        rig.must(&[
            Op::new(BdevOp::WRITE, 0, 8),
            Op::new(BdevOp::WRITE, last, 8),
        ])?;
        device.size()
    };
    let config = serde_json::json!({ "bdev_list": [address] });
    let request = FormatRequest {
        device: DeviceSpec {
            class: "nvme".to_owned(),
            index: 0,
            address: address.to_owned(),
            size: 0,
            state: DeviceState::Present,
            detail: String::new(),
            config: config.as_object().cloned().unwrap_or_default(),
        },
        overwrite_foreign: false,
        nvme_format,
        check_only: false,
    };
    let report = plugin
        .instance
        .format(&request, CallOptions::default())
        .map_err(|e| e.to_string())?;
    ensure!(report.size == size, "{} bytes of {size}", report.size);
    ensure!(report.notes.is_empty(), "remarks: {:?}", report.notes);
    let device = plugin.open(address).map_err(|e| e.to_string())?;
    let geometry = *device.geometry();
    ensure!(
        geometry.block_size == block,
        "blocks of {} bytes",
        geometry.block_size
    );
    let mut rig = Rig::new(&device, 2)?;
    (0..2).for_each(|slot| fill(rig.slot(slot), slot as u64));
    let last = geometry.block_count - 8;
    rig.must(&[Op::new(BdevOp::READ, 0, 8), Op::new(BdevOp::READ, last, 8)])?;
    for slot in 0..2 {
        let data = &rig.slot(slot)[..8 * block as usize];
        ensure!(
            !holds(data, slot as u64) && data.iter().all(|byte| *byte == 0),
            "the data is still there"
        );
    }
    Ok(())
}
