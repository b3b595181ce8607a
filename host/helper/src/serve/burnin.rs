//! Burn-in: opens the devices, decides once more whether each may be written to, and runs a thread per device.

use super::device;
use crate::operation::{BurnInDevice, BurnInRequest};
use daos_burnin::consent::{self, Access};
use daos_burnin::device::{Context, KEEP_OUT, Plan, run as burn_in};
use daos_burnin::{DeviceRecord, Load, Mode, Phase, Update};
use daos_media::signature::WINDOW;
use daos_plugin_api::host::{BdevDevice, CallOptions, ControlOp, Instance};
use serde_json::{Map, Value};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

// What is not blank at the ends is what the load keeps out of.
const _: () = assert!(KEEP_OUT as usize >= WINDOW);

/// Burns the devices in. Whatever happens to one stands in its record, and does not keep the others.
pub(super) fn run(
    instance: &Instance,
    request: &BurnInRequest,
    options: CallOptions<'_>,
    report: &(dyn Fn(Value) + Sync),
) {
    let never = AtomicBool::new(false);
    let cancel = options.cancel.unwrap_or(&never);
    let admin = Mutex::new(());
    let send = |index: usize, device: DeviceRecord| {
        // A record of numbers and texts has no way to fail.
        report(serde_json::to_value(Update { index, device }).unwrap_or_default());
    };
    // One after the other: only one thread may open devices.
    let mut opened = Vec::new();
    for (index, wanted) in request.devices.iter().enumerate() {
        let mut record = DeviceRecord::new(String::new(), String::new());
        match open(instance, wanted, &request.load, options, &mut record) {
            Ok(device) => {
                send(index, record.clone());
                opened.push((index, wanted, device, record));
            }
            Err(fault) => {
                record.fault = Some(fault);
                record.phase = Phase::Done;
                send(index, record);
            }
        }
    }
    std::thread::scope(|scope| {
        for (index, wanted, device, record) in &opened {
            let (send, admin) = (&send, &admin);
            scope.spawn(move || {
                let mode = record.mode;
                let context = Context {
                    cancel,
                    admin,
                    report: &|device| send(*index, device),
                };
                let plan = Plan {
                    run: request.run,
                    load: load_of(&request.load, mode),
                    mode,
                };
                let mut record = record.clone();
                match instance.attach_thread() {
                    Ok(_attached) => record = burn_in(device, &plan, record, &context),
                    Err(error) => record.fault = Some(error.to_string()),
                }
                record.phase = Phase::Done;
                {
                    let _admin = admin.lock().unwrap_or_else(PoisonError::into_inner);
                    record.health_after = health(instance, device, wanted, options);
                }
                send(*index, record);
            });
        }
    });
}

fn load_of(load: &Load, mode: Mode) -> Load {
    match mode {
        Mode::ReadWrite => load.clone(),
        Mode::ReadOnly => load.clone().read_only(),
    }
}

/// Opens a device and decides about it. The error is a fault for the record.
fn open(
    instance: &Instance,
    wanted: &BurnInDevice,
    load: &Load,
    options: CallOptions<'_>,
    record: &mut DeviceRecord,
) -> Result<BdevDevice, String> {
    let text = |e: daos_plugin_api::sdk::Error| e.to_string();
    let opened = instance.open_bdev(&wanted.device, options).map_err(text)?;
    record.size_bytes = opened.size();
    record.block_size = opened.geometry().block_size;
    if let Ok(identity) = opened.identity(options) {
        let known = [
            ("model", identity.model),
            ("serial", identity.serial),
            ("firmware", identity.firmware),
        ];
        let told = known.into_iter().filter(|(_, value)| !value.is_empty());
        record.identity = told.map(|(name, value)| (name.to_owned(), value)).collect();
    }
    record.health_before = health(instance, &opened, wanted, options);
    let found = device::inspect_open(&opened).map_err(text)?;
    let holds = found.holds();
    record.held = holds.clone().unwrap_or_else(|| "nothing".to_owned());
    record.mode = consent::decide(&wanted.access, holds.as_deref(), found.read_only)?;
    let load = load_of(load, record.mode);
    daos_burnin::device::check(&load, record.mode, opened.geometry())?;
    match (record.mode, holds) {
        (Mode::ReadWrite, Some(holds)) => {
            device::clear_ends(&opened).map_err(text)?;
            record.destroyed = true;
            tracing::warn!(
                "{}: {holds} was destroyed, as agreed",
                wanted.device.address
            );
        }
        (Mode::ReadOnly, Some(holds)) if wanted.access == Access::Auto => {
            record
                .notes
                .push(format!("only read, since it holds {holds}"));
        }
        _ => {}
    }
    Ok(opened)
}

/// The health document: of the open device, else of the plugin; empty if neither tells.
fn health(
    instance: &Instance,
    device: &BdevDevice,
    wanted: &BurnInDevice,
    options: CallOptions<'_>,
) -> Map<String, Value> {
    device.health(options).unwrap_or_else(|_| {
        let request = serde_json::to_string(&wanted.device).unwrap_or_default();
        let answer = instance.control(ControlOp::Health, &request, options);
        answer
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    })
}
