//! What a flush and FUA promise. Nothing here takes the power away: a device is closed and opened again, so that what
//! survives is what its driver has given to the device by then; [`killed`](super::killed) does without the closing. What
//! the device itself does with that is for tests that can cut its power.

use super::BdevBench;
use super::io::writable;
use super::rig::{Io, Rig};
use crate::abi::{BdevGeometry, BdevOp};
use crate::conformance::case::{Case, Verdict, skipped};

pub(super) const CASES: &[Case<BdevBench>] = &[
    Case {
        id: "durable.flush",
        name: "a flush makes completed writes durable: they survive closing the device",
        body: flush,
    },
    Case {
        id: "durable.fua",
        name: "a write with FUA is durable: it survives closing the device without a flush",
        body: fua,
    },
    Case {
        id: "durable.queues",
        name: "a flush makes durable what had completed on any queue of the device",
        body: queues,
    },
    Case {
        id: "durable.order",
        name: "of several writes to a block the one that completed last is what a flush makes durable",
        body: order,
    },
    Case {
        id: "durable.fua_order",
        name: "a write with FUA is not replaced by an older write that is flushed after it",
        body: fua_order,
    },
    Case {
        id: "durable.zeroes",
        name: "a flush makes write-zeroes durable as it does writes",
        body: zeroes,
    },
];

/// A rig on a device whose data outlives its opener.
pub(super) fn lasting(bench: &BdevBench) -> Verdict<Rig> {
    let rig = writable(bench, 4)?;
    if rig.geometry().flags & BdevGeometry::EPHEMERAL != 0 {
        return skipped("the device is EPHEMERAL: its contents go with the process that opened it");
    }
    Ok(rig)
}

fn flush(bench: &BdevBench) -> Verdict {
    let mut random = bench.random(21);
    for _ in 0..4 {
        let mut rig = lasting(bench)?;
        let blocks = rig.largest(1 << 20);
        let lba = random.below(rig.geometry().block_count - blocks + 1);
        let data = random.bytes(blocks as usize * rig.block());
        rig.write(lba, &data)?;
        rig.must(&Io::flush())?;
        drop(rig);
        bench
            .rig(1)?
            .expect("flushed data after reopening", lba, &data)?;
    }
    Ok(())
}

fn fua(bench: &BdevBench) -> Verdict {
    let mut random = bench.random(22);
    for _ in 0..4 {
        let mut rig = lasting(bench)?;
        let lba = random.below(rig.geometry().block_count);
        let data = random.bytes(rig.block());
        rig.put(0, &data);
        let io = Io::data(BdevOp::WRITE, lba, 1, 0, rig.block()).fua();
        rig.must(&io)?;
        drop(rig);
        bench
            .rig(1)?
            .expect("FUA data after reopening", lba, &data)?;
    }
    Ok(())
}

fn queues(bench: &BdevBench) -> Verdict {
    let mut random = bench.random(26);
    if lasting(bench)?.geometry().max_queues < 2 {
        return skipped("the device has one queue");
    }
    // The queue that flushes is the younger one, then the older one.
    for (writes, flushes) in [(0, 1), (1, 0)] {
        let device = bench.open()?;
        let mut rigs = [Rig::new(&device, 4)?, Rig::new(&device, 4)?];
        drop(device);
        let data = random.bytes(rigs[writes].block());
        rigs[writes].write(0, &data)?;
        rigs[flushes].must(&Io::flush())?;
        drop(rigs);
        bench
            .rig(1)?
            .expect("data that another queue flushed", 0, &data)?;
    }
    Ok(())
}

fn order(bench: &BdevBench) -> Verdict {
    let mut rig = lasting(bench)?;
    let mut random = bench.random(27);
    let block = rig.block();
    let mut last = Vec::new();
    for _ in 0..3 {
        last = random.bytes(2 * block);
        rig.write(0, &last)?;
        // Half of it once more, so that the writes are not all of the same blocks.
        let half = random.bytes(block);
        rig.write(1, &half)?;
        last[block..].copy_from_slice(&half);
    }
    rig.must(&Io::flush())?;
    drop(rig);
    bench
        .rig(1)?
        .expect("the last writes after reopening", 0, &last)
}

fn fua_order(bench: &BdevBench) -> Verdict {
    let mut rig = lasting(bench)?;
    let mut random = bench.random(28);
    let block = rig.block();
    let old = random.bytes(3 * block);
    rig.write(0, &old)?;
    let new = random.bytes(block);
    rig.put(0, &new);
    rig.must(&Io::data(BdevOp::WRITE, 1, 1, 0, block).fua())?;
    rig.expect("the newer write", 1, &new)?;
    rig.must(&Io::flush())?;
    drop(rig);
    let mut rig = bench.rig(1)?;
    rig.expect("FUA data after reopening", 1, &new)?;
    rig.expect("the block before", 0, &old[..block])?;
    rig.expect("the block behind", 2, &old[2 * block..])
}

fn zeroes(bench: &BdevBench) -> Verdict {
    let mut rig = lasting(bench)?;
    if !rig.geometry().supports(BdevOp::WRITE_ZEROES) {
        return skipped("the device has no write-zeroes");
    }
    let block = rig.block();
    let data = bench.random(29).bytes(3 * block);
    rig.write(0, &data)?;
    rig.must(&Io::flush())?;
    rig.must(&Io::plain(BdevOp::WRITE_ZEROES, 1, 1))?;
    rig.must(&Io::flush())?;
    drop(rig);
    let mut rig = bench.rig(1)?;
    rig.expect("zeroes after reopening", 1, &vec![0; block])?;
    rig.expect("the block before", 0, &data[..block])?;
    rig.expect("the block behind", 2, &data[2 * block..])
}
