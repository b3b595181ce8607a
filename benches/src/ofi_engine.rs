//! An engine over libfabric's providers against the same engine over fabric-tcp and against bare endpoints of the
//! provider; and what an engine without work costs, against the latency of the request that ends its rest.

use crate::engine::daos::{Engine, Get, Over, Put};
use crate::formatted::Formatted;
use crate::ofi;
use crate::stats::{median, spread};
use crate::workload::{self, Keys, Limits, Turn, Worker};
use daos_client::Container;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

/// What the others are compared with; built in.
const PLAIN: &str = "tcp";
const PROVIDERS: [&str; 3] = ["tcp;ofi_rxm", "sockets", "shm"];
/// Those whose bare endpoints are measured, too. Not `sockets`: its threads would wait for the cores on which both
/// sides poll.
const BARE: [&str; 2] = ["tcp;ofi_rxm", "shm"];

struct Size {
    name: &'static str,
    bytes: usize,
    keys: u64,
    /// Messages of a turn between bare endpoints.
    passes: u32,
}

const SIZES: [Size; 2] = [
    Size {
        name: "4 KiB",
        bytes: 4096,
        keys: 4096,
        passes: 3000,
    },
    Size {
        name: "1 MiB",
        bytes: 1 << 20,
        keys: 64,
        passes: 100,
    },
];
/// Bytes of what goes the other way: a reply to a put, a request of a get.
const SMALL: usize = 64;

/// Idle time before each of the requests that end it: long enough for every pause to have grown to its longest.
const REST: Duration = Duration::from_millis(100);
const RESTS: u32 = 30;
/// For how long a resting engine's CPU time is taken.
const IDLE: Duration = Duration::from_secs(3);
/// Longest pauses of a provider without a wait descriptor, in microseconds; 0 = the plugin's default.
const PAUSES: [u32; 6] = [0, 100, 500, 2000, 8000, 32_000];

/// Measures and prints both tables. Files are made under `disk`.
pub(crate) fn run(plugin: &Path, disk: &Path, seconds: u32, rounds: u32) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let storage = Formatted::new(disk, 512, 512)?;
    let bench = Bench {
        plugin,
        storage: &storage,
        seconds: Duration::from_secs(seconds.into()),
    };
    LocalSet::new().block_on(&runtime, async {
        bench.work(rounds).await?;
        bench.rest(rounds).await
    })
}

struct Bench<'a> {
    plugin: &'a Path,
    storage: &'a Formatted,
    seconds: Duration,
}

/// Turns of one operation over one provider.
#[derive(Default)]
struct Row {
    turns: Vec<Turn>,
    /// Exchanges per second between bare endpoints.
    bare: Vec<f64>,
}

impl Row {
    fn rates(&self) -> Vec<f64> {
        self.turns.iter().map(|turn| turn.rate).collect()
    }
}

impl Bench<'_> {
    fn engine(&self, provider: &str, settings: &str) -> anyhow::Result<Engine> {
        if provider == PLAIN {
            return Engine::start(self.storage);
        }
        let over = Over {
            provider: &format!("ofi+{provider}"),
            plugin: self.plugin,
            settings,
        };
        Engine::start_over(self.storage, &over)
    }

    async fn work(&self, rounds: u32) -> anyhow::Result<()> {
        println!(
            "Engine over providers of libfabric, one client, {:?} per turn, {rounds} turns each\n",
            self.seconds
        );
        println!(
            "| operation, provider | op/s | against fabric-tcp | bare endpoints, exchanges/s | ratio | engine CPU us | client CPU us |"
        );
        println!("|---|---|---|---|---|---|---|");
        for size in &SIZES {
            let all: Vec<&str> = [PLAIN].into_iter().chain(PROVIDERS).collect();
            let mut puts: Vec<Row> = all.iter().map(|_| Row::default()).collect();
            let mut gets: Vec<Row> = all.iter().map(|_| Row::default()).collect();
            for _ in 0..rounds {
                for (at, provider) in all.iter().enumerate() {
                    self.turn(provider, size, &mut puts[at], &mut gets[at])
                        .await?;
                }
            }
            for (operation, rows) in [("put", &puts), ("get", &gets)] {
                for (provider, row) in all.iter().zip(rows) {
                    print(
                        &format!("{operation} {}, {provider}", size.name),
                        row,
                        &rows[0],
                    );
                }
            }
        }
        Ok(())
    }

    /// A put and a get turn, and one of bare endpoints.
    async fn turn(
        &self,
        provider: &str,
        size: &Size,
        put: &mut Row,
        get: &mut Row,
    ) -> anyhow::Result<()> {
        let engine = self.engine(provider, "{}")?;
        let container = engine.connect().await?;
        let cpu = engine.cpu();
        let limits = |time, keys| Limits {
            time,
            operations: u64::MAX,
            keys,
        };
        let all = limits(Duration::from_secs(600), Keys::Each(size.keys));
        workload::run(vec![Put::new(&container, size.bytes)], all, &cpu).await?;
        let some = limits(self.seconds, Keys::Random(size.keys));
        let done = workload::run(vec![Put::new(&container, size.bytes)], some, &cpu).await?;
        put.turns.push(done.0);
        let done = workload::run(vec![Get::new(&container, size.bytes)], some, &cpu).await?;
        get.turns.push(done.0);
        drop((container, engine));
        if BARE.contains(&provider) {
            let there = ofi::our_turn(self.plugin, provider, size.bytes, size.passes)?;
            let back = ofi::our_turn(self.plugin, provider, SMALL, size.passes)?;
            let rate = 1e6 / (there + back);
            put.bare.push(rate);
            get.bare.push(rate);
        }
        Ok(())
    }

    async fn rest(&self, rounds: u32) -> anyhow::Result<()> {
        println!(
            "\nAn engine without work: its share of a core, and a get of {SMALL} bytes after {REST:?} against one that follows another\n"
        );
        println!(
            "| provider, longest pause us | core, % | busy, us | after rest, us | added, us |"
        );
        println!("|---|---|---|---|---|");
        let mut cases: Vec<(&str, u32)> = vec![(PLAIN, 0)];
        for provider in PROVIDERS {
            let has_descriptor = provider != "shm";
            let pauses = if has_descriptor {
                &PAUSES[..1]
            } else {
                &PAUSES
            };
            cases.extend(pauses.iter().map(|pause| (provider, *pause)));
        }
        let mut rows: Vec<Rest> = cases.iter().map(|_| Rest::default()).collect();
        for _ in 0..rounds {
            for ((provider, pause), row) in cases.iter().zip(&mut rows) {
                let settings = match pause {
                    0 => "{}".to_owned(),
                    us => format!(r#"{{"fabric-ofi": {{"idle_poll_us": {us}}}}}"#),
                };
                row.take(&self.engine(provider, &settings)?).await?;
            }
        }
        for ((provider, pause), row) in cases.iter().zip(&rows) {
            let pause = match (*pause, *provider) {
                (0, "shm") => "default".to_owned(),
                (0, _) => "-".to_owned(),
                (us, _) => us.to_string(),
            };
            let added: Vec<f64> = row
                .rested
                .iter()
                .zip(&row.busy)
                .map(|(a, b)| a - b)
                .collect();
            println!(
                "| {provider}, {pause} | {} | {:.1} | {:.1} | {} |",
                spread(&row.core, 2),
                median(&row.busy),
                median(&row.rested),
                spread(&added, 0)
            );
        }
        Ok(())
    }
}

/// What rounds of an engine without work showed; times in microseconds.
#[derive(Default)]
struct Rest {
    core: Vec<f64>,
    busy: Vec<f64>,
    rested: Vec<f64>,
}

impl Rest {
    async fn take(&mut self, engine: &Engine) -> anyhow::Result<()> {
        let container: Container = engine.connect().await?;
        Put::new(&container, SMALL).step(0).await?;
        let mut get = Get::new(&container, SMALL);
        let mut times = Vec::new();
        for _ in 0..1000 {
            let start = Instant::now();
            get.step(0).await?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        self.busy.push(median(&times));
        times.clear();
        for _ in 0..RESTS {
            tokio::time::sleep(REST).await;
            let start = Instant::now();
            get.step(0).await?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        self.rested.push(median(&times));
        let (cpu, start) = (engine.cpu(), Instant::now());
        let before = cpu.used()?;
        tokio::time::sleep(IDLE).await;
        let used = cpu.used()?.saturating_sub(before);
        self.core
            .push(100.0 * used.as_secs_f64() / start.elapsed().as_secs_f64());
        Ok(())
    }
}

fn print(name: &str, row: &Row, plain: &Row) {
    let ratios = |others: &[f64]| -> Vec<f64> {
        row.rates().iter().zip(others).map(|(a, b)| a / b).collect()
    };
    let bare = match row.bare.is_empty() {
        true => "- | -".to_owned(),
        false => format!(
            "{:.0} | {}",
            median(&row.bare),
            spread(&ratios(&row.bare), 2)
        ),
    };
    let of = |what: fn(&Turn) -> f64| median(&row.turns.iter().map(what).collect::<Vec<_>>());
    println!(
        "| {name} | {:.0} | {} | {bare} | {:.1} | {:.1} |",
        median(&row.rates()),
        spread(&ratios(&plain.rates()), 2),
        of(|turn| turn.server_us),
        of(|turn| turn.client_us),
    );
}
