//! An engine against the raw queue of its block device, at the same size and depth.
//!
//! Values of up to 4 KiB are kept in log and index and never reach the device; the next size above
//! does. Both are measured: the first says whether an engine keeps up with a device although each
//! operation is also a request and a reply on the network, the second adds the device itself. Large
//! values are bound by the device: the raw rows say by how much.

use crate::engine::daos::{Engine, Get, Put};
use crate::formatted::Formatted;
use crate::runner::{self, Job};
use crate::stats::{median, spread};
use crate::workload::{self, Keys, Limits};
use daos_plugin_api::abi::BdevOp;
use daos_plugin_api::host::SyncBdev;
use std::path::Path;
use std::time::Duration;
use tokio::task::LocalSet;

const MIB: u64 = 1024;

struct Case {
    name: &'static str,
    bytes: usize,
    depth: usize,
    keys: u64,
}

const CASES: [Case; 4] = [
    Case {
        name: "4 KiB, 32 at a time",
        bytes: 4096,
        depth: 32,
        keys: 10_000,
    },
    Case {
        name: "8 KiB, 32 at a time",
        bytes: 8192,
        depth: 32,
        keys: 10_000,
    },
    Case {
        name: "1 MiB, 16 at a time",
        bytes: 1 << 20,
        depth: 16,
        keys: 128,
    },
    Case {
        name: "1 MiB, one at a time",
        bytes: 1 << 20,
        depth: 1,
        keys: 128,
    },
];

/// Measures and prints the table. Files are made under `disk`.
pub(crate) fn run(disk: &Path, seconds: u32, rounds: u32) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let storage = Formatted::new(disk, 2 * MIB, MIB)?;
    // A file like it for the raw queue, whose writes must not hit the engine's label and values.
    let raw = Formatted::new(disk, 16, MIB)?;
    let device = raw.open_bdev()?;
    let mut io = SyncBdev::new(&device, Duration::from_secs(60))?;
    let chunk = workload::value(1 << 20);
    for n in 0..MIB {
        io.write(n << 20, &chunk)?;
    }
    drop(io);
    println!(
        "Engine against the raw queue of bdev-file, {seconds} s per turn, {rounds} turns each\n"
    );
    println!("| operation | engine op/s | raw IOPS | ratio | engine CPU us | raw CPU us |");
    println!("|---|---|---|---|---|---|");
    for case in &CASES {
        let Case {
            name,
            bytes,
            depth,
            keys,
        } = *case;
        let engine = Engine::start(&storage)?;
        let (mut ours, mut theirs): ([Vec<_>; 2], [Vec<_>; 2]) = Default::default();
        let limits = |time, keys| Limits {
            time,
            operations: u64::MAX,
            keys,
        };
        LocalSet::new().block_on(&runtime, async {
            let container = engine.connect().await?;
            let cpu = engine.cpu();
            let puts = || (0..depth).map(|_| Put::new(&container, bytes)).collect();
            let all = limits(Duration::from_secs(600), Keys::Each(keys));
            workload::run(puts(), all, &cpu).await?;
            let turn = limits(Duration::from_secs(seconds.into()), Keys::Random(keys));
            for _ in 0..rounds {
                ours[0].push(workload::run(puts(), turn, &cpu).await?.0);
                theirs[0].push(queue(&device, BdevOp::WRITE, case, seconds)?);
                let gets = (0..depth).map(|_| Get::new(&container, bytes)).collect();
                ours[1].push(workload::run::<Get>(gets, turn, &cpu).await?.0);
                theirs[1].push(queue(&device, BdevOp::READ, case, seconds)?);
            }
            anyhow::Ok(())
        })?;
        for (operation, ours, theirs) in
            [("put", &ours[0], &theirs[0]), ("get", &ours[1], &theirs[1])]
        {
            let rates: Vec<f64> = ours.iter().map(|t| t.rate).collect();
            let iops: Vec<f64> = theirs.iter().map(|o| o.iops).collect();
            let ratios: Vec<f64> = rates.iter().zip(&iops).map(|(a, b)| a / b).collect();
            println!(
                "| {operation} {name} | {:.0} | {:.0} | {} | {:.1} | {:.1} |",
                median(&rates),
                median(&iops),
                spread(&ratios, 2),
                median(&ours.iter().map(|t| t.server_us).collect::<Vec<_>>()),
                median(&theirs.iter().map(|o| o.cpu_us).collect::<Vec<_>>()),
            );
        }
    }
    Ok(())
}

fn queue(
    device: &daos_plugin_api::host::BdevDevice,
    op: BdevOp,
    case: &Case,
    seconds: u32,
) -> anyhow::Result<runner::Outcome> {
    let job = Job {
        op,
        bytes: case.bytes as u32,
        depth: case.depth as u32,
        sequential: false,
        span: device.size(),
    };
    runner::run(device, job, Duration::from_secs(seconds.into()))
}
