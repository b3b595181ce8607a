//! The queue of a device that fails at will.
//!
//! Some faults take a second request: a flipped bit of a write is written over what was written, a torn block
//! is first read. Those wait in a backlog until the device takes them, as does what it has refused.

use super::{Faults, memory};
use crate::slots::{BATCH, EMPTY, Slots};
use crate::spec::{Action, StatusWord};
use daos_plugin_api::abi::{BdevOp, Completion, IoVec, Request, Status, Wait};
use daos_plugin_api::host::{self, PoolMemory};
use daos_plugin_api::sdk::BdevQueue;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Smallest part of a block that a torn write leaves behind.
const SECTOR: usize = 512;

/// What a completion from below leads to.
#[derive(Clone, Copy)]
enum Next {
    /// The caller is told what it says.
    Tell,
    /// The caller is told this if all went well.
    TellAs(Status),
    /// A bit of what was read is flipped.
    FlipRead(u64),
    /// A block with a flipped bit is written over what was written.
    FlipWritten(u64),
    /// The front of the only block is put over what was read, and written.
    Tear(u64, Status),
}

struct Under {
    /// As the caller gave it.
    request: Request,
    next: Next,
}

/// A queue that fails at will.
pub(crate) struct FaultyQueue {
    // First: once it is closed nobody touches the memory below.
    queue: host::BdevQueue,
    faults: Arc<Faults>,
    slots: Slots<Under>,
    /// Requests for the device that it has not taken yet.
    backlog: VecDeque<Request>,
    outstanding: usize,
    /// Slots and what their callers are told when they poll.
    told: VecDeque<(u64, Status)>,
    batch: Vec<Request>,
    /// A block per slot.
    memory: Option<PoolMemory>,
    /// The memory of requests of the layer's own, a list per slot.
    iovecs: Vec<Vec<IoVec>>,
    block: usize,
}

impl FaultyQueue {
    pub(super) fn new(
        queue: host::BdevQueue,
        faults: Arc<Faults>,
        depth: u32,
        memory: Option<PoolMemory>,
    ) -> Self {
        let block = queue.device().geometry().block_size as usize;
        Self {
            queue,
            faults,
            slots: Slots::new(depth),
            backlog: VecDeque::with_capacity(depth as usize),
            outstanding: 0,
            told: VecDeque::with_capacity(depth as usize),
            batch: Vec::with_capacity(depth as usize),
            memory,
            iovecs: (0..depth).map(|_| Vec::new()).collect(),
            block,
        }
    }

    fn tell(&mut self, slot: u64, status: Status) {
        self.told.push_back((slot, status));
    }

    /// Starts a request: what goes to the device, or what the caller is told.
    fn start(&mut self, slot: u32, request: &Request) {
        let forwarded = Request {
            tag: slot.into(),
            ..*request
        };
        if self.faults.is_removed() {
            return self.tell(slot.into(), Status::DEVICE_GONE);
        }
        // Malformed requests are the device's to refuse.
        let faults = Arc::clone(&self.faults);
        let Some((rule, random)) = self
            .well_formed(request)
            .then(|| faults.decide(request))
            .flatten()
        else {
            return self.backlog.push_back(forwarded);
        };
        let word = rule.status.map(StatusWord::code);
        match rule.action {
            Action::Error => self.tell(slot.into(), word.unwrap_or(Status::IO)),
            Action::Drop => self.tell(slot.into(), word.unwrap_or(Status::OK)),
            Action::Remove => {
                self.faults.removed.store(true, Ordering::Release);
                self.tell(slot.into(), Status::DEVICE_GONE);
            }
            Action::Flip => {
                let bit = random % (request.blocks * self.block as u64 * 8);
                let next = match request.op {
                    BdevOp::READ => Next::FlipRead(bit),
                    _ => Next::FlipWritten(bit),
                };
                self.send(slot, next, forwarded);
            }
            Action::Torn => self.tear(slot, random, word.unwrap_or(Status::OK), forwarded),
        }
    }

    /// Whether the request's memory is what its length says.
    fn well_formed(&self, request: &Request) -> bool {
        let has_data = [BdevOp::READ, BdevOp::WRITE, BdevOp::COMPARE].contains(&request.op);
        // SAFETY: whoever submitted it vouches for the array until its completion.
        let len = unsafe { memory::len(request) };
        let geometry = self.queue.device().geometry();
        let in_range = request
            .lba
            .checked_add(request.blocks)
            .is_some_and(|end| end <= geometry.block_count);
        in_range
            && (request.op == BdevOp::FLUSH || request.blocks > 0)
            && (!has_data || request.blocks.checked_mul(self.block as u64) == Some(len))
    }

    fn send(&mut self, slot: u32, next: Next, request: Request) {
        if let Some(under) = self.slots.get_mut(slot.into()) {
            under.next = next;
        }
        self.backlog.push_back(request);
    }

    /// A write of which only the front reaches the device.
    fn tear(&mut self, slot: u32, random: u64, report: Status, request: Request) {
        if request.blocks > 1 {
            let blocks = 1 + random % (request.blocks - 1);
            let pieces = &mut self.iovecs[slot as usize];
            pieces.clear();
            // SAFETY: whoever submitted it vouches for the array until its completion.
            unsafe { memory::front(&request, blocks * self.block as u64, pieces) };
            let short = Request {
                blocks,
                iov: pieces.as_ptr(),
                iov_count: pieces.len() as u32, // at most the request's
                ..request
            };
            return self.send(slot, Next::TellAs(report), short);
        }
        if self.block == SECTOR {
            // Nothing smaller than a sector is torn: it is dropped.
            return self.tell(slot.into(), report);
        }
        let read = self.own_request(slot, &request, BdevOp::READ, request.lba);
        self.send(slot, Next::Tear(random, report), read);
    }

    /// A request about one block, with the layer's memory.
    fn own_request(&mut self, slot: u32, like: &Request, op: BdevOp, lba: u64) -> Request {
        let start = self
            .memory
            .as_ref()
            .map_or(std::ptr::null_mut(), PoolMemory::ptr);
        let pieces = &mut self.iovecs[slot as usize];
        pieces.clear();
        pieces.push(IoVec {
            ptr: start.wrapping_add(slot as usize * self.block),
            len: self.block,
        });
        Request {
            op,
            flags: if op == BdevOp::READ { 0 } else { like.flags },
            lba,
            blocks: 1,
            iov: pieces.as_ptr(),
            iov_count: 1,
            tag: slot.into(),
            ..*like
        }
    }

    /// The layer's block of a slot.
    fn own_block(&mut self, slot: u32) -> Option<&mut [u8]> {
        let memory = self.memory.as_ref()?.ptr();
        // SAFETY: the memory has a block per slot; the request that used this one has completed.
        Some(unsafe { memory::block(memory, slot as usize, self.block) })
    }

    /// Goes on with a request that the device has completed.
    fn on_completion(&mut self, completion: Completion) -> Result<(), Status> {
        let slot = completion.tag as u32; // checked by the look-up
        let under = self.slots.get_mut(completion.tag).ok_or(Status::INTERNAL)?;
        let (request, next) = (under.request, under.next);
        under.next = Next::Tell;
        let status = completion.status;
        if self.faults.is_removed() {
            self.tell(completion.tag, Status::DEVICE_GONE);
            return Ok(());
        }
        match next {
            _ if !status.is_ok() => self.tell(completion.tag, status),
            Next::Tell => self.tell(completion.tag, status),
            Next::TellAs(status) => self.tell(completion.tag, status),
            Next::FlipRead(bit) => {
                // SAFETY: the device is done with the memory, and the caller does not touch it before it
                // is told.
                unsafe { memory::flip(&request, bit) };
                self.tell(completion.tag, status);
            }
            Next::FlipWritten(bit) => {
                let bits = self.block as u64 * 8;
                let (block, bit) = (bit / bits, bit % bits);
                let at = block * self.block as u64;
                if let Some(own) = self.own_block(slot) {
                    // SAFETY: the memory is the caller's promise until it is told, and long enough.
                    unsafe { memory::gather(&request, at, own) };
                    own[(bit / 8) as usize] ^= 1 << (bit % 8);
                    let write =
                        self.own_request(slot, &request, BdevOp::WRITE, request.lba + block);
                    self.send(slot, Next::Tell, write);
                } else {
                    self.tell(completion.tag, status);
                }
            }
            Next::Tear(random, report) => {
                let sectors = (self.block / SECTOR) as u64;
                let front = SECTOR * (1 + random % (sectors - 1)) as usize;
                if let Some(own) = self.own_block(slot) {
                    // SAFETY: as above.
                    unsafe { memory::gather(&request, 0, &mut own[..front]) };
                    let write = self.own_request(slot, &request, BdevOp::WRITE, request.lba);
                    self.send(slot, Next::TellAs(report), write);
                } else {
                    self.tell(completion.tag, report);
                }
            }
        }
        Ok(())
    }

    /// Hands the backlog to the device, as much as it takes.
    fn pump(&mut self) {
        if self.faults.is_removed() {
            for refused in std::mem::take(&mut self.backlog) {
                self.tell(refused.tag, Status::DEVICE_GONE);
            }
        }
        while !self.backlog.is_empty() {
            self.batch.clear();
            self.batch.extend(self.backlog.iter().take(BATCH));
            // SAFETY: what callers' requests name lives until they are told, what the layer's own name
            // belongs to their slot and lives as long as the queue.
            match unsafe { self.queue.submit(&self.batch) } {
                Ok(taken) => {
                    self.outstanding += taken;
                    self.backlog.drain(..taken);
                    if taken < self.batch.len() {
                        return;
                    }
                }
                Err(status) => {
                    for refused in std::mem::take(&mut self.backlog) {
                        self.tell(refused.tag, status);
                    }
                }
            }
        }
    }
}

impl BdevQueue for FaultyQueue {
    unsafe fn submit(&mut self, requests: &[Request]) -> Result<usize, Status> {
        let mut taken = 0;
        for request in requests {
            let under = Under {
                request: *request,
                next: Next::Tell,
            };
            let Some(slot) = self.slots.take(request.tag, under) else {
                break;
            };
            self.start(slot, request);
            taken += 1;
        }
        self.pump();
        Ok(taken)
    }

    fn poll(&mut self, out: &mut [Completion]) -> Result<usize, Status> {
        while self.outstanding > 0 {
            let mut done = [EMPTY; BATCH];
            let count = self.queue.poll(&mut done)?;
            for completion in &done[..count] {
                self.outstanding -= 1;
                self.on_completion(*completion)?;
            }
            if count < BATCH {
                break;
            }
        }
        self.pump();
        let mut count = 0;
        while count < out.len()
            && let Some((slot, status)) = self.told.pop_front()
        {
            let (tag, _) = self.slots.release(slot).ok_or(Status::INTERNAL)?;
            out[count] = Completion {
                tag,
                status,
                reserved: 0,
            };
            count += 1;
        }
        Ok(count)
    }

    fn arm_wait(&mut self) -> Wait {
        if !self.told.is_empty() || self.outstanding == 0 {
            // What is told needs no waiting; a backlog that the device refuses while it has nothing is tried
            // again at once.
            return if self.told.is_empty() && self.backlog.is_empty() {
                Wait::timer(1000)
            } else {
                Wait::BUSY
            };
        }
        self.queue.arm_wait().unwrap_or(Wait::BUSY)
    }

    fn abort(&mut self, tag: u64) -> Result<(), Status> {
        let slot = self.slots.of_tag(tag).ok_or(Status::NOT_FOUND)?;
        if self.told.iter().any(|(told, _)| *told == u64::from(slot)) {
            return Ok(());
        }
        let waiting = self.backlog.iter().position(|r| r.tag == u64::from(slot));
        if let Some(place) = waiting {
            self.backlog.remove(place);
            self.tell(slot.into(), Status::CANCELLED);
            return Ok(());
        }
        self.queue.abort(slot.into())
    }

    fn reconnect(&mut self) -> Result<(), Status> {
        self.queue.reconnect()
    }
}
