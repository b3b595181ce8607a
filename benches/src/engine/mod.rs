//! An engine against Redis: puts and gets of single values, over fabric-tcp and TCP on the loopback.
//!
//! Both servers have one thread that serves, both are asked by the same closed loop on one thread
//! (see [`crate::workload`]). Ours has its log and index in SCM (a tmpfs) and larger values in a file
//! on disk, and answers a put when it is durable there. Redis is asked three times: without any
//! durability, with its append-only file on the same tmpfs, and with that on the file system of our
//! file, both with `appendfsync always`. Values above 4 KiB are also measured on an engine that has them
//! in memory, as Redis does.

pub(crate) mod daos;
pub(crate) mod redis;

use crate::formatted::Formatted;
use crate::stats::{median, spread};
use crate::workload::{self, Keys, Limits, Turn, Worker};
use daos::{Engine, Get, Put};
use daos_client::Progress;
use redis::{Benchmark, Durability, Redis};
use std::path::Path;
use std::time::Duration;
use tokio::task::LocalSet;

/// MiB of SCM; a quarter of seven eighths of what the log leaves may hold live entries.
const SCM_MIB: u64 = 1024;
/// MiB of the bdev file: the values, and what overwrites drop until the next commit.
const BDEV_MIB: u64 = 2048;
/// MiB of memory of the engine that has its values there, and of its SCM.
const MEMORY_MIB: (u64, u64) = (512, 128);
/// Largest value that never reaches a block device.
const INLINE: usize = 4096;
/// Most bytes that a turn writes: an append-only file of Redis grows by as much.
const TURN_BYTES: u64 = 1 << 30;

struct Size {
    name: &'static str,
    bytes: usize,
    keys: u64,
}

const SIZES: [Size; 3] = [
    Size {
        name: "64 B",
        bytes: 64,
        keys: 100_000,
    },
    Size {
        name: "4 KiB",
        bytes: 4096,
        keys: 10_000,
    },
    Size {
        name: "1 MiB",
        bytes: 1 << 20,
        keys: 128,
    },
];
const CLIENTS: [usize; 2] = [1, 16];

/// Turns of one operation, at one size and number of clients.
#[derive(Default)]
struct Row {
    clients: Vec<Turn>,
    callers: Vec<Turn>,
    threads: Vec<Turn>,
    /// Ours, with values in memory.
    own_memory: Vec<Turn>,
    memory: Vec<Turn>,
    tool: Vec<f64>,
    log_in_memory: Vec<Turn>,
    log_on_disk: Vec<Turn>,
}

/// What to measure.
pub(crate) struct Plan {
    /// Only values of this size.
    pub(crate) bytes: Option<usize>,
    /// Only this many clients.
    pub(crate) clients: Option<usize>,
    /// Only the engine.
    pub(crate) alone: bool,
    pub(crate) seconds: u32,
    pub(crate) rounds: u32,
}

/// Measures and prints the tables. Files are made under `disk`.
pub(crate) fn run(disk: &Path, plan: &Plan) -> anyhow::Result<()> {
    let Plan {
        seconds, rounds, ..
    } = *plan;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut rows = Vec::new();
    let wanted = |size: &&Size| plan.bytes.is_none_or(|bytes| bytes == size.bytes);
    for size in SIZES.iter().filter(wanted) {
        let storage = Formatted::new(disk, SCM_MIB, BDEV_MIB)?;
        let memory = (size.bytes > INLINE)
            .then(|| Formatted::in_memory(disk, MEMORY_MIB.1, MEMORY_MIB.0))
            .transpose()?;
        let measured = measure(&storage, memory.as_ref(), size, plan);
        rows.extend(LocalSet::new().block_on(&runtime, measured)?);
    }
    println!("Engine over fabric-tcp against Redis, {seconds} s per turn, {rounds} turns each\n");
    println!(
        "| operation | ours op/s | Redis op/s | ratio | redis-benchmark op/s | ratio | engine CPU us | Redis CPU us | our client CPU us | its client CPU us |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (name, row) in &rows {
        in_memory(name, &row.clients, row);
        if !row.callers.is_empty() {
            in_memory(&format!("{name}, on one connection"), &row.callers, row);
        }
        let plural = if row.callers.is_empty() { "" } else { "s" };
        in_memory(
            &format!("{name}, in thread{plural} of the library"),
            &row.threads,
            row,
        );
        if !row.own_memory.is_empty() {
            in_memory(&format!("{name}, values in memory"), &row.own_memory, row);
        }
    }
    println!("\nDurable puts; Redis with `appendfsync always`\n");
    println!(
        "| operation | ours op/s | Redis op/s, log on tmpfs | ratio | Redis op/s, log on disk | ratio | engine CPU us | Redis CPU us |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (name, row) in rows.iter().filter(|(_, row)| !row.log_on_disk.is_empty()) {
        durable(name, &row.clients, row);
        if !row.callers.is_empty() {
            durable(&format!("{name}, on one connection"), &row.callers, row);
        }
    }
    Ok(())
}

fn of(turns: &[Turn], what: fn(&Turn) -> f64) -> Vec<f64> {
    turns.iter().map(what).collect()
}

fn rates(turns: &[Turn]) -> Vec<f64> {
    of(turns, |t| t.rate)
}

fn ratio(ours: &[f64], theirs: &[f64]) -> String {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
    match ratios.is_empty() {
        true => "-".to_owned(),
        false => spread(&ratios, 2),
    }
}

fn in_memory(name: &str, ours: &[Turn], row: &Row) {
    println!(
        "| {name} | {:.0} | {:.0} | {} | {:.0} | {} | {:.1} | {:.1} | {:.1} | {:.1} |",
        median(&rates(ours)),
        median(&rates(&row.memory)),
        ratio(&rates(ours), &rates(&row.memory)),
        median(&row.tool),
        ratio(&rates(ours), &row.tool),
        median(&of(ours, |t| t.server_us)),
        median(&of(&row.memory, |t| t.server_us)),
        median(&of(ours, |t| t.client_us)),
        median(&of(&row.memory, |t| t.client_us)),
    );
}

fn durable(name: &str, ours: &[Turn], row: &Row) {
    println!(
        "| {name} | {:.0} | {:.0} | {} | {:.0} | {} | {:.1} | {:.1} |",
        median(&rates(ours)),
        median(&rates(&row.log_in_memory)),
        ratio(&rates(ours), &rates(&row.log_in_memory)),
        median(&rates(&row.log_on_disk)),
        ratio(&rates(ours), &rates(&row.log_on_disk)),
        median(&of(ours, |t| t.server_us)),
        median(&of(&row.log_in_memory, |t| t.server_us)),
    );
}

/// All rows of one size.
async fn measure(
    storage: &Formatted,
    memory: Option<&Formatted>,
    size: &Size,
    plan: &Plan,
) -> anyhow::Result<Vec<(String, Row)>> {
    let engine = Engine::start(storage)?;
    let in_memory = memory.map(Engine::start).transpose()?;
    let redis = Redis::start(Durability::None, storage.memory()).await?;
    let limits = Limits {
        time: Duration::from_secs(plan.seconds.into()),
        operations: TURN_BYTES / size.bytes as u64,
        keys: Keys::Random(size.keys),
    };
    let mut side = Side {
        storage,
        size,
        limits,
        engine,
        in_memory,
        redis,
    };
    side.load(plan.alone).await?;
    let mut rows = Vec::new();
    let wanted = |clients: &usize| plan.clients.is_none_or(|only| only == *clients);
    for clients in CLIENTS.into_iter().filter(wanted) {
        let plural = if clients == 1 { "" } else { "s" };
        let mut put = Row::default();
        let mut get = Row::default();
        for round in 0..plan.rounds {
            // Each side goes first in every other round.
            if plan.alone {
                side.ours(clients, &mut put, &mut get).await?;
            } else if round % 2 == 0 {
                side.ours(clients, &mut put, &mut get).await?;
                side.theirs(clients, &mut put, &mut get).await?;
            } else {
                side.theirs(clients, &mut put, &mut get).await?;
                side.ours(clients, &mut put, &mut get).await?;
            }
        }
        rows.push((format!("put {}, {clients} client{plural}", size.name), put));
        rows.push((format!("get {}, {clients} client{plural}", size.name), get));
    }
    Ok(rows)
}

/// The two servers, and what is asked of them.
struct Side<'a> {
    storage: &'a Formatted,
    size: &'a Size,
    limits: Limits,
    engine: Engine,
    /// With its values in memory.
    in_memory: Option<Engine>,
    redis: Redis,
}

impl Side<'_> {
    /// Stores every key on both sides.
    async fn load(&mut self, alone: bool) -> anyhow::Result<()> {
        let all = Limits {
            time: Duration::from_secs(600),
            operations: u64::MAX,
            keys: Keys::Each(self.size.keys),
        };
        // Memory as one that has been in use: the first write to a page costs more than all others.
        let pass_mib = (self.size.keys * self.size.bytes as u64) >> 20;
        let passes = 2 * MEMORY_MIB.0 / pass_mib.max(1);
        let engines = [(Some(&self.engine), 1), (self.in_memory.as_ref(), passes)];
        for (engine, passes) in engines {
            let Some(engine) = engine else { continue };
            let container = engine.connect().await?;
            for _ in 0..passes {
                let workers = (0..16)
                    .map(|_| Put::new(&container, self.size.bytes))
                    .collect();
                workload::run(workers, all, &engine.cpu()).await?;
            }
        }
        if alone {
            return Ok(());
        }
        let mut workers = Vec::new();
        for _ in 0..16 {
            workers.push(self.redis.set(self.size.bytes).await?);
        }
        workload::run(workers, all, &self.redis.cpu()).await?;
        // Its keys are random: three times as many operations leave one key in twenty out.
        self.tool(16, 3 * self.size.keys as usize, true)?;
        Ok(())
    }

    fn tool(&self, clients: usize, operations: usize, set: bool) -> anyhow::Result<f64> {
        let case = Benchmark {
            clients,
            bytes: self.size.bytes,
            operations: operations.max(1) as u64,
            keys: self.size.keys,
        };
        self.redis.benchmark(set, &case)
    }

    async fn turn<W: Worker>(
        &self,
        workers: Vec<W>,
        cpu: &crate::process::Cpu,
    ) -> anyhow::Result<Turn> {
        Ok(workload::run(workers, self.limits, cpu).await?.0)
    }

    async fn ours(&self, clients: usize, put: &mut Row, get: &mut Row) -> anyhow::Result<()> {
        let cpu = self.engine.cpu();
        let bytes = self.size.bytes;
        let mut containers = Vec::new();
        for _ in 0..clients {
            containers.push(self.engine.connect().await?);
        }
        let puts = containers.iter().map(|c| Put::new(c, bytes)).collect();
        put.clients.push(self.turn(puts, &cpu).await?);
        let gets = containers.iter().map(|c| Get::new(c, bytes)).collect();
        get.clients.push(self.turn(gets, &cpu).await?);
        let mut threaded = Vec::new();
        for _ in 0..clients {
            threaded.push(self.engine.connect_as(Progress::Thread).await?);
        }
        let puts = threaded.iter().map(|c| Put::new(c, bytes)).collect();
        put.threads.push(self.turn(puts, &cpu).await?);
        let gets = threaded.iter().map(|c| Get::new(c, bytes)).collect();
        get.threads.push(self.turn(gets, &cpu).await?);
        if clients > 1 {
            let one = &containers[0];
            let puts = (0..clients).map(|_| Put::new(one, bytes)).collect();
            put.callers.push(self.turn(puts, &cpu).await?);
            let gets = (0..clients).map(|_| Get::new(one, bytes)).collect();
            get.callers.push(self.turn(gets, &cpu).await?);
        }
        if let Some(engine) = &self.in_memory {
            let cpu = engine.cpu();
            let mut containers = Vec::new();
            for _ in 0..clients {
                containers.push(engine.connect().await?);
            }
            let puts = containers.iter().map(|c| Put::new(c, bytes)).collect();
            put.own_memory.push(self.turn(puts, &cpu).await?);
            let gets = containers.iter().map(|c| Get::new(c, bytes)).collect();
            get.own_memory.push(self.turn(gets, &cpu).await?);
        }
        Ok(())
    }

    async fn theirs(&self, clients: usize, put: &mut Row, get: &mut Row) -> anyhow::Result<()> {
        let bytes = self.size.bytes;
        let cpu = self.redis.cpu();
        put.memory.push(
            self.turn(sets(&self.redis, clients, bytes).await?, &cpu)
                .await?,
        );
        let mut workers = Vec::new();
        for _ in 0..clients {
            workers.push(self.redis.get(bytes).await?);
        }
        get.memory.push(self.turn(workers, &cpu).await?);
        // As many operations as the loop above managed in a turn.
        for (set, row) in [(true, &mut *put), (false, get)] {
            let last = row.memory.last().map_or(0.0, |turn| turn.rate);
            let count = last * self.limits.time.as_secs_f64();
            let count = count.min(self.limits.operations as f64) as usize;
            let rate = self.tool(clients, count, set)?;
            row.tool.push(rate);
        }
        let places = [
            (self.storage.memory(), &mut put.log_in_memory),
            (self.storage.disk(), &mut put.log_on_disk),
        ];
        for (place, turns) in places {
            // A new server each time: its log may have grown by a gigabyte.
            let redis = Redis::start(Durability::Always, place).await?;
            let workers = sets(&redis, clients, bytes).await?;
            turns.push(self.turn(workers, &redis.cpu()).await?);
        }
        Ok(())
    }
}

async fn sets(redis: &Redis, clients: usize, bytes: usize) -> anyhow::Result<Vec<redis::Set>> {
    let mut workers = Vec::new();
    for _ in 0..clients {
        workers.push(redis.set(bytes).await?);
    }
    Ok(workers)
}
