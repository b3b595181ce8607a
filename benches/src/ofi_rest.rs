//! What an engine without work costs, against the latency of the request that ends its rest; and what of that
//! latency is the machine's own: an echo over a plain socket, both sides blocking, after the same rest.

use crate::echo::Echo;
use crate::engine::daos::{Engine, Get, Put};
use crate::ofi_engine::{Bench, PLAIN, PROVIDERS, SMALL};
use crate::stats::{median, spread};
use crate::workload::Worker;
use daos_client::Container;
use std::time::{Duration, Instant};

/// Idle time before each of the requests that end it.
const REST: Duration = Duration::from_millis(100);
const RESTS: u32 = 30;
/// The same where there is no wait descriptor: long enough for the pauses to have grown to their longest.
const LONG_REST: Duration = Duration::from_secs(2);
const LONG_RESTS: u32 = 5;
/// Requests that follow each other.
const BUSY: u32 = 1000;
/// For how long a resting engine's CPU time is taken.
const IDLE: Duration = Duration::from_secs(3);
/// The provider without a wait descriptor.
const BLIND: &str = "shm";
/// Longest pauses of a provider without a wait descriptor, in microseconds; 0 = the plugin's default.
const PAUSES: [u32; 5] = [0, 100, 500, 1000, 8000];

/// Measures and prints the table.
pub(crate) async fn run(bench: &Bench<'_>) -> anyhow::Result<()> {
    println!(
        "An engine without work: its share of a core, and a get of {SMALL} bytes after {REST:?} against one that follows another\n"
    );
    println!(
        "| provider, longest pause us | core, % | busy, us | after rest, us | added, us | after {LONG_REST:?}, added, us |"
    );
    println!("|---|---|---|---|---|---|");
    let mut cases: Vec<(&str, u32)> = Vec::new();
    for provider in [PLAIN].into_iter().chain(PROVIDERS) {
        if bench.plan.has(provider) {
            let pauses = match provider {
                BLIND => &PAUSES[..],
                _ => &PAUSES[..1],
            };
            cases.extend(pauses.iter().map(|pause| (provider, *pause)));
        }
    }
    let mut echo = Rest::default();
    let mut rows: Vec<Rest> = cases.iter().map(|_| Rest::default()).collect();
    for _ in 0..bench.plan.rounds {
        echo.take_echo().await?;
        for ((provider, pause), row) in cases.iter().zip(&mut rows) {
            let settings = match pause {
                0 => "{}".to_owned(),
                us => format!(r#"{{"fabric-ofi": {{"idle_poll_us": {us}}}}}"#),
            };
            let is_blind = *provider == BLIND;
            row.take(&bench.engine(provider, &settings)?, is_blind)
                .await?;
        }
    }
    echo.print("a plain socket, both sides blocking");
    for ((provider, pause), row) in cases.iter().zip(&rows) {
        row.print(&match (*pause, *provider) {
            (0, BLIND) => format!("{provider}, default"),
            (0, _) => format!("{provider}, -"),
            (us, _) => format!("{provider}, {us}"),
        });
    }
    Ok(())
}

/// What rounds of an engine without work showed; times in microseconds.
#[derive(Default)]
struct Rest {
    core: Vec<f64>,
    busy: Vec<f64>,
    rested: Vec<f64>,
    rested_long: Vec<f64>,
}

impl Rest {
    async fn take(&mut self, engine: &Engine, is_blind: bool) -> anyhow::Result<()> {
        let container: Container = engine.connect().await?;
        Put::new(&container, SMALL).step(0).await?;
        let mut get = Get::new(&container, SMALL);
        let mut times = Vec::new();
        for _ in 0..BUSY {
            let start = Instant::now();
            get.step(0).await?;
            times.push(us(start));
        }
        self.busy.push(median(&times));
        times.clear();
        for _ in 0..RESTS {
            tokio::time::sleep(REST).await;
            let start = Instant::now();
            get.step(0).await?;
            times.push(us(start));
        }
        self.rested.push(median(&times));
        if is_blind {
            times.clear();
            for _ in 0..LONG_RESTS {
                tokio::time::sleep(LONG_REST).await;
                let start = Instant::now();
                get.step(0).await?;
                times.push(us(start));
            }
            self.rested_long.push(median(&times));
            tokio::time::sleep(LONG_REST).await;
        }
        let (cpu, start) = (engine.cpu(), Instant::now());
        let before = cpu.used()?;
        tokio::time::sleep(IDLE).await;
        let used = cpu.used()?.saturating_sub(before);
        self.core
            .push(100.0 * used.as_secs_f64() / start.elapsed().as_secs_f64());
        Ok(())
    }

    /// The same of a plain socket.
    async fn take_echo(&mut self) -> anyhow::Result<()> {
        let mut echo = Echo::start(SMALL)?;
        let mut times = Vec::new();
        for _ in 0..BUSY {
            let start = Instant::now();
            echo.exchange()?;
            times.push(us(start));
        }
        self.busy.push(median(&times));
        times.clear();
        for _ in 0..RESTS {
            tokio::time::sleep(REST).await;
            let start = Instant::now();
            echo.exchange()?;
            times.push(us(start));
        }
        self.rested.push(median(&times));
        Ok(())
    }

    fn print(&self, name: &str) {
        let added = |rested: &[f64]| -> Vec<f64> {
            let each = rested.iter().zip(&self.busy);
            each.map(|(rested, busy)| rested - busy).collect()
        };
        let or_none = |values: &[f64], digits| match values.is_empty() {
            true => "-".to_owned(),
            false => spread(values, digits),
        };
        println!(
            "| {name} | {} | {:.1} | {:.1} | {} | {} |",
            or_none(&self.core, 2),
            median(&self.busy),
            median(&self.rested),
            spread(&added(&self.rested), 0),
            or_none(&added(&self.rested_long), 0)
        );
    }
}

fn us(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}
