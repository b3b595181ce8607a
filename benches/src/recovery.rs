//! How long an engine takes to come up after it was killed, by what its log and its index hold.

use crate::engine::daos::{Engine, Put};
use crate::formatted::Formatted;
use crate::stats::{median, spread};
use crate::workload::{self, Keys, Limits};
use std::path::Path;
use std::time::Duration;
use tokio::task::LocalSet;

/// Bytes of a value: small, so that entries and not bytes count.
const BYTES: usize = 64;
/// Puts that come last, some of which are still in the log when the engine is killed.
const LAST: u64 = 1000;

/// Measures and prints the table.
pub(crate) fn run(disk: &Path, rounds: u32) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    println!("Start of an engine until it serves, milliseconds, {rounds} starts each\n");
    println!("| entries | after a clean stop | after kill -9 | per 1000 entries |");
    println!("|---|---|---|---|");
    let mut base = None;
    for entries in [0, 10_000, 50_000, 100_000, 200_000, 400_000] {
        let storage = Formatted::new(disk, 1024, 64)?;
        let (mut clean, mut killed) = (Vec::new(), Vec::new());
        let mut engine = Engine::start(&storage)?;
        LocalSet::new().block_on(&runtime, async { put(&engine, entries).await })?;
        for _ in 0..rounds {
            drop(engine);
            engine = Engine::start(&storage)?;
            clean.push(engine.took.as_secs_f64() * 1e3);
            let last = entries.min(LAST);
            LocalSet::new().block_on(&runtime, async { put(&engine, last).await })?;
            engine.kill()?;
            engine = Engine::start(&storage)?;
            killed.push(engine.took.as_secs_f64() * 1e3);
        }
        let first = *base.get_or_insert(median(&killed));
        let slope = match entries {
            0 => "-".to_owned(),
            _ => format!("{:.2}", (median(&killed) - first) / entries as f64 * 1e3),
        };
        println!(
            "| {entries} | {} | {} | {slope} |",
            spread(&clean, 1),
            spread(&killed, 1)
        );
    }
    Ok(())
}

async fn put(engine: &Engine, entries: u64) -> anyhow::Result<()> {
    let container = engine.connect().await?;
    let workers = (0..32).map(|_| Put::new(&container, BYTES)).collect();
    let limits = Limits {
        time: Duration::from_secs(600),
        operations: u64::MAX,
        keys: Keys::Each(entries),
    };
    workload::run(workers, limits, &engine.cpu()).await?;
    Ok(())
}
