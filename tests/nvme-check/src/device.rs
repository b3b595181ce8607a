//! What a device says about itself, and how devices and queues are opened.

use crate::load::{NVME_512, NVME_4096, Plugin};
use crate::rig::{Op, Rig};
use crate::{Case, Outcome, ensure, qemu, sigbus};
use daos_plugin_api::abi::{BdevGeometry, BdevOp, Status};
use daos_plugin_api::host::CallOptions;

pub(crate) const CASES: &[Case] = &[
    // First: it opens a device after it has installed a handler.
    (
        "a SIGBUS of somebody else is not the driver's",
        sigbus::foreign,
    ),
    ("scan lists the controllers and their nodes", scan),
    ("configured devices are named with their state", configured),
    ("a wrong address is refused by name", wrong_address),
    ("geometry of 512 and 4096 byte namespaces", geometry),
    ("a device is opened once", opened_once),
    ("identity names model, serial and size", identity),
    ("health is what the controller says", health),
    (
        "queues up to the controller's number, then a clear refusal",
        many_queues,
    ),
    (
        "the thread that starts the runtime keeps its processors",
        affinity,
    ),
];

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
            let mib = d.size >> 20;
            format!(
                "{} {} {mib} MiB {format} node {}",
                d.address, d.serial, d.numa_node
            )
        })
        .collect();
    ensure!(
        found
            == [
                "0000:41:00.0 EMU0512 256 MiB 512+0 node 0",
                "0000:42:00.0/1 EMUMIXED 128 MiB 4096+0 node 0",
                "0000:42:00.0/2 EMUMIXED 64 MiB 512+0 node 0",
                "0000:81:00.0 EMU4096 256 MiB 4096+0 node 1",
            ],
        "found {found:?}"
    );
    ensure!(
        report
            .devices
            .iter()
            .all(|d| d.model.starts_with("QEMU") && !d.firmware.is_empty()),
        "{:?}",
        report.devices
    );
    ensure!(
        report.devices.iter().all(|d| d.in_use.is_none()),
        "a device bound to vfio-pci counts as in use"
    );
    Ok(())
}

fn configured(plugin: &Plugin) -> Outcome {
    use daos_plugin_api::control::{ClassRequest, DeviceState};
    let config = serde_json::json!({ "bdev_list": [NVME_512, "0000:42:00.0/2", "0000:99:00.0"] });
    let request = ClassRequest {
        class: "nvme".to_owned(),
        config: config.as_object().cloned().unwrap_or_default(),
    };
    let devices = plugin
        .instance
        .devices(&request, CallOptions::default())
        .map_err(|e| e.to_string())?;
    let states: Vec<DeviceState> = devices.iter().map(|d| d.state).collect();
    ensure!(
        states
            == [
                DeviceState::Present,
                DeviceState::Present,
                DeviceState::Missing
            ],
        "states {states:?}"
    );
    ensure!(
        devices[2].detail.contains("0000:99:00.0"),
        "detail: {}",
        devices[2].detail
    );
    Ok(())
}

fn wrong_address(plugin: &Plugin) -> Outcome {
    for (address, status) in [
        ("0000:99:00.0", Status::NOT_FOUND),
        ("0000:42:00.0/7", Status::NOT_FOUND),
        ("nonsense", Status::INVALID),
        ("0000:41:00.0/0", Status::INVALID),
    ] {
        match plugin.open(address) {
            Ok(_) => return Err(format!("{address} was opened")),
            Err(error) => {
                ensure!(error.status == status, "{address}: {:?}", error.status);
                let named = address.trim_end_matches("/7");
                ensure!(
                    error.to_string().contains(named),
                    "{address}: message {error}"
                );
            }
        }
    }
    Ok(())
}

fn geometry(plugin: &Plugin) -> Outcome {
    for (address, block, bytes, node) in [
        (NVME_512, 512, 256u64 << 20, 0),
        ("0000:42:00.0/1", 4096, 128 << 20, 0),
        ("0000:42:00.0/2", 512, 64 << 20, 0),
        (NVME_4096, 4096, 256 << 20, 1),
    ] {
        let device = plugin.device(address)?;
        let g = *device.geometry();
        ensure!(
            g.block_size == block && device.size() == bytes,
            "{address}: {g:?}"
        );
        ensure!(g.numa_node == node, "{address} on node {}", g.numa_node);
        ensure!(
            g.max_queues >= 2 && g.max_queue_depth >= 64,
            "{address}: {g:?}"
        );
        ensure!(
            g.flags & BdevGeometry::VOLATILE_CACHE != 0,
            "{address} has a volatile cache, flags {}",
            g.flags
        );
    }
    Ok(())
}

fn opened_once(plugin: &Plugin) -> Outcome {
    plugin.close_devices();
    let first = plugin.open(NVME_4096).map_err(|e| e.to_string())?;
    match plugin.open("0000:81:00.0/1") {
        Err(error) if error.status == Status::BUSY => {}
        Err(error) => return Err(error.to_string()),
        Ok(_) => return Err("opened twice".to_owned()),
    }
    drop(first);
    plugin
        .open(NVME_4096)
        .map(drop)
        .map_err(|e| format!("after closing it: {e}"))
}

fn identity(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_4096)?;
    let record = device
        .identity(CallOptions::default())
        .map_err(|e| e.to_string())?;
    ensure!(
        record.serial == "EMU4096" && record.model.starts_with("QEMU"),
        "{record:?}"
    );
    ensure!(
        record.size == 256 << 20 && record.block_size == 4096 && record.numa_node == 1,
        "{record:?}"
    );
    Ok(())
}

fn many_queues(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_512)?;
    let most = device.geometry().max_queues;
    let mut queues = Vec::new();
    for number in 0..most {
        let queue = device.open_queue(2, CallOptions::default());
        queues.push(queue.map_err(|e| format!("queue {} of {most}: {e}", number + 1))?);
    }
    match device.open_queue(2, CallOptions::default()) {
        Ok(_) => return Err(format!("more than {most} queues")),
        Err(error) => ensure!(
            error.to_string().contains(&most.to_string()),
            "message: {error}"
        ),
    }
    drop(queues);
    Rig::new(&device, 1)?.must(&[Op::new(BdevOp::READ, 0, 1)])
}

fn affinity(_plugin: &Plugin) -> Outcome {
    let status = std::fs::read_to_string("/proc/thread-self/status").map_err(|e| e.to_string())?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap_or_default()
        .trim();
    ensure!(list == "0-1", "this thread may run on {list}");
    Ok(())
}

fn health(plugin: &Plugin) -> Outcome {
    // What the emulated controller is told to report.
    qemu::critical_warning("nvme-4096", 1 << 2)?;
    let health = plugin
        .device(NVME_4096)?
        .health(CallOptions::default())
        .map_err(|e| e.to_string())?;
    qemu::critical_warning("nvme-4096", 0)?;
    ensure!(
        health["status"] == "critical" && health["critical_warning"] == 4,
        "{health:?}"
    );
    let kelvin = health["temperature_kelvin"].as_u64().unwrap_or(0);
    ensure!((273..400).contains(&kelvin), "{kelvin} K");
    Ok(())
}
