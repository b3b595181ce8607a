//! A queue of a cached device: requests are carried out when submitted and complete when polled.

use super::{CachedDevice, Disk, LIMIT};
use crate::plugin::lock;
use daos_plugin_api::abi::{BdevGeometry, BdevOp, Completion, IoVec, Request, Status, Wait};
use daos_plugin_api::host::SyncBdev;
use daos_plugin_api::sdk::{BdevQueue, Result};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What happens when the host sees a request complete.
enum Effect {
    None,
    /// A write without FUA counts as completed: flushes from now on cover it.
    Completed(u64),
    /// These writes are on the medium.
    Settled(HashSet<u64>),
}

pub(crate) struct CachedQueue {
    disk: Arc<Disk>,
    life: u64,
    geometry: BdevGeometry,
    medium: SyncBdev,
    depth: usize,
    done: VecDeque<(Completion, Effect)>,
    queues: Arc<AtomicU32>,
}

impl Drop for CachedQueue {
    fn drop(&mut self) {
        self.queues.fetch_sub(1, Ordering::SeqCst);
    }
}

impl CachedQueue {
    pub(super) fn new(device: &CachedDevice, depth: u32) -> Result<Self> {
        Ok(Self {
            disk: Arc::clone(&device.disk),
            life: device.life,
            geometry: device.geometry,
            medium: SyncBdev::new(&device.disk.medium, LIMIT)?,
            depth: depth as usize,
            done: VecDeque::new(),
            queues: Arc::clone(&device.queues),
        })
    }

    fn dead(&self) -> bool {
        self.disk.power.is_off() || self.disk.life.load(Ordering::SeqCst) != self.life
    }

    /// Offset and length in bytes of a valid request.
    fn range(&self, request: &Request, parts: &[IoVec]) -> Result<(u64, usize), Status> {
        let g = &self.geometry;
        let end = request.lba.checked_add(request.blocks);
        if request.blocks == 0 || end.is_none_or(|end| end > g.block_count) {
            return Err(Status::INVALID);
        }
        let block = u64::from(g.block_size);
        let len = usize::try_from(request.blocks * block).map_err(|_| Status::INVALID)?;
        if [BdevOp::READ, BdevOp::WRITE, BdevOp::COMPARE].contains(&request.op) {
            let sum = parts
                .iter()
                .try_fold(0usize, |sum, part| sum.checked_add(part.len));
            let aligned = |part: &IoVec| {
                part.ptr.addr().is_multiple_of(g.buffer_alignment as usize)
                    && (part.len as u64).is_multiple_of(block)
            };
            if request.blocks > u64::from(g.max_transfer_blocks)
                || parts.len() > g.max_segments as usize
                || sum != Some(len)
                || !parts.iter().all(aligned)
            {
                return Err(Status::INVALID);
            }
        }
        Ok((request.lba * block, len))
    }

    fn execute(&mut self, request: &Request, parts: &[IoVec]) -> Result<Effect, Status> {
        let disk = Arc::clone(&self.disk);
        let mut cache = lock(&disk.cache);
        if self.dead() || !disk.power.draw() {
            return Err(Status::DEVICE_GONE);
        }
        if request.op == BdevOp::FLUSH {
            return Ok(Effect::Settled(cache.covered()));
        }
        let known = [
            BdevOp::READ,
            BdevOp::WRITE,
            BdevOp::COMPARE,
            BdevOp::UNMAP,
            BdevOp::WRITE_ZEROES,
        ];
        if !known.contains(&request.op) || !self.geometry.supports(request.op) {
            return Err(Status::NOT_SUPPORTED);
        }
        let (at, len) = self.range(request, parts)?;
        let mut data = vec![0; len];
        let failed = |e: daos_plugin_api::sdk::Error| e.status;
        let changes = match request.op {
            BdevOp::READ => {
                cache
                    .read(&mut self.medium, at, &mut data)
                    .map_err(failed)?;
                memory::scatter(&data, parts);
                false
            }
            BdevOp::COMPARE => {
                cache
                    .read(&mut self.medium, at, &mut data)
                    .map_err(failed)?;
                let mut other = vec![0; len];
                memory::gather(parts, &mut other);
                if data != other {
                    return Err(Status::MISCOMPARE);
                }
                false
            }
            BdevOp::WRITE => {
                memory::gather(parts, &mut data);
                true
            }
            // Unmapped blocks are undefined; zeroes are one such content.
            _ => true,
        };
        if !changes {
            return Ok(Effect::None);
        }
        let write = cache.write(&mut self.medium, at, &data).map_err(failed)?;
        Ok(if request.flags & Request::FUA != 0 {
            Effect::Settled(HashSet::from([write]))
        } else {
            Effect::Completed(write)
        })
    }

    /// Lets the effect of a completion happen.
    fn conclude(&mut self, effect: Effect) -> Result<(), Status> {
        let disk = Arc::clone(&self.disk);
        let mut cache = lock(&disk.cache);
        if matches!(effect, Effect::None) {
            return Ok(());
        }
        if self.dead() {
            return Err(Status::DEVICE_GONE);
        }
        match effect {
            Effect::None => Ok(()),
            Effect::Completed(write) => {
                cache.complete(write);
                Ok(())
            }
            Effect::Settled(writes) => cache
                .settle(&mut self.medium, &writes)
                .map_err(|e| e.status),
        }
    }
}

impl BdevQueue for CachedQueue {
    unsafe fn submit(&mut self, requests: &[Request]) -> Result<usize, Status> {
        let taken = requests.len().min(self.depth - self.done.len());
        for request in &requests[..taken] {
            // SAFETY: the caller vouches for the iovecs of what it submits.
            let parts = unsafe { memory::parts(request) };
            let (status, effect) = match self.execute(request, parts) {
                Ok(effect) => (Status::OK, effect),
                Err(status) => (status, Effect::None),
            };
            let completion = Completion {
                tag: request.tag,
                status,
                reserved: 0,
            };
            self.done.push_back((completion, effect));
        }
        Ok(taken)
    }

    fn poll(&mut self, completions: &mut [Completion]) -> Result<usize, Status> {
        let mut n = 0;
        while n < completions.len()
            && let Some((mut completion, effect)) = self.done.pop_front()
        {
            if let Err(status) = self.conclude(effect) {
                completion.status = status;
            }
            completions[n] = completion;
            n += 1;
        }
        Ok(n)
    }

    fn arm_wait(&mut self) -> Wait {
        Wait::BUSY
    }

    fn abort(&mut self, tag: u64) -> Result<(), Status> {
        // Everything was carried out when it was submitted.
        let there = self.done.iter().any(|(c, _)| c.tag == tag);
        if there {
            Ok(())
        } else {
            Err(Status::NOT_FOUND)
        }
    }
}

/// Memory of requests: the only unsafe code of the cached bdev.
mod memory {
    use super::{IoVec, Request};

    /// # Safety
    /// The request is outstanding and its iovec array readable.
    pub(super) unsafe fn parts(request: &Request) -> &[IoVec] {
        if request.iov_count == 0 || request.iov.is_null() {
            return &[];
        }
        // SAFETY: the caller vouches for it.
        unsafe { std::slice::from_raw_parts(request.iov, request.iov_count as usize) }
    }

    /// Copies from the memory of an outstanding request, whose lengths add up to `out`'s.
    pub(super) fn gather(parts: &[IoVec], out: &mut [u8]) {
        let mut at = 0;
        for part in parts {
            // SAFETY: the memory of an outstanding request is readable for `len` bytes.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    part.ptr,
                    out[at..at + part.len].as_mut_ptr(),
                    part.len,
                );
            }
            at += part.len;
        }
    }

    /// Copies to the memory of an outstanding request, whose lengths add up to `data`'s.
    pub(super) fn scatter(data: &[u8], parts: &[IoVec]) {
        let mut at = 0;
        for part in parts {
            // SAFETY: the memory of an outstanding read is writable for `len` bytes.
            unsafe {
                std::ptr::copy_nonoverlapping(data[at..at + part.len].as_ptr(), part.ptr, part.len);
            }
            at += part.len;
        }
    }
}
