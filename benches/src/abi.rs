//! What the boundary costs: bdev-malloc as shared object, as built-in, and called directly.

use crate::stats::{median, spread};
use anyhow::Context;
use bdev_malloc::BdevMalloc;
use daos_loader::{PluginFile, Policy};
use daos_plugin_api::abi::{BdevOp, Completion, IoVec, PluginTable, Request, Status};
use daos_plugin_api::control::ClassRequest;
use daos_plugin_api::host::{BdevQueue, CallOptions, Instance, InstanceOptions, with_context};
use daos_plugin_api::sdk::{Bdev, BdevPlugin, BdevQueue as _, Host, Plugin, thunks};
use serde_json::{Map, json};
use std::path::Path;
use std::time::Instant;

const BATCH: usize = 32;
/// Batches per turn.
const TURN: u32 = 40_000;

fn config() -> Map<String, serde_json::Value> {
    Map::from_iter([
        ("bdev_number".to_owned(), json!(1)),
        ("bdev_size_mib".to_owned(), json!(64)),
    ])
}

/// Measures and prints the table.
pub(crate) fn run(plugin: &Path, rounds: u32) -> anyhow::Result<()> {
    let policy = Policy::default();
    let info = PluginFile::inspect(plugin, &policy).context("the plugin is refused")?;
    let loaded = daos_loader::load(&info, &policy)?;
    let mut shared = open(loaded.table, InstanceOptions::loaded())?;
    let mut built_in = open(thunks::table::<BdevMalloc>(), InstanceOptions::built_in())?;
    let mut direct = with_context(|host: Host, call| -> anyhow::Result<_> {
        let plugin = BdevMalloc::create(host, call, Map::new())?;
        let request = ClassRequest {
            class: "malloc".to_owned(),
            config: config(),
        };
        let device = plugin.devices(call, request)?.remove(0);
        Ok(plugin.open(call, device)?.open_queue(call, BATCH as u32)?)
    })?;

    println!("bdev-malloc, batches of {BATCH}, {TURN} batches per turn, {rounds} turns each\n");
    println!(
        "| I/O | direct ns | built-in ns | shared object ns | boundary ns per I/O | ratio to direct |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, op, bytes) in [
        ("flush (no data)", BdevOp::FLUSH, 0),
        ("4 KiB read", BdevOp::READ, 4096),
        ("4 KiB write", BdevOp::WRITE, 4096),
    ] {
        let mut batch = Batch::new(op, bytes);
        let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            a.push(turn(&mut batch, |requests, done| {
                // SAFETY: the batch outlives the turn, and malloc completes in submit.
                let n = unsafe { direct.submit(requests) }?;
                direct.poll(&mut done[..n])
            })?);
            b.push(turn(&mut batch, |requests, done| {
                through(&mut built_in, requests, done)
            })?);
            c.push(turn(&mut batch, |requests, done| {
                through(&mut shared, requests, done)
            })?);
        }
        let cost: Vec<f64> = a
            .iter()
            .zip(&c)
            .map(|(direct, shared)| shared - direct)
            .collect();
        let ratio: Vec<f64> = a
            .iter()
            .zip(&c)
            .map(|(direct, shared)| shared / direct)
            .collect();
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} | {} | {} |",
            median(&a),
            median(&b),
            median(&c),
            spread(&cost, 1),
            spread(&ratio, 3)
        );
    }
    Ok(())
}

fn open(table: &'static PluginTable, options: InstanceOptions) -> anyhow::Result<BdevQueue> {
    let instance = Instance::create(table, options)?;
    let request = ClassRequest {
        class: "malloc".to_owned(),
        config: config(),
    };
    let device = instance
        .devices(&request, CallOptions::default())?
        .remove(0);
    let device = instance.open_bdev(&device, CallOptions::default())?;
    Ok(device.open_queue(BATCH as u32, CallOptions::default())?)
}

fn through(
    queue: &mut BdevQueue,
    requests: &[Request],
    done: &mut [Completion],
) -> Result<usize, Status> {
    // SAFETY: the batch outlives the turn, and malloc completes in submit.
    let n = unsafe { queue.submit(requests) }?;
    queue.poll(&mut done[..n])
}

/// Requests with the memory they name.
struct Batch {
    requests: Vec<Request>,
    done: Vec<Completion>,
    _iovs: Vec<IoVec>,
    _memory: Vec<u8>,
}

impl Batch {
    fn new(op: BdevOp, bytes: usize) -> Self {
        let mut memory = vec![0x5a; bytes * BATCH];
        let start = memory.as_mut_ptr();
        let iovs: Vec<IoVec> = (0..BATCH)
            .map(|i| IoVec {
                ptr: start.wrapping_add(i * bytes),
                len: bytes,
            })
            .collect();
        let requests = (0..BATCH)
            .map(|i| Request {
                op,
                flags: 0,
                reserved: 0,
                iov_count: u32::from(bytes > 0),
                lba: if bytes > 0 {
                    (i * 97 % 16_384) as u64
                } else {
                    0
                },
                blocks: (bytes / 4096) as u64,
                iov: &iovs[i],
                tag: i as u64,
                scratch: std::ptr::null_mut(),
            })
            .collect();
        let done = vec![
            Completion {
                tag: 0,
                status: Status::OK,
                reserved: 0
            };
            BATCH
        ];
        Self {
            requests,
            done,
            _iovs: iovs,
            _memory: memory,
        }
    }
}

/// Nanoseconds per I/O of one turn.
fn turn(
    batch: &mut Batch,
    mut once: impl FnMut(&[Request], &mut [Completion]) -> Result<usize, Status>,
) -> anyhow::Result<f64> {
    let begun = Instant::now();
    for _ in 0..TURN {
        let n = once(&batch.requests, &mut batch.done)
            .map_err(|s| anyhow::anyhow!("I/O failed: {s}"))?;
        anyhow::ensure!(n == BATCH, "only {n} of {BATCH} completed");
    }
    let elapsed = begun.elapsed().as_nanos() as f64;
    anyhow::ensure!(batch.done.iter().all(|c| c.status.is_ok()), "an I/O failed");
    Ok(elapsed / f64::from(TURN) / BATCH as f64)
}
