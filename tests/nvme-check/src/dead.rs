//! A controller that stops answering: its registers read as ones and it moves no data.

use crate::load::{NVME_512, NVME_4096, Plugin};
use crate::rig::{Op, Rig, by_slot};
use crate::{Case, Outcome, ensure};
use daos_plugin_api::abi::{BdevEvent, BdevOp, Status};
use daos_plugin_api::host::CallOptions;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::time::Instant;

pub(crate) const CASES: &[Case] = &[
    (
        "requests of a dead controller end once its reset has failed",
        dead,
    ),
    ("a queue of a dead controller can be closed", close),
];

/// Register of PCI configuration space that turns memory decoding and bus mastering on and off.
const COMMAND: u64 = 4;

/// Keeps a controller dead, then brings it back.
struct Dead {
    config: std::fs::File,
    before: [u8; 2],
}

fn kill(address: &str) -> Result<Dead, String> {
    let path = format!("/sys/bus/pci/devices/{address}/config");
    let config = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|e| format!("{path}: {e}"))?;
    let mut before = [0; 2];
    config
        .read_exact_at(&mut before, COMMAND)
        .map_err(|e| format!("{path}: {e}"))?;
    config
        .write_all_at(&[0, 0], COMMAND)
        .map_err(|e| format!("{path}: {e}"))?;
    Ok(Dead { config, before })
}

impl Drop for Dead {
    fn drop(&mut self) {
        if let Err(error) = self.config.write_all_at(&self.before, COMMAND) {
            println!("       cannot bring the controller back: {error}");
        }
    }
}

fn dead(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_512)?;
    let mut rig = Rig::new(&device, 8)?;
    rig.must(&[Op::new(BdevOp::READ, 0, 8); 8])?;
    let corpse = kill(NVME_512)?;
    rig.start(&[Op::new(BdevOp::READ, 0, 8); 8])?;
    let mut room = [daos_plugin_api::abi::Completion {
        tag: 0,
        status: Status::OK,
        reserved: 0,
    }; 8];
    let got = rig
        .queue
        .poll(&mut room)
        .map_err(|status| format!("poll: {status}"))?;
    ensure!(got == 0, "a dead controller completed {got} requests");
    let started = Instant::now();
    match device.reset(CallOptions::default()) {
        Err(error) => ensure!(error.to_string().contains(NVME_512), "message: {error}"),
        Ok(()) => return Err("a dead controller was reset".to_owned()),
    }
    println!(
        "       the reset failed after {} ms",
        started.elapsed().as_millis()
    );
    let completions = rig.collect(8)?;
    let statuses = by_slot(&completions, 8)?;
    ensure!(
        statuses.iter().all(|status| *status == Status::RESET),
        "statuses {statuses:?}"
    );
    let refused = rig.submit(&[Op::new(BdevOp::READ, 0, 1)]);
    ensure!(refused == Err(Status::RESET), "submit said {refused:?}");
    let kinds: Vec<u32> = std::iter::from_fn(|| device.next_event())
        .map(|event| event.kind)
        .collect();
    ensure!(
        kinds == [BdevEvent::RESET_BEGIN, BdevEvent::RESET_END],
        "events {kinds:?}"
    );

    // Back among the living: the next reset makes it usable again.
    drop(corpse);
    device
        .reset(CallOptions::default())
        .map_err(|e| format!("after its recovery: {e}"))?;
    rig.queue
        .reconnect()
        .map_err(|status| format!("reconnect: {status}"))?;
    rig.must(&[Op::new(BdevOp::READ, 0, 8); 8])
}

fn close(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_4096)?;
    let mut rig = Rig::new(&device, 8)?;
    let _corpse = kill(NVME_4096)?;
    rig.start(&[Op::new(BdevOp::READ, 0, 1); 8])?;
    let started = Instant::now();
    drop(rig);
    let took = started.elapsed();
    println!("       closed after {} ms", took.as_millis());
    ensure!(took.as_secs() < 20, "closing took {took:?}");
    // It did not confirm the deletion, and may still reach the queue's memory: it is cut off until a reset.
    match Rig::new(&device, 8) {
        Ok(_) => Err("a dead controller has a queue".to_owned()),
        Err(reason) => {
            ensure!(reason.contains("the controller failed"), "{reason}");
            Ok(())
        }
    }
}
