//! An engine whose log is in persistent memory against one whose log is in plain memory: what durability costs a put.
//!
//! A round has two turns of each side, one side within the other: ram, dcpm, dcpm, ram, and in the next round the other
//! way round. What a machine gains or loses steadily over a round falls on both alike, and how far the two turns of
//! one side are apart tells what a ratio is worth.

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
/// Sides by their place in `Round`.
const RAM: usize = 0;
const DCPM: usize = 1;

/// Two turns of each side.
type Round = [Vec<Turn>; 2];

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
        "Puts with the log in ram and in dcpm, one client, {seconds} s per turn, {rounds} rounds of two turns each\n"
    );
    println!(
        "| put | ram, op/s | dcpm, op/s | dcpm / ram | second ram / first | engine CPU us, ram | engine CPU us, dcpm |"
    );
    println!("|---|---|---|---|---|---|---|");
    LocalSet::new().block_on(&runtime, async {
        for bytes in SIZES {
            let mut all = Vec::new();
            for round in 0..rounds {
                let mut turns = Round::default();
                for side in order(round) {
                    turns[side].push(turn(&storages[side], bytes, seconds).await?);
                }
                all.push(turns);
            }
            print(bytes, &all);
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

/// The sides of a round, in turn.
fn order(round: u32) -> [usize; 4] {
    match round % 2 {
        0 => [RAM, DCPM, DCPM, RAM],
        _ => [DCPM, RAM, RAM, DCPM],
    }
}

fn print(bytes: usize, rounds: &[Round]) {
    let of = |side: usize, what: fn(&Turn) -> f64| -> f64 {
        let turns = rounds.iter().flat_map(|round| &round[side]);
        median(&turns.map(what).collect::<Vec<_>>())
    };
    let rate = |round: &Round, side: usize| round[side].iter().map(|turn| turn.rate).sum::<f64>();
    let ratios: Vec<f64> = rounds
        .iter()
        .map(|round| rate(round, DCPM) / rate(round, RAM))
        .collect();
    let same: Vec<f64> = rounds
        .iter()
        .map(|round| round[RAM][1].rate / round[RAM][0].rate)
        .collect();
    println!(
        "| {bytes} B | {:.0} | {:.0} | {} | {} | {:.1} | {:.1} |",
        of(RAM, |turn| turn.rate),
        of(DCPM, |turn| turn.rate),
        spread(&ratios, 3),
        spread(&same, 3),
        of(RAM, |turn| turn.server_us),
        of(DCPM, |turn| turn.server_us),
    );
}

#[cfg(test)]
mod tests {
    use super::{DCPM, RAM, order};

    #[test]
    fn what_drifts_steadily_falls_on_both_sides_alike() {
        for round in 0..2 {
            let turns = order(round);
            let places = |side| turns.iter().enumerate().filter(move |(_, s)| **s == side);
            let sum = |side| places(side).map(|(place, _)| place).sum::<usize>();
            assert_eq!((sum(RAM), sum(DCPM)), (3, 3), "{turns:?}");
        }
        assert_ne!(order(0)[0], order(1)[0]);
    }
}
