//! Transfers between buffers and the target's share of its block device.
//!
//! A transfer covers all extents of a value, or of several that share a buffer; it is cut into requests that the device can take and
//! ends when the last of them completes. The buffer is with the device in between.

mod change;

use crate::defect::Defect;
use crate::index::value::Extents;
use crate::memory::{Buffer, Scratch};
use daos_plugin_api::abi::{BdevGeometry, BdevOp, Completion, IoVec, Request, Status, Wait};
use daos_plugin_api::host::{BdevDevice, BdevQueue};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most requests that a target has outstanding at its device.
pub const DEPTH: u32 = 128;

/// Completions taken at once.
const BATCH: usize = 32;

/// A slot without a request.
const FREE: u32 = u32::MAX;

/// How often requests are looked at that take long.
pub const TICK: Duration = Duration::from_secs(1);

/// Where the share of a target lies on its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// First byte on the device; a multiple of the unit.
    pub start: u64,
    /// Units of the share.
    pub units: u64,
    /// Bytes of a unit.
    pub unit: u32,
}

/// A transfer that has ended.
pub struct Done {
    /// As given when it began.
    pub user: u64,
    /// Its buffer.
    pub buffer: Buffer,
    /// OK, or the first failure.
    pub status: Status,
}

struct Transfer {
    user: u64,
    buffer: Buffer,
    left: u32,
    status: Status,
}

/// A request that waits for its turn.
#[derive(Clone, Copy)]
struct Piece {
    transfer: u32,
    op: BdevOp,
    flags: u8,
    /// Into the buffer.
    offset: usize,
    len: usize,
    lba: u64,
}

/// A queue and the transfers on it.
pub struct Device {
    // Dropped first: when it is closed the device no longer touches the memory below.
    /// Only after a change that failed for good there is none.
    queue: Option<BdevQueue>,
    share: Share,
    geometry: BdevGeometry,
    iovecs: Box<[IoVec]>,
    scratch: Scratch,
    /// Transfer of each request slot, [`FREE`] while the device has none of it.
    slots: Box<[u32]>,
    /// The tick at which each request was submitted.
    born: Box<[u32]>,
    /// Seconds, roughly, in which the target had time to look.
    tick: u32,
    ticked: Instant,
    free_slots: Vec<u32>,
    transfers: Vec<Option<Transfer>>,
    free_transfers: Vec<u32>,
    backlog: VecDeque<Piece>,
    /// The device with other layers, on which the next queue is opened once nothing is outstanding.
    next: Option<BdevDevice>,
    /// How the last change of queues went.
    changed: Option<Result<(), String>>,
}

impl Device {
    /// Transfers through `queue`, which takes `depth` requests.
    pub fn new(queue: BdevQueue, share: Share, depth: u32) -> Self {
        let geometry = *queue.device().geometry();
        let slots = depth as usize;
        let empty = IoVec {
            ptr: std::ptr::null_mut(),
            len: 0,
        };
        Self {
            queue: Some(queue),
            share,
            geometry,
            iovecs: vec![empty; slots].into_boxed_slice(),
            scratch: Scratch::new(slots, geometry.scratch_size),
            slots: vec![FREE; slots].into_boxed_slice(),
            born: vec![0; slots].into_boxed_slice(),
            tick: 0,
            ticked: Instant::now(),
            free_slots: (0..depth).rev().collect(),
            transfers: Vec::new(),
            free_transfers: Vec::new(),
            backlog: VecDeque::new(),
            next: None,
            changed: None,
        }
    }

    fn queue(&mut self) -> Result<&mut BdevQueue, Status> {
        self.queue.as_mut().ok_or(Status::DEVICE_GONE)
    }

    /// The share.
    pub fn share(&self) -> Share {
        self.share
    }

    /// Units that a value of `len` bytes takes.
    pub fn units_for(&self, len: usize) -> u32 {
        // Values have at most 1 MiB.
        len.div_ceil(self.share.unit as usize) as u32
    }

    /// Whether the device has anything to do.
    pub fn is_busy(&self) -> bool {
        !self.backlog.is_empty() || self.free_slots.len() < self.slots.len() || self.next.is_some()
    }

    /// Writes parts of `buffer`, each from an offset that is a multiple of the unit, to their extents;
    /// as [`Device::write`].
    pub fn write_parts(&mut self, user: u64, buffer: Buffer, parts: &[(usize, Extents)]) {
        let flags = self.write_flags();
        self.begin(BdevOp::WRITE, flags, user, buffer, parts);
    }

    /// Reads parts of `buffer`, each at an offset that is a multiple of the unit, from their extents.
    pub fn read_parts(&mut self, user: u64, buffer: Buffer, parts: &[(usize, Extents)]) {
        self.begin(BdevOp::READ, 0, user, buffer, parts);
    }

    /// Writes the front of `buffer` to `extents`; when it ends without error, the bytes are durable.
    pub fn write(&mut self, user: u64, buffer: Buffer, extents: &Extents) {
        let flags = self.write_flags();
        self.begin(BdevOp::WRITE, flags, user, buffer, &[(0, *extents)]);
    }

    fn write_flags(&self) -> u8 {
        let volatile = self.geometry.flags & BdevGeometry::VOLATILE_CACHE != 0;
        if volatile { Request::FUA } else { 0 }
    }

    /// Reads `extents` to the front of `buffer`.
    pub fn read(&mut self, user: u64, buffer: Buffer, extents: &Extents) {
        self.begin(BdevOp::READ, 0, user, buffer, &[(0, *extents)]);
    }

    fn begin(
        &mut self,
        op: BdevOp,
        flags: u8,
        user: u64,
        buffer: Buffer,
        parts: &[(usize, Extents)],
    ) {
        let unit = self.share.unit as usize;
        let block = self.geometry.block_size as usize;
        let most = (self.geometry.max_transfer_blocks as usize).saturating_mul(block);
        for (offset, extents) in parts {
            assert!(
                offset.is_multiple_of(unit)
                    && offset + extents.units() as usize * unit <= buffer.len(),
                "the buffer has no such part"
            );
        }
        let transfer = self.free_transfers.pop().unwrap_or_else(|| {
            self.transfers.push(None);
            (self.transfers.len() - 1) as u32 // as many as there are buffers
        });
        let mut left = 0;
        for (offset, extents) in parts {
            let mut offset = *offset;
            for extent in extents.as_slice() {
                let mut at = self.share.start + extent.start * unit as u64;
                let end = offset + extent.units as usize * unit;
                while offset < end {
                    let len = most.min(end - offset);
                    self.backlog.push_back(Piece {
                        transfer,
                        op,
                        flags,
                        offset,
                        len,
                        lba: at / block as u64,
                    });
                    left += 1;
                    offset += len;
                    at += len as u64;
                }
            }
        }
        self.transfers[transfer as usize] = Some(Transfer {
            user,
            buffer,
            left,
            status: Status::OK,
        });
    }

    /// Hands waiting requests to the device and appends transfers that have ended to `out`.
    ///
    /// # Errors
    /// If the queue itself fails; transfers under way stay where they are.
    pub fn poll(&mut self, out: &mut Vec<Done>) -> Result<(), Defect> {
        if self.next.is_some() && self.free_slots.len() == self.slots.len() {
            self.go_over();
        }
        self.submit(out)?;
        let mut batch = [Completion {
            tag: 0,
            status: Status::OK,
            reserved: 0,
        }; BATCH];
        while self.free_slots.len() < self.slots.len() {
            let polled = self.queue().and_then(|queue| queue.poll(&mut batch));
            let count = polled.map_err(|status| self.failed("poll", status))?;
            for completion in &batch[..count] {
                let slot = completion.tag as usize; // tags are slot numbers
                let transfer = match self.slots.get_mut(slot) {
                    Some(transfer) if *transfer != FREE => std::mem::replace(transfer, FREE),
                    _ => return Err(self.liar(completion.tag)),
                };
                self.free_slots.push(slot as u32);
                self.piece_done(transfer, completion.status, out);
            }
            if count < BATCH {
                break;
            }
        }
        self.submit(out)
    }

    fn failed(&self, call: &str, status: Status) -> Defect {
        match &self.queue {
            Some(queue) => Defect::failed(queue.device().instance(), call, status),
            None => Defect::gone(),
        }
    }

    /// A plugin that completes what is not under way may have done anything to memory.
    fn liar(&self, tag: u64) -> Defect {
        let what = format!("it completed request {tag}, which is not under way");
        match &self.queue {
            Some(queue) => Defect::lie(queue.device().instance(), "poll", &what),
            None => Defect::gone(),
        }
    }

    /// Looks for requests that the device has had for longer than `patience` seconds: says so and asks to abort
    /// them; after twice that time nothing helps any more.
    ///
    /// # Errors
    /// A sentence about a request that is not even aborted; its memory is the device's until the queue is
    /// closed.
    pub fn watch(&mut self, patience: u32) -> Result<(), String> {
        let now = Instant::now();
        if now.duration_since(self.ticked) < TICK {
            return Ok(());
        }
        self.ticked = now;
        self.tick += 1;
        for slot in 0..self.slots.len() {
            let age = self.tick - self.born[slot];
            if self.slots[slot] == FREE || (age != patience && age < 2 * patience) {
                continue;
            }
            let queue = self.queue.as_ref();
            let plugin = queue.map_or_else(String::new, |queue| {
                format!("plugin {}", queue.device().instance().described())
            });
            if age >= 2 * patience {
                return Err(format!(
                    "{plugin} has not completed a request for {age} s and does not abort it either (call poll)"
                ));
            }
            let answer = self.queue().and_then(|queue| queue.abort(slot as u64));
            tracing::error!("{plugin} has not completed a request for {age} s; abort: {answer:?}");
        }
        Ok(())
    }

    /// How the thread may sleep while the device is busy.
    ///
    /// # Errors
    /// What the plugin says.
    pub fn arm_wait(&mut self) -> Result<Wait, Defect> {
        let wait = self.queue().and_then(BdevQueue::arm_wait);
        wait.map_err(|status| self.failed("arm_wait", status))
    }

    fn submit(&mut self, out: &mut Vec<Done>) -> Result<(), Defect> {
        // What is submitted now would keep a change of queues waiting.
        while self.next.is_none() && !self.backlog.is_empty() && !self.free_slots.is_empty() {
            let mut requests = [EMPTY_REQUEST; BATCH];
            let mut count = 0;
            while count < BATCH
                && let Some(slot) = self
                    .free_slots
                    .get(self.free_slots.len().wrapping_sub(count + 1))
                && let Some(piece) = self.backlog.get(count)
            {
                requests[count] = self.request(*slot, *piece);
                count += 1;
            }
            // SAFETY: the buffer is in `transfers`, iovec and scratch are in boxes of `self` and
            // belong to the slot: all stay until the completion is polled or the queue, which is
            // the first field, is dropped.
            let submit = |queue: &mut BdevQueue| unsafe { queue.submit(&requests[..count]) };
            let taken = match self.queue().and_then(submit) {
                Ok(taken) => taken,
                // It may have taken requests all the same, and their memory with them; after a panic it takes none any more.
                Err(status @ (Status::INTERNAL | Status::PANIC | Status::POISONED)) => {
                    return Err(self.failed("submit", status));
                }
                Err(status) => {
                    // The queue takes nothing any more: what waits fails, what is out will complete.
                    while let Some(piece) = self.backlog.pop_front() {
                        self.piece_done(piece.transfer, status, out);
                    }
                    return Ok(());
                }
            };
            for request in &requests[..taken] {
                self.free_slots.pop();
                if let Some(piece) = self.backlog.pop_front() {
                    self.slots[request.tag as usize] = piece.transfer;
                    self.born[request.tag as usize] = self.tick;
                }
            }
            if taken < count {
                break;
            }
        }
        Ok(())
    }

    fn request(&mut self, slot: u32, piece: Piece) -> Request {
        let buffer = self.transfers[piece.transfer as usize].as_ref();
        let start = buffer.map_or(std::ptr::null_mut(), |t| t.buffer.ptr());
        let iov = &mut self.iovecs[slot as usize];
        *iov = IoVec {
            ptr: start.wrapping_add(piece.offset),
            len: piece.len,
        };
        Request {
            op: piece.op,
            flags: piece.flags,
            reserved: 0,
            iov_count: 1,
            lba: piece.lba,
            blocks: (piece.len / self.geometry.block_size as usize) as u64,
            iov,
            tag: u64::from(slot),
            scratch: self.scratch.slot(slot as usize),
        }
    }

    fn piece_done(&mut self, transfer: u32, status: Status, out: &mut Vec<Done>) {
        let place = &mut self.transfers[transfer as usize];
        let Some(running) = place else { return };
        if running.status.is_ok() {
            running.status = status;
        }
        running.left -= 1;
        if running.left == 0
            && let Some(ended) = place.take()
        {
            self.free_transfers.push(transfer);
            out.push(Done {
                user: ended.user,
                buffer: ended.buffer,
                status: ended.status,
            });
        }
    }
}

const EMPTY_REQUEST: Request = Request {
    op: BdevOp::READ,
    flags: 0,
    reserved: 0,
    iov_count: 0,
    lba: 0,
    blocks: 0,
    iov: std::ptr::null(),
    tag: 0,
    scratch: std::ptr::null_mut(),
};
