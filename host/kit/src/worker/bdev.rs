//! Drives a block device for measurements. All unsafe code for that is here.
#![allow(unsafe_code)]

use super::meter::{Meter, Places, sleep};
use super::rig::Rig;
use crate::bench::{Measured, Measurement, Work};
use daos_plugin_api::abi::{BdevOp, Completion, IoVec, Request, Status};
use daos_plugin_api::host::{BdevDevice, BdevQueue, CallOptions, PoolMemory};
use std::time::Instant;

/// Part of the device that is written before, so that reads find data; and measured.
const SPAN: u64 = 256 << 20;

/// Longest time that nothing may complete.
const STUCK: std::time::Duration = std::time::Duration::from_secs(30);

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

pub(super) struct Stage {
    device: BdevDevice,
    rig: Rig,
    /// Blocks that are used.
    blocks: u64,
}

impl Stage {
    pub(super) fn new(rig: Rig) -> Result<Self, String> {
        let device = rig
            .instance
            .open_bdev(&rig.devices[0], CallOptions::default())
            .map_err(|e| e.to_string())?;
        let block = u64::from(device.geometry().block_size);
        let stage = Self {
            blocks: (SPAN / block).min(device.geometry().block_count),
            device,
            rig,
        };
        if stage.device.geometry().supports(BdevOp::WRITE) {
            stage.fill()?;
        }
        Ok(stage)
    }

    fn fill(&self) -> Result<(), String> {
        let block = self.device.geometry().block_size as usize;
        let most = (1 << 20) / block as u64;
        let most = most
            .min(u64::from(self.device.geometry().max_transfer_blocks))
            .max(1);
        let _thread = self
            .rig
            .instance
            .attach_thread()
            .map_err(|e| e.to_string())?;
        let mut lane = Lane::new(&self.device, 1, most as usize * block)?;
        let mut at = 0;
        while at < self.blocks {
            let count = most.min(self.blocks - at);
            lane.offer(&[(0, BdevOp::WRITE, at, count)])?;
            lane.wait_for(1, &mut |_| ())?;
            at += count;
        }
        Ok(())
    }

    pub(super) fn measure(&self, what: &Measurement) -> Result<Measured, String> {
        let geometry = *self.device.geometry();
        let block = geometry.block_size as usize;
        let op = match what.work {
            Work::Read => BdevOp::READ,
            Work::Write | Work::WriteFlush => BdevOp::WRITE,
            _ => return Err("a block device cannot do this".to_owned()),
        };
        if !geometry.supports(op) {
            return Err("the device is read-only".to_owned());
        }
        let blocks = (what.bytes / block) as u64;
        if blocks == 0 || blocks > u64::from(geometry.max_transfer_blocks) || blocks > self.blocks {
            let bytes = what.bytes;
            return Err(format!("{bytes} bytes are no transfer of this device"));
        }
        let depth = what.depth.min(geometry.max_queue_depth);
        if depth < what.depth {
            return Err(format!("its queues hold {depth} requests"));
        }
        let _thread = self
            .rig
            .instance
            .attach_thread()
            .map_err(|e| e.to_string())?;
        let mut lane = Lane::new(&self.device, depth, what.bytes)?;
        let mut places = Places::new(self.blocks / blocks, what.random);
        let mut started = vec![Instant::now(); depth as usize];
        let mut meter = Meter::start(what.millis);
        let mut free: Vec<u64> = (0..u64::from(depth)).collect();
        let mut batch = Vec::with_capacity(depth as usize);
        loop {
            let is_over = meter.is_over();
            if is_over && free.len() == depth as usize {
                return Ok(meter.end());
            }
            if !is_over && !free.is_empty() {
                batch.clear();
                batch.extend(
                    free.iter()
                        .map(|slot| (*slot, op, places.next() * blocks, blocks)),
                );
                let now = Instant::now();
                let taken = lane.offer(&batch)?;
                for (slot, ..) in &batch[..taken] {
                    started[*slot as usize] = now;
                }
                free.drain(..taken);
            }
            let mut ended = Vec::new();
            lane.wait_for(1, &mut |slot| ended.push(slot))?;
            if what.work == Work::WriteFlush {
                lane.offer(&[(0, BdevOp::FLUSH, 0, 0)])?;
                lane.wait_for(1, &mut |_| ())?;
            }
            for slot in ended {
                meter.record(started[slot as usize]);
                free.push(slot);
            }
        }
    }
}

/// A queue with memory for each request that may be outstanding.
struct Lane {
    // Dropped first: the device lets go of the memory then.
    queue: BdevQueue,
    iovs: Vec<IoVec>,
    scratch: Vec<Line>,
    lines: usize,
    // Kept while the queue is open.
    _memory: PoolMemory,
    block: usize,
    bytes: usize,
    requests: Vec<Request>,
    outstanding: usize,
}

impl Lane {
    fn new(device: &BdevDevice, depth: u32, bytes: usize) -> Result<Self, String> {
        let geometry = device.geometry();
        let lines = (geometry.scratch_size as usize).div_ceil(64);
        let count = depth as usize;
        let block = geometry.block_size as usize;
        let memory = device.allocate(bytes * count).map_err(|e| e.to_string())?;
        let queue = device
            .open_queue(depth, CallOptions::default())
            .map_err(|e| e.to_string())?;
        let iov = |slot: usize| IoVec {
            ptr: memory.ptr().wrapping_add(slot * bytes),
            len: bytes,
        };
        Ok(Self {
            iovs: (0..count).map(iov).collect(),
            scratch: vec![Line([0; 64]); lines * count],
            lines,
            block,
            bytes,
            requests: Vec::with_capacity(count),
            outstanding: 0,
            _memory: memory,
            queue,
        })
    }

    /// Offers requests (slot, operation, first block, blocks) of free slots; returns how many were taken.
    fn offer(&mut self, wanted: &[(u64, BdevOp, u64, u64)]) -> Result<usize, String> {
        self.requests.clear();
        for (slot, op, lba, blocks) in wanted {
            let at = *slot as usize;
            let len = *blocks as usize * self.block;
            assert!(len <= self.bytes, "larger than the memory of a slot");
            self.iovs[at].len = len;
            let has_data = *op != BdevOp::FLUSH;
            self.requests.push(Request {
                op: *op,
                flags: 0,
                reserved: 0,
                iov_count: u32::from(has_data),
                lba: *lba,
                blocks: *blocks,
                iov: match has_data {
                    true => &raw const self.iovs[at],
                    false => std::ptr::null(),
                },
                tag: *slot,
                scratch: match self.lines {
                    0 => std::ptr::null_mut(),
                    lines => self.scratch[at * lines..].as_mut_ptr().cast(),
                },
            });
        }
        // SAFETY: iovecs, memory and scratch belong to the slot, which is not used again before its
        // completion was polled; the queue is dropped before them.
        let taken = unsafe { self.queue.submit(&self.requests) }
            .map_err(|status| format!("submit: {status}"))?;
        self.outstanding += taken;
        Ok(taken)
    }

    /// Waits until `count` of the outstanding requests, or all, have completed.
    fn wait_for(&mut self, count: usize, ended: &mut dyn FnMut(u64)) -> Result<(), String> {
        const NONE: Completion = Completion {
            tag: 0,
            status: Status::OK,
            reserved: 0,
        };
        let mut out = [NONE; 64];
        let mut left = count.min(self.outstanding);
        let mut since: Option<Instant> = None;
        while left > 0 {
            let n = self
                .queue
                .poll(&mut out)
                .map_err(|status| format!("poll: {status}"))?;
            if n > self.outstanding {
                return Err("more completions than requests".to_owned());
            }
            for completion in &out[..n] {
                if !completion.status.is_ok() {
                    return Err(format!("a request completed as {}", completion.status));
                }
                ended(completion.tag);
            }
            self.outstanding -= n;
            left = left.saturating_sub(n);
            if n == 0 && left > 0 {
                if since.get_or_insert_with(Instant::now).elapsed() > STUCK {
                    return Err(format!("nothing completes within {STUCK:?}"));
                }
                let wait = self
                    .queue
                    .arm_wait()
                    .map_err(|s| format!("arm_wait: {s}"))?;
                sleep(wait)?;
            } else {
                since = None;
            }
        }
        Ok(())
    }
}
