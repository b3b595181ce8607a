//! What a flush and FUA promise when the process dies: nothing is closed, no destructor runs. A device that keeps
//! data back until it is closed passes the cases of [`durable`](super::durable) and is found here.

use super::BdevBench;
use super::durable::lasting;
use super::rig::{Io, Rig};
use crate::abi::{BdevGeometry, BdevOp, PluginTable};
use crate::conformance::case::{Case, Verdict};
use crate::conformance::other::{
    self, Line, Other, come_to_rest, die, first_device, told, told_number,
};
use crate::conformance::pattern::Random;
use crate::conformance::target::Target;
use crate::host::{BdevDevice, CallOptions, Instance};

pub(super) const CASES: &[Case<BdevBench>] = &[
    Case {
        id: "durable.killed",
        name: "what was flushed survives the death of its process: nobody closed the device",
        body: flushed,
    },
    Case {
        id: "durable.killed_fua",
        name: "a write with FUA survives the death of its process: nobody flushed, nobody closed the device",
        body: fua,
    },
];

/// Writes, flushes, says so, dies.
pub(in crate::conformance) const WRITER: &str = "bdev.writer";
/// Opens what the writer left and compares.
pub(in crate::conformance) const READER: &str = "bdev.reader";

const FLUSH: &str = "flush";
const FUA: &str = "fua";
const ROUNDS: u64 = 2;
const WRITES: usize = 8;

fn flushed(bench: &BdevBench) -> Verdict {
    survives(bench, FLUSH)
}

fn fua(bench: &BdevBench) -> Verdict {
    survives(bench, FUA)
}

fn survives(bench: &BdevBench, how: &str) -> Verdict {
    // Skips what does not last; and the device is free for the others.
    drop(lasting(bench)?);
    for round in 0..ROUNDS {
        let seed = bench.random(100 + round).next().to_string();
        let mut writer = Other::start(&bench.base, WRITER, "the process that writes")?;
        writer.tell(how);
        writer.tell(&seed);
        writer.wait_for("durable")?;
        writer.dies()?;
        come_to_rest(&bench.base)?;
        let mut reader = Other::start(
            &bench.base,
            READER,
            "the process that opens the device next",
        )?;
        reader.tell(how);
        reader.tell(&seed);
        reader.wait_for("the same")?;
    }
    Ok(())
}

/// What is written where, as both processes make it from the seed: in the lower half of the device, one behind the
/// other, so that none replaces another.
fn plan(seed: u64, geometry: &BdevGeometry, most: u64) -> Vec<(u64, Vec<u8>)> {
    let mut random = Random::new(seed);
    let stride = (geometry.block_count / 2 / WRITES as u64).max(1);
    let count = (WRITES as u64).min(geometry.block_count / 2).max(1);
    (0..count)
        .map(|n| {
            let blocks = 1 + random.below(stride.min(most));
            let lba = n * stride + random.below(stride - blocks + 1);
            (
                lba,
                random.bytes(blocks as usize * geometry.block_size as usize),
            )
        })
        .collect()
}

fn open(table: &'static PluginTable, target: &Target) -> Verdict<(Instance, BdevDevice)> {
    let (instance, first) = first_device(table, target)?;
    let device = instance.open_bdev(&first, CallOptions::default())?;
    Ok((instance, device))
}

/// The role [`WRITER`].
pub(in crate::conformance) fn write_and_die(
    table: &'static PluginTable,
    target: &Target,
    line: &mut dyn Line,
) -> Verdict {
    let (how, seed) = (told(line)?, told_number(line)?);
    let (_instance, device) = open(table, target)?;
    let mut rig = Rig::new(&device, 8)?;
    let block = rig.block();
    let most = rig.largest(256 << 10);
    let geometry = *rig.geometry();
    for (lba, data) in plan(seed, &geometry, most) {
        if how == FUA {
            rig.put(0, &data);
            let blocks = (data.len() / block) as u64;
            rig.must(&Io::data(BdevOp::WRITE, lba, blocks, 0, block).fua())?;
        } else {
            rig.write(lba, &data)?;
        }
    }
    if how == FLUSH {
        rig.must(&Io::flush())?;
    }
    // A process is rarely killed at rest: these are under way, in the half that nobody looks at.
    if geometry.block_count >= 8 {
        let last = geometry.block_count - 1;
        let ios: Vec<Io> = (0..4)
            .map(|n| Io::data(BdevOp::WRITE, last - n, 1, n as usize * block, block))
            .collect();
        rig.offer(&ios)?;
    }
    line.tell("durable");
    die()
}

/// The role [`READER`].
pub(in crate::conformance) fn read_back(
    table: &'static PluginTable,
    target: &Target,
    line: &mut dyn Line,
) -> Verdict {
    other::read_back(line, |how, seed| compare(table, target, how, seed))
}

fn compare(table: &'static PluginTable, target: &Target, how: &str, seed: u64) -> Verdict {
    let (_instance, device) = open(table, target)?;
    let mut rig = Rig::new(&device, 8)?;
    let most = rig.largest(256 << 10);
    let geometry = *rig.geometry();
    let what = match how == FUA {
        true => "a write with FUA, after the death of its process,",
        false => "flushed data, after the death of its process,",
    };
    for (lba, data) in plan(seed, &geometry, most) {
        rig.expect(what, lba, &data)?;
    }
    Ok(())
}
