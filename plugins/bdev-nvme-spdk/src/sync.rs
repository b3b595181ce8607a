//! One request at a time on a queue of its own, for the control face.

use crate::device::SpdkDevice;
use crate::env;
use crate::queue::SpdkQueue;
use crate::task::SCRATCH_SIZE;
use daos_plugin_api::abi::{BdevOp, Completion, IoVec, Request, Status};
use daos_plugin_api::sdk::{Bdev, BdevQueue, CallContext, Error, Result};
use std::time::{Duration, Instant};

/// Bytes of memory for data.
pub(crate) const WINDOW: usize = 1 << 20;

/// Longest time for one command; deallocating gigabytes takes some drives tens of seconds.
const PATIENCE: Duration = Duration::from_secs(120);

#[repr(align(64))]
struct Scratch([u8; SCRATCH_SIZE as usize]);

/// A queue with memory. What it returns refers to nothing any more.
pub(crate) struct Sync<'a> {
    // The queue goes first: what a request that was given up may still use stays until then.
    queue: Option<SpdkQueue>,
    memory: *mut u8,
    scratch: Box<Scratch>,
    iov: Box<IoVec>,
    call: CallContext<'a>,
    name: String,
    block_size: u32,
    max_transfer: u64,
}

impl<'a> Sync<'a> {
    /// Opens a queue on a device, on this thread.
    pub(crate) fn open(call: CallContext<'a>, device: &SpdkDevice) -> Result<Self> {
        let geometry = device.geometry();
        let memory = env::allocate(WINDOW, geometry.numa_node)?;
        let mut sync = Self {
            queue: None,
            memory,
            scratch: Box::new(Scratch([0; SCRATCH_SIZE as usize])),
            iov: Box::new(IoVec {
                ptr: memory,
                len: 0,
            }),
            call,
            name: device.name().to_owned(),
            block_size: geometry.block_size,
            max_transfer: u64::from(geometry.max_transfer_blocks),
        };
        sync.queue = Some(device.open_queue(call, 1)?);
        Ok(sync)
    }

    /// The memory that transfers move.
    pub(crate) fn buffer(&mut self) -> &mut [u8] {
        // SAFETY: allocated in `open` with this length; no request is outstanding between calls, and one that
        // was given up has taken the queue with it.
        unsafe { std::slice::from_raw_parts_mut(self.memory, WINDOW) }
    }

    /// Moves blocks to or from the start of the buffer, in as many requests as it takes.
    pub(crate) fn transfer(&mut self, op: BdevOp, lba: u64, blocks: u64) -> Result<()> {
        let mut done = 0;
        while done < blocks {
            let count = self.max_transfer.min(blocks - done);
            let block = u64::from(self.block_size);
            self.iov.ptr = self.memory.wrapping_add((done * block) as usize);
            self.iov.len = (count * block) as usize;
            self.request(op, lba + done, count, 1)?;
            done += count;
        }
        Ok(())
    }

    /// A request without data.
    pub(crate) fn run(&mut self, op: BdevOp, lba: u64, blocks: u64) -> Result<()> {
        self.request(op, lba, blocks, 0)
    }

    fn request(&mut self, op: BdevOp, lba: u64, blocks: u64, iov_count: u32) -> Result<()> {
        let what = format!("{op:?} of {blocks} blocks at {lba} of {}", self.name);
        let Some(queue) = &mut self.queue else {
            return Err(Error::new(Status::IO, what).cause("an earlier request did not end"));
        };
        let request = Request {
            op,
            flags: 0,
            reserved: 0,
            iov_count,
            lba,
            blocks,
            iov: &*self.iov,
            tag: 0,
            scratch: self.scratch.0.as_mut_ptr(),
        };
        // SAFETY: memory, vector and scratch are this object's and stay until the completion or the queue's end.
        let taken = unsafe { queue.submit(&[request]) };
        if taken != Ok(1) {
            let status = taken.err().unwrap_or(Status::IO);
            return Err(Error::new(status, what).cause("the queue does not take it"));
        }
        let begun = Instant::now();
        let mut room = [Completion {
            tag: 0,
            status: Status::OK,
            reserved: 0,
        }];
        loop {
            let status = match queue.poll(&mut room) {
                Ok(0) if self.call.cancelled() => Status::CANCELLED,
                Ok(0) if begun.elapsed() > PATIENCE => Status::TIMED_OUT,
                Ok(0) => {
                    std::thread::sleep(Duration::from_micros(50));
                    continue;
                }
                Ok(_) if room[0].status.is_ok() => return Ok(()),
                Ok(_) => return Err(Error::new(room[0].status, what).cause(room[0].status.name())),
                Err(status) => status,
            };
            // It is still with the device: closing the queue ends that.
            self.queue = None;
            return Err(Error::new(status, what).cause(status.name()));
        }
    }
}

impl Drop for Sync<'_> {
    fn drop(&mut self) {
        self.queue = None;
        // SAFETY: allocated in `open`; the queue that could use it is gone.
        unsafe { env::free(self.memory) };
    }
}
