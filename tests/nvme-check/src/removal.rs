//! Orderly removal of a device that is in use. The controller of the other node works on.

use crate::load::{NVME_512, NVME_4096, Plugin, is_on_spdk};
use crate::rig::{Op, PATIENCE, Rig, by_slot};
use crate::{Case, Outcome, ensure, qemu};
use daos_plugin_api::abi::{BdevEvent, BdevOp, Completion, Status};
use daos_plugin_api::host::BdevDevice;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(crate) const CASES: &[Case] = &[(
    "a device removed under load is reported, ended and let go",
    removal,
)];

fn removal(plugin: &Plugin) -> Outcome {
    let survivor = plugin.device(NVME_4096)?;
    let mut other = Rig::new(&survivor, 4)?;
    // Not kept open by anybody else: the kernel waits until it is closed.
    let device = plugin.open(NVME_512).map_err(|e| e.to_string())?;
    let mut rig = Rig::new(&device, 8)?;
    let throttle = qemu::throttle(10)?;
    qemu::unplug("nvme-512")?;

    // Requests go on until the event comes; the button press takes its five seconds. A second thread submits without
    // a pause, as a target does, so that some of its requests come while the device is given back.
    let started = Instant::now();
    let over = AtomicBool::new(false);
    let (statuses, hammered) = std::thread::scope(|scope| {
        let hammer = scope.spawn(|| hammer(&device, &over));
        let statuses = until_removed(&device, &mut rig, started);
        // After a removal it ends by itself.
        over.store(statuses.is_err(), Ordering::Relaxed);
        let hammered = hammer.join();
        (
            statuses,
            hammered.unwrap_or_else(|_| Err("the second thread panicked".to_owned())),
        )
    });
    let (statuses, hammered) = (statuses?, hammered?);
    println!(
        "       removal reported after {} ms",
        started.elapsed().as_millis()
    );
    // Later versions of SPDK delete the queue first, which has the controller complete what it holds: that may end well.
    let last = statuses.last().map(Vec::as_slice).unwrap_or_default();
    ensure!(
        last.contains(&Status::DEVICE_GONE) || !is_on_spdk("20.07"),
        "requests outstanding at the removal ended with {last:?}"
    );
    let others: Vec<_> = (statuses.iter().flatten().chain(&hammered))
        .filter(|status| !status.is_ok() && **status != Status::DEVICE_GONE)
        .collect();
    ensure!(
        others.is_empty(),
        "for a device that is gone they were told {others:?}"
    );
    let refused = rig.submit(&[Op::new(BdevOp::READ, 0, 1)]);
    ensure!(
        refused == Err(Status::DEVICE_GONE),
        "submit after the removal said {refused:?}"
    );
    ensure!(
        rig.queue.reconnect() == Err(Status::DEVICE_GONE),
        "reconnect of a removed device"
    );
    other.must(&[Op::new(BdevOp::READ, 0, 1); 4])?;
    drop(throttle);
    // The kernel waits for this.
    drop(rig);
    drop(device);
    let function = Path::new("/sys/bus/pci/devices").join(NVME_512);
    while function.exists() {
        ensure!(
            started.elapsed() < 2 * PATIENCE,
            "the kernel still waits for the device to be let go"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    match plugin.open(NVME_512) {
        Err(error) => ensure!(error.to_string().contains(NVME_512), "message: {error}"),
        Ok(_) => return Err("a removed device was opened".to_owned()),
    }
    other.must(&[Op::new(BdevOp::READ, 0, 1); 4])
}

/// Rounds of requests until the removal is reported; how each request ended.
fn until_removed(
    device: &BdevDevice,
    rig: &mut Rig,
    started: Instant,
) -> Result<Vec<Vec<Status>>, String> {
    let mut statuses = Vec::new();
    let mut removed = false;
    while !removed {
        ensure!(started.elapsed() < PATIENCE, "no event after {PATIENCE:?}");
        statuses.push(one_round(rig, || {
            device.poll_admin()?;
            while let Some(event) = device.next_event() {
                removed |= event.kind == BdevEvent::REMOVED;
            }
            Ok(removed)
        })?);
    }
    Ok(statuses)
}

/// Reads one block after the other until one is refused, or `over` is set; what each was told.
fn hammer(device: &BdevDevice, over: &AtomicBool) -> Result<Vec<Status>, String> {
    let mut rig = Rig::new(device, 1)?;
    let mut told = Vec::new();
    let mut room = [Completion {
        tag: 0,
        status: Status::OK,
        reserved: 0,
    }];
    while !over.load(Ordering::Relaxed) {
        match rig.submit(&[Op::new(BdevOp::READ, 64, 1)]) {
            Ok(1) => {}
            Ok(_) => return Err("an empty queue takes nothing".to_owned()),
            Err(status) => {
                told.push(status);
                break;
            }
        }
        let started = Instant::now();
        loop {
            match rig.queue.poll(&mut room) {
                Ok(0) => ensure!(started.elapsed() < PATIENCE, "a request does not end"),
                Ok(_) => {
                    told.push(room[0].status);
                    break;
                }
                Err(status) => return Err(format!("poll: {status}")),
            }
        }
    }
    Ok(told)
}

/// Eight requests to their ends, looking after the device meanwhile.
fn one_round(
    rig: &mut Rig,
    mut admin: impl FnMut() -> Result<bool, Status>,
) -> Result<Vec<Status>, String> {
    rig.start(&[Op::new(BdevOp::READ, 0, 8); 8])?;
    let started = Instant::now();
    let mut all: Vec<Completion> = Vec::new();
    let mut room = [Completion {
        tag: 0,
        status: Status::OK,
        reserved: 0,
    }; 8];
    while all.len() < 8 {
        let got = rig
            .queue
            .poll(&mut room)
            .map_err(|status| format!("poll: {status}"))?;
        all.extend_from_slice(&room[..got]);
        admin().map_err(|status| format!("poll_admin: {status}"))?;
        ensure!(
            started.elapsed() < PATIENCE,
            "{} of 8 completions",
            all.len()
        );
    }
    by_slot(&all, 8)
}
