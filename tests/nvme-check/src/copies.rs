//! That data goes between the caller's memory and the device without a copy in between.

use crate::load::{NVME_512, Plugin};
use crate::rig::{Op, PATIENCE, Rig, SLOT, fill, holds};
use crate::{Outcome, ensure, qemu};
use daos_plugin_api::abi::{BdevOp, Completion, Status};
use std::time::Instant;

/// Blocks of a slot.
const BLOCKS: u64 = (SLOT / 512) as u64;

/// The device hears of a write in a queue of more than one request at the first `poll` after it. What is in the memory until
/// then is what it stores: a copy made by `submit` would be stored as it was before.
pub(crate) fn write(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_512)?;
    let mut rig = Rig::new(&device, 2)?;
    fill(rig.slot(0), 21);
    let taken = rig.submit(&[Op::new(BdevOp::WRITE, 4096, BLOCKS)]);
    ensure!(taken == Ok(1), "submit: {taken:?}");
    fill(rig.slot(0), 22);
    let statuses = rig.collect(1)?;
    ensure!(
        statuses[0].status.is_ok(),
        "it ended with {}",
        statuses[0].status
    );
    rig.slot(0).fill(0);
    rig.must(&[Op::new(BdevOp::READ, 4096, BLOCKS)])?;
    ensure!(
        holds(rig.slot(0), 22),
        "the device has not what the memory held when it was told"
    );
    Ok(())
}

/// What a device reads is in the memory before anybody asks for the completion: a copy would be made by `poll`.
pub(crate) fn read(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_512)?;
    let mut rig = Rig::new(&device, 2)?;
    fill(rig.slot(0), 23);
    rig.must(&[Op::new(BdevOp::WRITE, 8192, BLOCKS)])?;
    rig.slot(1).fill(0);
    // The second of two requests takes longer than it takes to tell the device.
    let throttle = qemu::throttle(2)?;
    let taken = rig.submit(&[
        Op::new(BdevOp::READ, 0, 1),
        Op::new(BdevOp::READ, 8192, BLOCKS),
    ]);
    ensure!(taken == Ok(2), "submit: {taken:?}");
    // Tells the device. The first may be over by then, the second is not.
    let mut room = [Completion {
        tag: 0,
        status: Status::OK,
        reserved: 0,
    }; 2];
    let early = rig
        .queue
        .poll(&mut room)
        .map_err(|s| format!("poll: {s}"))?;
    ensure!(
        early < 2 && rig.peek(1, SLOT - 1) == 0,
        "the requests were over at once"
    );
    let started = Instant::now();
    while rig.peek(1, SLOT - 1) == 0 {
        ensure!(
            started.elapsed() < PATIENCE,
            "nothing comes into the memory by itself"
        );
        std::thread::yield_now();
    }
    drop(throttle);
    let completions = rig.collect(2)?;
    ensure!(
        completions.iter().all(|c| c.status.is_ok()),
        "a read failed"
    );
    ensure!(holds(rig.slot(1), 23), "data differ");
    Ok(())
}
