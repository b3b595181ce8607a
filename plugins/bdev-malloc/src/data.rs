//! Data face: devices and queues.

use crate::memory::{self, Memory, PAGE};
use daos_plugin_api::abi::{BdevGeometry, BdevOp, Completion, IoVec, Request, Status, Wait};
use daos_plugin_api::control::DeviceRecord;
use daos_plugin_api::sdk::{Bdev, BdevQueue, CallContext, Error, Result};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Most bytes of a read, write or compare.
const MAX_TRANSFER: u32 = 16 << 20;
/// Most segments of a request.
const MAX_SEGMENTS: u32 = 1024;
/// Most queues open at once.
const MAX_QUEUES: u32 = 1024;
/// Most requests in a queue.
const MAX_DEPTH: u32 = 65536;

/// What the plugin keeps of a device between opens.
pub(crate) struct Storage {
    pub(crate) memory: Memory,
    open: AtomicBool,
    queues: AtomicU32,
}

impl Storage {
    pub(crate) fn new(memory: Memory) -> Self {
        Self {
            memory,
            open: AtomicBool::new(false),
            queues: AtomicU32::new(0),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }
}

/// An open device.
pub struct MallocDevice {
    storage: Arc<Storage>,
    record: DeviceRecord,
    block_size: u32,
}

impl MallocDevice {
    /// Takes the device; BUSY if somebody has it.
    pub(crate) fn open(
        storage: Arc<Storage>,
        record: DeviceRecord,
        block_size: u32,
    ) -> Result<Self> {
        if storage.open.swap(true, Ordering::AcqRel) {
            let what = format!("{} is open already in this process", record.address);
            return Err(Error::new(Status::BUSY, what).remedy("close it first"));
        }
        Ok(Self {
            storage,
            record,
            block_size,
        })
    }

    /// A device of its own, outside of any plugin instance: for who wants to compare the plugin's
    /// tables with a call that is linked statically.
    ///
    /// # Errors
    /// NO_MEMORY if `size` bytes cannot be had.
    ///
    /// # Panics
    /// If `block_size` is no power of two.
    pub fn alone(size: usize, block_size: u32) -> Result<Self> {
        assert!(block_size.is_power_of_two());
        let memory = Memory::new(size).map_err(|e| Error::io("no memory for a device", e))?;
        let record = crate::control::record("malloc0", size as u64, block_size);
        Self::open(Arc::new(Storage::new(memory)), record, block_size)
    }

    /// Opens a queue of `depth` requests on the calling thread.
    ///
    /// # Errors
    /// INVALID for a depth out of range, BUSY if too many queues are open.
    pub fn queue(&self, depth: u32) -> Result<MallocQueue> {
        if !(1..=MAX_DEPTH).contains(&depth) {
            let what = format!(
                "cannot open a queue of depth {depth} on {}",
                self.record.address
            );
            return Err(
                Error::new(Status::INVALID, what).cause(format!("depths are 1 to {MAX_DEPTH}"))
            );
        }
        if self.storage.queues.fetch_add(1, Ordering::AcqRel) >= MAX_QUEUES {
            self.storage.queues.fetch_sub(1, Ordering::AcqRel);
            let what = format!("cannot open another queue on {}", self.record.address);
            return Err(Error::new(Status::BUSY, what)
                .cause(format!("{MAX_QUEUES} are open, which is the most")));
        }
        Ok(MallocQueue {
            storage: Arc::clone(&self.storage),
            limits: self.limits(),
            done: Ring::new(depth),
        })
    }

    fn limits(&self) -> Limits {
        let block_size = self.block_size as usize;
        Limits {
            shift: self.block_size.trailing_zeros(),
            blocks: (self.storage.memory.len() / block_size) as u64,
            max_blocks: u64::from(MAX_TRANSFER / self.block_size),
        }
    }
}

impl Drop for MallocDevice {
    fn drop(&mut self) {
        self.storage.open.store(false, Ordering::Release);
    }
}

impl Bdev for MallocDevice {
    type Queue = MallocQueue;

    fn geometry(&self) -> BdevGeometry {
        let limits = self.limits();
        BdevGeometry {
            block_size: self.block_size,
            buffer_alignment: 1,
            block_count: limits.blocks,
            max_transfer_blocks: MAX_TRANSFER / self.block_size,
            max_segments: MAX_SEGMENTS,
            atomic_write_blocks: 1,
            deallocate_granularity: (PAGE as u32 / self.block_size).max(1),
            max_queues: MAX_QUEUES,
            max_queue_depth: MAX_DEPTH,
            scratch_size: 0,
            numa_node: -1,
            admin_poll_us: 0,
            reserved: 0,
            flags: BdevGeometry::WRITE_ZEROES | BdevGeometry::COMPARE | BdevGeometry::EPHEMERAL,
        }
    }

    fn open_queue(&self, _call: CallContext<'_>, depth: u32) -> Result<MallocQueue> {
        self.queue(depth)
    }

    fn identity(&self, _call: CallContext<'_>) -> Result<DeviceRecord> {
        Ok(self.record.clone())
    }

    fn health(&self, _call: CallContext<'_>) -> Result<Map<String, Value>> {
        let Value::Object(health) = json!({
            "status": "ok",
            "open_queues": self.storage.queues.load(Ordering::Relaxed),
        }) else {
            unreachable!("an object literal is an object")
        };
        Ok(health)
    }
}

/// What requests are checked against.
#[derive(Clone, Copy)]
struct Limits {
    shift: u32,
    blocks: u64,
    max_blocks: u64,
}

/// A queue. It completes requests while it takes them; `depth` bounds the completions that wait.
pub struct MallocQueue {
    storage: Arc<Storage>,
    limits: Limits,
    done: Ring,
}

impl MallocQueue {
    /// Carries out one request.
    ///
    /// # Safety
    /// The segments of the request are valid memory, see [`BdevQueue::submit`].
    #[inline]
    unsafe fn execute(&self, request: &Request) -> Status {
        let Limits {
            shift,
            blocks,
            max_blocks,
        } = self.limits;
        if request.op == BdevOp::FLUSH {
            return Status::OK;
        }
        let end = request.lba.checked_add(request.blocks);
        if request.blocks == 0 || end.is_none_or(|end| end > blocks) || request.flags > Request::FUA
        {
            return Status::INVALID;
        }
        // Neither overflows: the range lies inside memory.
        let (at, len) = (
            (request.lba << shift) as usize,
            (request.blocks << shift) as usize,
        );
        let memory = &self.storage.memory;
        match request.op {
            BdevOp::READ | BdevOp::WRITE | BdevOp::COMPARE => {
                if request.blocks > max_blocks || request.iov_count > MAX_SEGMENTS {
                    return Status::INVALID;
                }
                // SAFETY: the caller vouches for the request.
                let segments = unsafe { memory::segments(request) };
                if !covers(segments, len) {
                    return Status::INVALID;
                }
                // SAFETY: the caller vouches for the segments.
                unsafe {
                    match request.op {
                        BdevOp::READ => memory.read(at, segments),
                        BdevOp::WRITE => memory.write(at, segments),
                        _ if !memory.equals(at, segments) => return Status::MISCOMPARE,
                        _ => {}
                    }
                }
                Status::OK
            }
            // What is unmapped reads as zeroes here, which "undefined" allows.
            BdevOp::UNMAP | BdevOp::WRITE_ZEROES => {
                memory.zero(at, len);
                Status::OK
            }
            _ => Status::INVALID,
        }
    }
}

/// Whether the segments add up to `len` bytes and none is null.
#[inline]
fn covers(segments: &[IoVec], len: usize) -> bool {
    let mut sum = 0usize;
    for segment in segments {
        if segment.ptr.is_null() && segment.len > 0 {
            return false;
        }
        let Some(next) = sum.checked_add(segment.len) else {
            return false;
        };
        sum = next;
    }
    sum == len
}

impl BdevQueue for MallocQueue {
    #[inline]
    unsafe fn submit(&mut self, requests: &[Request]) -> Result<usize, Status> {
        let taken = requests.len().min(self.done.room());
        for request in &requests[..taken] {
            // SAFETY: the caller vouches for the requests.
            let status = unsafe { self.execute(request) };
            self.done.push(Completion {
                tag: request.tag,
                status,
                reserved: 0,
            });
        }
        Ok(taken)
    }

    #[inline]
    fn poll(&mut self, completions: &mut [Completion]) -> Result<usize, Status> {
        Ok(self.done.pop_into(completions))
    }

    fn arm_wait(&mut self) -> Wait {
        // Whatever is outstanding is complete already; without it there is nothing to wait for.
        if self.done.is_empty() {
            Wait::timer(u64::from(u32::MAX))
        } else {
            Wait::BUSY
        }
    }

    fn abort(&mut self, tag: u64) -> Result<(), Status> {
        // An outstanding request is complete already and keeps its result.
        if self.done.contains(tag) {
            Ok(())
        } else {
            Err(Status::NOT_FOUND)
        }
    }
}

impl Drop for MallocQueue {
    fn drop(&mut self) {
        self.storage.queues.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Completions that wait to be polled. Positions only grow; slots are positions modulo the size.
struct Ring {
    slots: Box<[Completion]>,
    depth: usize,
    head: usize,
    tail: usize,
}

impl Ring {
    fn new(depth: u32) -> Self {
        let depth = depth as usize;
        let empty = Completion {
            tag: 0,
            status: Status::OK,
            reserved: 0,
        };
        let slots = vec![empty; depth.next_power_of_two()].into_boxed_slice();
        Self {
            slots,
            depth,
            head: 0,
            tail: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    fn len(&self) -> usize {
        self.tail.wrapping_sub(self.head)
    }

    fn room(&self) -> usize {
        self.depth - self.len()
    }

    fn slot(&self, position: usize) -> usize {
        position & (self.slots.len() - 1)
    }

    #[inline]
    fn push(&mut self, completion: Completion) {
        let slot = self.slot(self.tail);
        self.slots[slot] = completion;
        self.tail = self.tail.wrapping_add(1);
    }

    #[inline]
    fn pop_into(&mut self, out: &mut [Completion]) -> usize {
        let count = self.len().min(out.len());
        let first = self.slot(self.head);
        let until_wrap = count.min(self.slots.len() - first);
        out[..until_wrap].copy_from_slice(&self.slots[first..first + until_wrap]);
        out[until_wrap..count].copy_from_slice(&self.slots[..count - until_wrap]);
        self.head = self.head.wrapping_add(count);
        count
    }

    fn contains(&self, tag: u64) -> bool {
        (0..self.len()).any(|i| self.slots[self.slot(self.head.wrapping_add(i))].tag == tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(tag: u64) -> Completion {
        Completion {
            tag,
            status: Status::OK,
            reserved: 0,
        }
    }

    #[test]
    fn ring_keeps_order_across_wraps_and_stops_at_its_depth() {
        let mut ring = Ring::new(5);
        let mut out = [completion(0); 3];
        let (mut pushed, mut popped) = (0, 0);
        for _ in 0..100 {
            while ring.room() > 0 {
                ring.push(completion(pushed));
                pushed += 1;
            }
            assert_eq!(ring.len(), 5);
            assert!(ring.contains(pushed - 1) && ring.contains(popped) && !ring.contains(pushed));
            assert_eq!(ring.pop_into(&mut out), 3);
            for got in out {
                assert_eq!(got.tag, popped);
                popped += 1;
            }
            assert!(popped == 0 || !ring.contains(popped - 1));
        }
    }
}
