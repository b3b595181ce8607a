//! How long an engine takes to come up: by what its index holds, and by what is in its log.

use crate::engine::daos::{Engine, Put};
use crate::formatted::Formatted;
use crate::stats::{median, spread};
use crate::workload::{self, Keys, Limits};
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

/// Bytes of a value: small, so that entries and not bytes count.
const BYTES: usize = 64;
/// Entries in the index.
const ENTRIES: [u64; 5] = [0, 10_000, 100_000, 200_000, 400_000];
/// Puts right before the engine is killed; a commit of the index takes them out of the log one second
/// after the first.
const PUTS: [u64; 5] = [0, 1000, 4000, 8000, 16_000];

/// Measures and prints the tables.
pub(crate) fn run(disk: &Path, rounds: u32) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    println!("Start of an engine until it serves, {rounds} starts each\n");
    println!("| entries in the index, none in the log | ms | us per entry |");
    println!("|---|---|---|");
    let mut base = f64::NAN;
    for entries in ENTRIES {
        let storage = Formatted::new(disk, 1024, 64)?;
        let mut engine = Engine::start(&storage)?;
        put(&runtime, &engine, entries)?;
        let mut took = Vec::new();
        for _ in 0..rounds {
            drop(engine);
            engine = Engine::start(&storage)?;
            took.push(ms(&engine));
        }
        row(entries as f64, &took, &mut base);
    }
    println!();
    println!("| records replayed from the log after kill -9 | ms | us per record |");
    println!("|---|---|---|");
    base = f64::NAN;
    for puts in PUTS {
        let (mut took, mut replayed) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let storage = Formatted::new(disk, 1024, 64)?;
            // Its first start makes log and index; that is not what is measured.
            drop(Engine::start(&storage)?);
            let engine = Engine::start(&storage)?;
            put(&runtime, &engine, puts)?;
            engine.kill()?;
            let engine = Engine::start(&storage)?;
            took.push(ms(&engine));
            replayed.push(engine.replayed()? as f64);
        }
        row(median(&replayed), &took, &mut base);
    }
    Ok(())
}

fn ms(engine: &Engine) -> f64 {
    engine.took.as_secs_f64() * 1e3
}

/// A row; the first one is what the others are compared with.
fn row(count: f64, took: &[f64], base: &mut f64) {
    let slope = match base.is_nan() {
        true => {
            *base = median(took);
            "-".to_owned()
        }
        false => format!("{:.2}", (median(took) - *base) / count * 1e3),
    };
    println!("| {count} | {} | {slope} |", spread(took, 1));
}

fn put(runtime: &Runtime, engine: &Engine, entries: u64) -> anyhow::Result<()> {
    LocalSet::new().block_on(runtime, async {
        let container = engine.connect().await?;
        let workers = (0..32).map(|_| Put::new(&container, BYTES)).collect();
        let limits = Limits {
            time: Duration::from_secs(600),
            operations: u64::MAX,
            keys: Keys::Each(entries),
        };
        workload::run(workers, limits, &engine.cpu()).await?;
        Ok(())
    })
}
