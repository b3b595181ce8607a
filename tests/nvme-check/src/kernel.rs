//! Controllers that the kernel's driver has.

use crate::load::Plugin;
use crate::{Case, Outcome, ensure};
use daos_plugin_api::host::CallOptions;

pub(crate) const CASES: &[Case] = &[("a scan knows what the kernel's driver has", scan)];

fn scan(plugin: &Plugin) -> Outcome {
    let report = plugin
        .instance
        .scan(CallOptions::default())
        .map_err(|e| e.to_string())?;
    let found: Vec<String> = report
        .devices
        .iter()
        .map(|d| {
            let format = d.details["block_format"].as_str().unwrap_or("?");
            format!("{} {} {} MiB {format}", d.address, d.serial, d.size >> 20)
        })
        .collect();
    ensure!(
        found
            == [
                "0000:41:00.0 EMU0512 256 MiB 512",
                "0000:42:00.0/1 EMUMIXED 128 MiB 4096",
                "0000:42:00.0/2 EMUMIXED 64 MiB 512",
                "0000:81:00.0 EMU4096 256 MiB 4096",
            ],
        "found {found:?}"
    );
    for device in &report.devices {
        ensure!(
            device.in_use.as_deref() == Some("bound to the kernel driver nvme"),
            "{}: {:?}",
            device.address,
            device.in_use
        );
        ensure!(
            device.model.starts_with("QEMU") && !device.firmware.is_empty(),
            "{device:?}"
        );
    }
    Ok(())
}
