//! An engine whose log is in persistent memory against one whose log is in plain memory: what durability costs a put.

use crate::engine::daos::{Engine, Put};
use crate::formatted::{Formatted, Persistent};
use crate::stats::{median, spread};
use crate::workload::{self, Keys, Limits, Turn};
use std::path::Path;
use std::time::Duration;
use tokio::task::LocalSet;

/// Bytes of values; both go to the log.
const SIZES: [usize; 2] = [64, 4096];
const KEYS: u64 = 4096;
/// MiB of memory and of the bdev file.
const ROOM: (u64, u64) = (512, 64);

/// Measures and prints the table. The memory of class `dcpm` is made in `directory`, bdev files on `disk`.
pub(crate) fn run(
    plugin: &Path,
    directory: &Path,
    disk: &Path,
    seconds: u32,
    rounds: u32,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let dcpm = Persistent { plugin, directory };
    let storages = [
        Formatted::new(disk, ROOM.0, ROOM.1)?,
        Formatted::persistent(disk, ROOM.0, ROOM.1, &dcpm)?,
    ];
    println!(
        "Puts with the log in ram and in dcpm, one client, {seconds} s per turn, {rounds} turns each\n"
    );
    println!(
        "| put | ram, op/s | dcpm, op/s | dcpm / ram | engine CPU us, ram | engine CPU us, dcpm |"
    );
    println!("|---|---|---|---|---|---|");
    LocalSet::new().block_on(&runtime, async {
        for bytes in SIZES {
            let mut turns: [Vec<Turn>; 2] = Default::default();
            for _ in 0..rounds {
                for (storage, turns) in storages.iter().zip(&mut turns) {
                    turns.push(turn(storage, bytes, seconds).await?);
                }
            }
            print(bytes, &turns);
        }
        Ok(())
    })
}

async fn turn(storage: &Formatted, bytes: usize, seconds: u32) -> anyhow::Result<Turn> {
    let engine = Engine::start(storage)?;
    let container = engine.connect().await?;
    let cpu = engine.cpu();
    let limits = |seconds: u32, keys| Limits {
        time: Duration::from_secs(seconds.into()),
        operations: u64::MAX,
        keys,
    };
    // Every key is there before.
    let all = limits(600, Keys::Each(KEYS));
    workload::run(vec![Put::new(&container, bytes)], all, &cpu).await?;
    let some = limits(seconds, Keys::Random(KEYS));
    let done = workload::run(vec![Put::new(&container, bytes)], some, &cpu).await?;
    Ok(done.0)
}

fn print(bytes: usize, [ram, dcpm]: &[Vec<Turn>; 2]) {
    let of =
        |turns: &[Turn], what: fn(&Turn) -> f64| -> Vec<f64> { turns.iter().map(what).collect() };
    let rate = |turns: &[Turn]| of(turns, |turn| turn.rate);
    let cpu = |turns: &[Turn]| median(&of(turns, |turn| turn.server_us));
    let ratios: Vec<f64> = rate(dcpm)
        .iter()
        .zip(rate(ram))
        .map(|(d, r)| d / r)
        .collect();
    println!(
        "| {bytes} B | {:.0} | {:.0} | {} | {:.1} | {:.1} |",
        median(&rate(ram)),
        median(&rate(dcpm)),
        spread(&ratios, 2),
        cpu(ram),
        cpu(dcpm),
    );
}
