//! A queue with its memory: requests of one buffer each, under way in numbered slots.
//!
//! The only unsafe code of this crate. What makes it sound: memory, vectors and scratch live as long as the queue and
//! are not moved; a slot's memory is handed out only while nothing is under way on it; who completes what was not
//! submitted is believed nothing.
#![allow(unsafe_code)]

use daos_plugin_api::abi::{BdevOp, Completion, IoVec, Request, Status, WaitKind};
use daos_plugin_api::host::{BdevDevice, BdevQueue, CallOptions, PoolMemory};
use daos_plugin_api::sdk::Error;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Scratch of a request is aligned to this.
const ALIGN: usize = 64;

/// A queue with so many slots. Stays on the thread that made it.
pub(crate) struct Io {
    // Order matters: the queue goes before what its requests point to.
    queue: BdevQueue,
    memory: PoolMemory,
    iovs: Vec<IoVec>,
    scratch: Vec<u8>,
    stride: usize,
    busy: Vec<bool>,
    slot_bytes: usize,
    block_size: u32,
    done: Vec<Completion>,
}

impl Io {
    /// Opens a queue with `slots` slots of `slot_bytes` bytes.
    ///
    /// # Errors
    /// What the plugin says about memory or queue.
    pub(crate) fn open(device: &BdevDevice, slots: u32, slot_bytes: u32) -> Result<Self, Error> {
        let geometry = *device.geometry();
        // Each slot as aligned as the memory is for any sane device.
        let slot_bytes =
            (slot_bytes as usize).next_multiple_of(geometry.buffer_alignment.max(4096) as usize);
        let memory = device.allocate(slot_bytes * slots as usize)?;
        let queue = device.open_queue(slots, CallOptions::default())?;
        let stride = (geometry.scratch_size as usize).next_multiple_of(ALIGN);
        let none = IoVec {
            ptr: std::ptr::null_mut(),
            len: 0,
        };
        let nothing = Completion {
            tag: 0,
            status: Status::OK,
            reserved: 0,
        };
        Ok(Self {
            queue,
            memory,
            iovs: vec![none; slots as usize],
            scratch: vec![0; stride * slots as usize + ALIGN],
            stride,
            busy: vec![false; slots as usize],
            slot_bytes,
            block_size: geometry.block_size,
            done: vec![nothing; slots as usize],
        })
    }

    /// A slot on which nothing is under way.
    pub(crate) fn free(&self) -> Option<usize> {
        self.busy.iter().position(|busy| !busy)
    }

    /// Requests under way.
    pub(crate) fn under_way(&self) -> usize {
        self.busy.iter().filter(|busy| **busy).count()
    }

    /// The first `len` bytes of a slot's memory.
    ///
    /// # Panics
    /// A request is under way on the slot, or has not so much memory.
    pub(crate) fn buffer(&mut self, slot: usize, len: usize) -> &mut [u8] {
        assert!(!self.busy[slot] && len <= self.slot_bytes);
        let start = self.memory.ptr().wrapping_add(slot * self.slot_bytes);
        // SAFETY: within the memory, which is initialised (it comes zeroed), ours alone while nothing is under way,
        // and borrowed with `self`.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// Submits a request on a slot. `false` = the queue is full; nothing has happened.
    ///
    /// # Panics
    /// A request is under way on the slot.
    pub(crate) fn submit(
        &mut self,
        slot: usize,
        op: BdevOp,
        lba: u64,
        bytes: usize,
    ) -> Result<bool, Status> {
        assert!(!self.busy[slot] && bytes <= self.slot_bytes);
        self.iovs[slot] = IoVec {
            ptr: self.memory.ptr().wrapping_add(slot * self.slot_bytes),
            len: bytes,
        };
        let scratch = self.scratch.as_mut_ptr();
        let scratch = scratch.wrapping_add(scratch.align_offset(ALIGN) + slot * self.stride);
        let request = Request {
            op,
            flags: 0,
            reserved: 0,
            iov_count: u32::from(bytes > 0),
            lba,
            blocks: bytes as u64 / u64::from(self.block_size),
            iov: &raw const self.iovs[slot],
            tag: slot as u64,
            scratch: if self.stride == 0 {
                std::ptr::null_mut()
            } else {
                scratch
            },
        };
        // SAFETY: vector, memory and scratch of the slot stay where they are and are left alone while it is busy, which
        // lasts until its completion is polled; the queue is dropped before them.
        let taken = unsafe { self.queue.submit(&[request]) }? == 1;
        self.busy[slot] = taken;
        Ok(taken)
    }

    /// Takes what has ended: slots with their outcomes.
    ///
    /// # Errors
    /// What the queue says, or INTERNAL if something ended that was not under way.
    pub(crate) fn poll(&mut self) -> Result<Vec<(usize, Status)>, Status> {
        let count = self.queue.poll(&mut self.done)?;
        let mut ended = Vec::with_capacity(count);
        for completion in &self.done[..count] {
            let slot = usize::try_from(completion.tag)
                .ok()
                .filter(|slot| self.busy.get(*slot) == Some(&true));
            let slot = slot.ok_or(Status::INTERNAL)?;
            self.busy[slot] = false;
            ended.push((slot, completion.status));
        }
        Ok(ended)
    }

    /// Asks to abort what is under way on a slot; its memory stays with the device until it has ended.
    pub(crate) fn abort(&mut self, slot: usize) {
        // Devices without this end it in their own time.
        let _ = self.queue.abort(slot as u64);
    }

    /// Makes the queue usable after a reset.
    pub(crate) fn reconnect(&mut self) -> Result<(), Status> {
        self.queue.reconnect()
    }

    /// Sleeps until something may have ended, at most `longest`.
    pub(crate) fn wait(&mut self, longest: Duration) {
        let Ok(wait) = self.queue.arm_wait() else {
            return std::thread::sleep(longest.min(Duration::from_millis(1)));
        };
        let limit = match wait.timeout_us {
            0 => longest,
            us => longest.min(Duration::from_micros(us)),
        };
        match wait.kind {
            WaitKind::FD => {
                // SAFETY: the descriptor belongs to the queue, which lives through the call.
                let fd = unsafe { BorrowedFd::borrow_raw(wait.fd) };
                let ms = u16::try_from(limit.as_millis()).unwrap_or(u16::MAX).max(1);
                // Who is woken early polls in vain.
                let _ = poll(
                    &mut [PollFd::new(fd, PollFlags::POLLIN)],
                    PollTimeout::from(ms),
                );
            }
            WaitKind::TIMER => std::thread::sleep(limit),
            // A slow load needs no spinning thread.
            _ => std::thread::sleep(longest.min(Duration::from_micros(20))),
        }
    }
}
