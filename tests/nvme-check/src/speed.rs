//! I/O per second of one device through the plugin file, for tests/vm/bench.

use crate::load::Plugin;
use daos_plugin_api::abi::{BdevOp, Completion, IoVec, Request, Status};
use daos_plugin_api::host::{BdevQueue, CallOptions};
use std::time::{Duration, Instant};

/// Completions between two looks at the clock, which is slow on emulated machines.
const BETWEEN: u64 = 64;

/// What to measure: "ADDRESS randread|randwrite|read|write BYTES DEPTH SECONDS".
pub(crate) struct Work {
    address: String,
    op: BdevOp,
    random: bool,
    bytes: usize,
    depth: usize,
    time: Duration,
}

impl Work {
    pub(crate) fn parse(words: &[String]) -> Option<Self> {
        let [address, pattern, bytes, depth, seconds] = words else {
            return None;
        };
        let (op, random) = match pattern.as_str() {
            "randread" => (BdevOp::READ, true),
            "randwrite" => (BdevOp::WRITE, true),
            "read" => (BdevOp::READ, false),
            "write" => (BdevOp::WRITE, false),
            _ => return None,
        };
        Some(Self {
            address: address.clone(),
            op,
            random,
            bytes: bytes.parse().ok()?,
            depth: depth.parse().ok()?,
            time: Duration::from_secs(seconds.parse().ok()?),
        })
    }
}

/// Where requests go, in units of their size.
struct Places {
    random: bool,
    seed: u64,
    next: u64,
    count: u64,
}

impl Places {
    #[inline(always)]
    fn next(&mut self) -> u64 {
        if self.random {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 7;
            self.seed ^= self.seed << 17;
            return self.seed % self.count;
        }
        let place = self.next;
        self.next = if place + 1 == self.count {
            0
        } else {
            place + 1
        };
        place
    }
}

/// Runs it; I/O per second.
pub(crate) fn measure(plugin: &Plugin, work: &Work) -> Result<f64, String> {
    let device = plugin.open(&work.address).map_err(|e| e.to_string())?;
    let geometry = *device.geometry();
    let blocks = (work.bytes / geometry.block_size as usize) as u64;
    let memory = device
        .allocate(work.depth * work.bytes)
        .map_err(|e| e.to_string())?;
    let scratch_size = (geometry.scratch_size as usize).next_multiple_of(64);
    let mut scratch = vec![0u8; work.depth * scratch_size + 64];
    let scratch = scratch.as_mut_ptr();
    let scratch = scratch.wrapping_add(scratch.align_offset(64));
    let iovecs: Vec<IoVec> = (0..work.depth)
        .map(|slot| IoVec {
            ptr: memory.ptr().wrapping_add(slot * work.bytes),
            len: work.bytes,
        })
        .collect();
    let mut queue = device
        .open_queue(work.depth as u32, CallOptions::default())
        .map_err(|e| e.to_string())?;
    // One for each place in the queue; only the block is another one each time.
    let requests: Vec<Request> = (0..work.depth)
        .map(|slot| Request {
            op: work.op,
            flags: 0,
            reserved: 0,
            iov_count: 1,
            lba: 0,
            blocks,
            iov: &iovecs[slot],
            tag: slot as u64,
            scratch: scratch.wrapping_add(slot * scratch_size),
        })
        .collect();
    let mut places = Places {
        random: work.random,
        seed: 0x9e37_79b9_7f4a_7c15,
        next: 0,
        count: geometry.block_count / blocks,
    };
    let rate = passes(&mut queue, requests, &mut places, work.time);
    drop(queue);
    rate
}

/// Keeps the requests under way for a time; I/O per second. In a function of its own, with few variables: what it does per
/// request is measured along.
#[inline(never)]
fn passes(
    queue: &mut BdevQueue,
    mut requests: Vec<Request>,
    places: &mut Places,
    time: Duration,
) -> Result<f64, String> {
    let nothing = Completion {
        tag: 0,
        status: Status::OK,
        reserved: 0,
    };
    let mut room = vec![nothing; requests.len()];
    for request in &mut requests {
        request.lba = places.next() * request.blocks;
    }
    let mut batch = requests.clone();
    let (mut done, mut looked, mut outstanding) = (0u64, 0u64, 0usize);
    let mut over = false;
    let begun = Instant::now();
    loop {
        if !batch.is_empty() {
            // SAFETY: memory, vectors and scratch live until the end of the caller, after the queue's use.
            let taken = unsafe { queue.submit(&batch) }.map_err(|s| format!("submit: {s}"))?;
            outstanding += taken;
            if taken == batch.len() {
                batch.clear();
            } else {
                batch.drain(..taken);
            }
        }
        let got = queue.poll(&mut room).map_err(|s| format!("poll: {s}"))?;
        if got != 0 {
            outstanding -= got;
            done += got as u64;
            for completion in &room[..got] {
                if !completion.status.is_ok() {
                    return Err(format!("a request ended with {}", completion.status));
                }
                let request = &mut requests[completion.tag as usize];
                request.lba = places.next() * request.blocks;
                batch.push(*request);
            }
            if done - looked >= BETWEEN {
                looked = done;
                over = over || begun.elapsed() >= time;
            }
            if over {
                batch.clear();
                if outstanding == 0 {
                    return Ok(done as f64 / begun.elapsed().as_secs_f64());
                }
            }
        }
    }
}
