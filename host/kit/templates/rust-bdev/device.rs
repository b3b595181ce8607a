//! The data face: a device of memory, whose requests complete when they are submitted. All unsafe code
//! of this plugin is here.

use crate::OpenOnes;
use daos_plugin_api::abi::{BdevGeometry, BdevOp, Completion, IoVec, Request, Status, Wait};
use daos_plugin_api::control::DeviceRecord;
use daos_plugin_api::sdk::{Bdev, BdevQueue, CallContext, Error, Result};
use std::alloc::Layout;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};

const BLOCK: u64 = 512;
const MOST_BLOCKS: u32 = 2048;
const MOST_SEGMENTS: u32 = 64;
const MOST_QUEUES: u32 = 16;
const DEPTH: u32 = 256;

/// The device's contents.
struct Contents {
    ptr: *mut u8,
    layout: Layout,
}

// SAFETY: plain memory; concurrent requests for the same blocks have no defined outcome, as on any disk.
unsafe impl Send for Contents {}
// SAFETY: as above.
unsafe impl Sync for Contents {}

impl Drop for Contents {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { std::alloc::dealloc(self.ptr, self.layout) }
    }
}

/// What a device shares with its queues.
struct Shared {
    contents: Contents,
    blocks: u64,
    queues: AtomicU32,
}

/// An open device.
pub struct Device {
    shared: Arc<Shared>,
    address: String,
    open: OpenOnes,
}

/// Closes the name of a device that could not be opened.
struct Name(Option<(OpenOnes, String)>);

impl Drop for Name {
    fn drop(&mut self) {
        if let Some((open, address)) = self.0.take() {
            open.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&address);
        }
    }
}

impl Device {
    pub(crate) fn open(open: OpenOnes, address: String, bytes: u64) -> Result<Self> {
        let mut name = Name(Some((open, address)));
        let no_memory = || Error::new(Status::NO_MEMORY, format!("no {bytes} bytes of memory"));
        let size = usize::try_from(bytes).map_err(|_| no_memory())?;
        let layout = Layout::from_size_align(size, 4096).map_err(|_| no_memory())?;
        // SAFETY: the size is not 0.
        let ptr = unsafe { std::alloc::alloc_zeroed(layout) };
        if ptr.is_null() {
            return Err(no_memory());
        }
        let (open, address) = name.0.take().expect("taken here only");
        Ok(Self {
            shared: Arc::new(Shared {
                contents: Contents { ptr, layout },
                blocks: bytes / BLOCK,
                queues: AtomicU32::new(0),
            }),
            address,
            open,
        })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        drop(Name(Some((
            Arc::clone(&self.open),
            std::mem::take(&mut self.address),
        ))));
    }
}

impl Bdev for Device {
    type Queue = Queue;

    /// What the device is like; stays the same while it is open.
    fn geometry(&self) -> BdevGeometry {
        BdevGeometry {
            block_size: BLOCK as u32,
            buffer_alignment: 1,
            block_count: self.shared.blocks,
            max_transfer_blocks: MOST_BLOCKS,
            max_segments: MOST_SEGMENTS,
            atomic_write_blocks: 1,
            deallocate_granularity: 0,
            max_queues: MOST_QUEUES,
            max_queue_depth: DEPTH,
            scratch_size: 0,
            numa_node: -1,
            admin_poll_us: 0,
            reserved: 0,
            flags: BdevGeometry::WRITE_ZEROES | BdevGeometry::EPHEMERAL,
        }
    }

    /// Called by the thread that will use the queue.
    fn open_queue(&self, _call: CallContext<'_>, depth: u32) -> Result<Queue> {
        if !(1..=DEPTH).contains(&depth) {
            return Err(Error::new(
                Status::INVALID,
                format!("the depth is 1 to {DEPTH}"),
            ));
        }
        if self.shared.queues.fetch_add(1, Ordering::SeqCst) >= MOST_QUEUES {
            self.shared.queues.fetch_sub(1, Ordering::SeqCst);
            return Err(Error::new(
                Status::BUSY,
                format!("{MOST_QUEUES} queues are open"),
            ));
        }
        Ok(Queue {
            shared: Arc::clone(&self.shared),
            depth: depth as usize,
            done: VecDeque::with_capacity(depth as usize),
        })
    }

    fn identity(&self, _call: CallContext<'_>) -> Result<DeviceRecord> {
        let size = self.shared.blocks * BLOCK;
        Ok(crate::record(&self.address, size, BLOCK as u32))
    }
}

/// A queue: used by one thread, so there are no locks.
pub struct Queue {
    shared: Arc<Shared>,
    depth: usize,
    done: VecDeque<Completion>,
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.queues.fetch_sub(1, Ordering::SeqCst);
    }
}

impl BdevQueue for Queue {
    unsafe fn submit(&mut self, requests: &[Request]) -> Result<usize, Status> {
        let room = self.depth - self.done.len();
        for request in requests.iter().take(room) {
            // SAFETY: the host keeps the request's memory valid until its completion is polled.
            let status = unsafe { self.shared.execute(request) };
            self.done.push_back(Completion {
                tag: request.tag,
                status,
                reserved: 0,
            });
        }
        Ok(requests.len().min(room))
    }

    fn poll(&mut self, completions: &mut [Completion]) -> Result<usize, Status> {
        let count = completions.len().min(self.done.len());
        for (out, done) in completions.iter_mut().zip(self.done.drain(..count)) {
            *out = done;
        }
        Ok(count)
    }

    /// Everything completes at once: whoever asks has something to poll.
    fn arm_wait(&mut self) -> Wait {
        Wait::BUSY
    }
}

impl Shared {
    /// # Safety
    /// The request's memory is valid.
    unsafe fn execute(&self, request: &Request) -> Status {
        let is_data = request.op == BdevOp::READ || request.op == BdevOp::WRITE;
        match request.op {
            // There is no cache: what completed is as durable as it gets.
            BdevOp::FLUSH => return Status::OK,
            BdevOp::WRITE_ZEROES => {}
            _ if is_data => {}
            _ => return Status::NOT_SUPPORTED,
        }
        let end = request.lba.checked_add(request.blocks);
        if request.blocks == 0 || end.is_none_or(|end| end > self.blocks) {
            return Status::INVALID;
        }
        let start = (request.lba * BLOCK) as usize;
        let len = (request.blocks * BLOCK) as usize;
        if !is_data {
            // SAFETY: the range is inside the contents.
            unsafe { self.contents.ptr.add(start).write_bytes(0, len) };
            return Status::OK;
        }
        if request.blocks > u64::from(MOST_BLOCKS) || request.iov_count > MOST_SEGMENTS {
            return Status::INVALID;
        }
        let segments: &[IoVec] = if request.iov_count == 0 {
            &[]
        } else {
            // SAFETY: the host's array of that many entries.
            unsafe { std::slice::from_raw_parts(request.iov, request.iov_count as usize) }
        };
        // Everything is checked before the first byte moves.
        let sum = segments
            .iter()
            .try_fold(0usize, |sum, s| sum.checked_add(s.len));
        if sum != Some(len) {
            return Status::INVALID;
        }
        let mut at = start;
        for segment in segments {
            // SAFETY: `len` bytes from `start` are inside the contents, and the segments add up to
            // `len`; the host's memory is its own.
            unsafe {
                let here = self.contents.ptr.add(at);
                if request.op == BdevOp::READ {
                    std::ptr::copy_nonoverlapping(here, segment.ptr, segment.len);
                } else {
                    std::ptr::copy_nonoverlapping(segment.ptr, here, segment.len);
                }
            }
            at += segment.len;
        }
        Status::OK
    }
}
