//! An engine against the raw queue of its block device, at the same size and depth.
//!
//! Values of up to 4 KiB are kept in log and index and never reach the device; the next size above
//! does. Both are measured: the first says whether an engine keeps up with a device although each
//! operation is also a request and a reply on the network, the second adds the device itself. Large
//! values are bound by the device: the raw rows say by how much. The engine answers a put when it is
//! durable; the raw queue is measured with such writes, too.

use crate::engine::daos::{Engine, Get, Put};
use crate::formatted::Formatted;
use crate::runner::{self, Job, Outcome};
use crate::stats::{median, spread};
use crate::workload::{self, Keys, Limits, Turn};
use daos_plugin_api::abi::BdevOp;
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
    println!(
        "Engine against the raw queue of bdev-file, {seconds} s per turn, {rounds} turns each\n"
    );
    println!(
        "| operation | engine op/s | raw IOPS | ratio | raw durable IOPS | ratio | engine CPU us | raw CPU us |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let seconds = Duration::from_secs(seconds.into());
    for case in &CASES {
        let Case {
            name,
            bytes,
            depth,
            keys,
        } = *case;
        let engine = Engine::start(&storage)?;
        let [mut puts, mut gets] = [Row::default(), Row::default()];
        let limits = |time, keys| Limits {
            time,
            operations: u64::MAX,
            keys,
        };
        LocalSet::new().block_on(&runtime, async {
            let container = engine.connect().await?;
            let cpu = engine.cpu();
            let workers = || (0..depth).map(|_| Put::new(&container, bytes)).collect();
            let all = limits(Duration::from_secs(600), Keys::Each(keys));
            workload::run(workers(), all, &cpu).await?;
            let turn = limits(seconds, Keys::Random(keys));
            for _ in 0..rounds {
                puts.engine
                    .push(workload::run(workers(), turn, &cpu).await?.0);
                puts.raw
                    .push(queue(&device, BdevOp::WRITE, false, case, seconds)?);
                puts.durable
                    .push(queue(&device, BdevOp::WRITE, true, case, seconds)?);
                let workers = (0..depth).map(|_| Get::new(&container, bytes)).collect();
                gets.engine
                    .push(workload::run::<Get>(workers, turn, &cpu).await?.0);
                gets.raw
                    .push(queue(&device, BdevOp::READ, false, case, seconds)?);
            }
            anyhow::Ok(())
        })?;
        puts.print(&format!("put {name}"));
        gets.print(&format!("get {name}"));
    }
    Ok(())
}

/// Turns of one operation.
#[derive(Default)]
struct Row {
    engine: Vec<Turn>,
    raw: Vec<Outcome>,
    durable: Vec<Outcome>,
}

impl Row {
    fn print(&self, name: &str) {
        let rates: Vec<f64> = self.engine.iter().map(|t| t.rate).collect();
        let against = |outcomes: &[Outcome]| {
            let iops: Vec<f64> = outcomes.iter().map(|o| o.iops).collect();
            let ratios: Vec<f64> = rates.iter().zip(&iops).map(|(a, b)| a / b).collect();
            match iops.is_empty() {
                true => "- | -".to_owned(),
                false => format!("{:.0} | {}", median(&iops), spread(&ratios, 2)),
            }
        };
        println!(
            "| {name} | {:.0} | {} | {} | {:.1} | {:.1} |",
            median(&rates),
            against(&self.raw),
            against(&self.durable),
            median(&self.engine.iter().map(|t| t.server_us).collect::<Vec<_>>()),
            median(&self.raw.iter().map(|o| o.cpu_us).collect::<Vec<_>>()),
        );
    }
}

fn queue(
    device: &daos_plugin_api::host::BdevDevice,
    op: BdevOp,
    durable: bool,
    case: &Case,
    time: Duration,
) -> anyhow::Result<Outcome> {
    let job = Job {
        op,
        bytes: case.bytes as u32,
        depth: case.depth as u32,
        sequential: false,
        durable,
        span: device.size(),
    };
    runner::run(device, job, time)
}
