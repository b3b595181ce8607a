//! Blocking I/O on a block device, for labels, signatures and tests: one request at a time.

use super::{BdevDevice, BdevQueue, CallOptions, PoolMemory, ThreadGuard};
use crate::abi::{BdevOp, Completion, IoVec, Request, Status, WaitKind};
use crate::sdk::Error;
use std::time::{Duration, Instant};

/// Blocking access to a device through a queue and a bounce buffer of its own. Offsets and lengths
/// are in bytes and multiples of the block size.
pub struct SyncBdev {
    // Order matters: the queue goes before the memory it may still use.
    queue: BdevQueue,
    memory: PoolMemory,
    scratch: Vec<u64>,
    timeout: Duration,
    _thread: ThreadGuard,
}

impl SyncBdev {
    /// Opens a queue on the calling thread. Each request may take up to `timeout`.
    pub fn new(device: &BdevDevice, timeout: Duration) -> Result<Self, Error> {
        let thread = device.instance().attach_thread()?;
        let memory = device.allocate(2 << 20)?;
        let queue = device.open_queue(1, CallOptions::default())?;
        // u64 words, 64-byte aligned by hand below.
        let scratch = vec![0u64; device.geometry().scratch_size as usize / 8 + 16];
        Ok(Self {
            queue,
            memory,
            scratch,
            timeout,
            _thread: thread,
        })
    }

    /// The device.
    pub fn device(&self) -> &BdevDevice {
        self.queue.device()
    }

    fn chunk(&self) -> usize {
        let g = self.device().geometry();
        let limit = g.max_transfer_blocks as usize * g.block_size as usize;
        limit.min(self.memory.len())
    }

    /// Reads `out.len()` bytes at `offset`.
    pub fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let chunk = self.chunk();
        for (i, part) in out.chunks_mut(chunk).enumerate() {
            self.transfer(BdevOp::READ, 0, offset + (i * chunk) as u64, part.len())?;
            // SAFETY: the request is complete, the memory is ours and long enough.
            unsafe {
                std::ptr::copy_nonoverlapping(self.memory.ptr(), part.as_mut_ptr(), part.len())
            };
        }
        Ok(())
    }

    /// Writes `data` at `offset`; durable on return.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let chunk = self.chunk();
        for (i, part) in data.chunks(chunk).enumerate() {
            // SAFETY: nothing is outstanding, the memory is ours and long enough.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), self.memory.ptr(), part.len()) };
            self.transfer(
                BdevOp::WRITE,
                Request::FUA,
                offset + (i * chunk) as u64,
                part.len(),
            )?;
        }
        Ok(())
    }

    /// Makes all completed writes durable.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.transfer(BdevOp::FLUSH, 0, 0, 0)
    }

    fn transfer(&mut self, op: BdevOp, flags: u8, offset: u64, len: usize) -> Result<(), Error> {
        let block = u64::from(self.device().geometry().block_size);
        if !offset.is_multiple_of(block) || !(len as u64).is_multiple_of(block) {
            return Err(Error::new(
                Status::INVALID,
                format!("{len} bytes at {offset} are not whole blocks"),
            ));
        }
        let iov = IoVec {
            ptr: self.memory.ptr(),
            len,
        };
        let scratch = self.scratch.as_mut_ptr().cast::<u8>();
        let request = Request {
            op,
            flags,
            reserved: 0,
            iov_count: u32::from(len > 0),
            lba: offset / block,
            blocks: len as u64 / block,
            iov: &iov,
            tag: 1,
            // The vector has 128 bytes more than asked for, so aligning up stays inside.
            scratch: scratch.wrapping_add(scratch.align_offset(64)),
        };
        let give_up = Instant::now() + self.timeout;
        let describe = |status: Status| {
            let verb = match op {
                BdevOp::READ => "read",
                BdevOp::WRITE => "write",
                _ => "flush",
            };
            Error::new(
                status,
                format!("cannot {verb} {len} bytes at byte {offset}"),
            )
            .cause(status.name())
        };
        // SAFETY: iovec, memory and scratch live until the completion below; on a timeout the
        // process is about to fail the operation and `Drop` closes the queue before the memory.
        while unsafe { self.queue.submit(&[request]) }.map_err(describe)? == 0 {
            if Instant::now() > give_up {
                return Err(describe(Status::TIMED_OUT));
            }
        }
        let mut done = [Completion {
            tag: 0,
            status: Status::OK,
            reserved: 0,
        }];
        loop {
            if self.queue.poll(&mut done).map_err(describe)? == 1 {
                return if done[0].status.is_ok() {
                    Ok(())
                } else {
                    Err(describe(done[0].status))
                };
            }
            if Instant::now() > give_up {
                // The device may still touch iovec and scratch of this frame: wait for the abort.
                let _ = self.queue.abort(1);
                while self.queue.poll(&mut done).map_err(describe)? == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                return Err(describe(Status::TIMED_OUT));
            }
            if self.queue.arm_wait().map_err(describe)?.kind != WaitKind::BUSY {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
    }
}
