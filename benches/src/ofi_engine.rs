//! An engine over libfabric's providers against the same engine over fabric-tcp and against bare endpoints of the
//! provider.

use crate::engine::daos::{Engine, Get, Over, Put};
use crate::formatted::Formatted;
use crate::stats::{median, spread};
use crate::workload::{self, Keys, Limits, Turn};
use crate::{ofi, ofi_rest};
use std::path::Path;
use std::time::Duration;
use tokio::task::LocalSet;

/// What the others are compared with; built in.
pub(crate) const PLAIN: &str = "tcp";
pub(crate) const PROVIDERS: [&str; 3] = ["tcp;ofi_rxm", "sockets", "shm"];
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
pub(crate) const SMALL: usize = 64;

/// Which of the tables.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Table {
    /// Puts and gets.
    Work,
    /// An engine without work.
    Rest,
}

/// What is to be measured.
pub(crate) struct Plan<'a> {
    /// All if empty.
    pub(crate) providers: &'a [String],
    /// `None` = both.
    pub(crate) table: Option<Table>,
    /// Per turn.
    pub(crate) seconds: u32,
    pub(crate) rounds: u32,
}

impl Plan<'_> {
    pub(crate) fn has(&self, provider: &str) -> bool {
        self.providers.is_empty() || self.providers.iter().any(|wanted| wanted == provider)
    }
}

/// Measures and prints the tables. Files are made under `disk`.
pub(crate) fn run(plugin: &Path, disk: &Path, plan: &Plan<'_>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let storage = Formatted::new(disk, 512, 512)?;
    let bench = Bench {
        plugin,
        storage: &storage,
        plan,
    };
    LocalSet::new().block_on(&runtime, async {
        if plan.table != Some(Table::Rest) {
            bench.work().await?;
            println!();
        }
        if plan.table != Some(Table::Work) {
            ofi_rest::run(&bench).await?;
        }
        Ok(())
    })
}

/// Where engines come from.
pub(crate) struct Bench<'a> {
    plugin: &'a Path,
    storage: &'a Formatted,
    pub(crate) plan: &'a Plan<'a>,
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
    /// An engine over a provider, with settings of plugins as JSON.
    pub(crate) fn engine(&self, provider: &str, settings: &str) -> anyhow::Result<Engine> {
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

    async fn work(&self) -> anyhow::Result<()> {
        println!(
            "Engine over providers of libfabric, one client, {}s per turn, {} turns each\n",
            self.plan.seconds, self.plan.rounds
        );
        println!(
            "| operation, provider | op/s | against fabric-tcp | bare endpoints, exchanges/s | ratio | engine CPU us | client CPU us |"
        );
        println!("|---|---|---|---|---|---|---|");
        for size in &SIZES {
            let wanted = PROVIDERS.into_iter().filter(|name| self.plan.has(name));
            let all: Vec<&str> = [PLAIN].into_iter().chain(wanted).collect();
            let mut puts: Vec<Row> = all.iter().map(|_| Row::default()).collect();
            let mut gets: Vec<Row> = all.iter().map(|_| Row::default()).collect();
            for _ in 0..self.plan.rounds {
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
        let some = limits(
            Duration::from_secs(self.plan.seconds.into()),
            Keys::Random(size.keys),
        );
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
