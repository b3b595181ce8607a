//! A queue with memory and scratch for a number of requests, and ways to run them.

use daos_plugin_api::abi::{BdevOp, Completion, IoVec, Request, Status, WaitKind};
use daos_plugin_api::host::{BdevDevice, BdevQueue, CallOptions, PoolMemory};
use std::time::{Duration, Instant};

/// Longest that anything may take before a case gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A request of a rig: which slot's memory, and what to do.
#[derive(Clone, Copy)]
pub(crate) struct Op {
    pub(crate) op: BdevOp,
    pub(crate) flags: u8,
    pub(crate) lba: u64,
    pub(crate) blocks: u64,
}

impl Op {
    pub(crate) fn new(op: BdevOp, lba: u64, blocks: u64) -> Self {
        Self {
            op,
            flags: 0,
            lba,
            blocks,
        }
    }
}

/// Bytes of memory of a slot.
pub(crate) const SLOT: usize = 128 << 10;

/// A queue and what its requests need.
pub(crate) struct Rig {
    // The queue goes before the memory it may use.
    pub(crate) queue: BdevQueue,
    pub(crate) device: BdevDevice,
    memory: PoolMemory,
    scratch: Vec<u64>,
    scratch_size: usize,
    iov: Vec<IoVec>,
    slots: usize,
}

impl Rig {
    /// Opens a queue of `slots` requests on this thread.
    pub(crate) fn new(device: &BdevDevice, slots: usize) -> Result<Self, String> {
        let memory = device.allocate(slots * SLOT).map_err(|e| e.to_string())?;
        let queue = device
            .open_queue(slots as u32, CallOptions::default())
            .map_err(|e| e.to_string())?;
        let scratch_size = (device.geometry().scratch_size as usize).next_multiple_of(64);
        Ok(Self {
            queue,
            device: device.clone(),
            memory,
            scratch: vec![0; slots * scratch_size / 8 + 16],
            scratch_size,
            iov: vec![
                IoVec {
                    ptr: std::ptr::null_mut(),
                    len: 0
                };
                slots
            ],
            slots,
        })
    }

    fn memory_of(&self, slot: usize) -> *mut u8 {
        assert!(slot < self.slots);
        self.memory.ptr().wrapping_add(slot * SLOT)
    }

    /// Memory of a slot; nothing may be outstanding on it.
    pub(crate) fn slot(&mut self, slot: usize) -> &mut [u8] {
        // SAFETY: the slot lies inside the memory, and cases touch it only while it is idle.
        unsafe { std::slice::from_raw_parts_mut(self.memory_of(slot), SLOT) }
    }

    /// A byte of a slot, whose request may be outstanding.
    pub(crate) fn peek(&self, slot: usize, at: usize) -> u8 {
        assert!(at < SLOT);
        // SAFETY: inside the memory; a device may write it at any time, so it is read as such.
        unsafe { self.memory_of(slot).wrapping_add(at).read_volatile() }
    }

    /// Where the scratch of a slot is.
    pub(crate) fn scratch(&mut self, slot: usize) -> *mut u8 {
        assert!(slot < self.slots);
        let base = self.scratch.as_mut_ptr().cast::<u8>();
        base.wrapping_add(base.align_offset(64) + slot * self.scratch_size)
    }

    /// The request for a slot; its tag is the slot's number.
    pub(crate) fn request(&mut self, slot: usize, op: Op) -> Request {
        let block = u64::from(self.device.geometry().block_size);
        let data = matches!(op.op, BdevOp::READ | BdevOp::WRITE | BdevOp::COMPARE);
        self.iov[slot] = IoVec {
            ptr: self.memory_of(slot),
            len: (op.blocks * block) as usize,
        };
        Request {
            op: op.op,
            flags: op.flags,
            reserved: 0,
            iov_count: u32::from(data),
            lba: op.lba,
            blocks: op.blocks,
            iov: &self.iov[slot],
            tag: slot as u64,
            scratch: self.scratch(slot),
        }
    }

    /// Submits one request for each slot from 0; how many were taken.
    pub(crate) fn submit(&mut self, ops: &[Op]) -> Result<usize, Status> {
        let requests: Vec<Request> = ops
            .iter()
            .enumerate()
            .map(|(slot, op)| self.request(slot, *op))
            .collect();
        // SAFETY: memory, iovecs and scratch belong to the rig, which outlives the queue's use of them.
        unsafe { self.queue.submit(&requests) }
    }

    /// Submits one request for each slot from 0, which must all be taken.
    pub(crate) fn start(&mut self, ops: &[Op]) -> Result<(), String> {
        match self.submit(ops) {
            Ok(taken) if taken == ops.len() => Ok(()),
            Ok(taken) => Err(format!("submit took {taken} of {}", ops.len())),
            Err(status) => Err(format!("submit: {status}")),
        }
    }

    /// Runs a request of a slot on these pieces of memory, which no other one uses; its status.
    pub(crate) fn on_pieces(
        &mut self,
        op: Op,
        slot: usize,
        iov: &[IoVec],
    ) -> Result<Status, String> {
        let mut request = self.request(slot, op);
        request.iov = iov.as_ptr();
        request.iov_count = iov.len() as u32;
        // SAFETY: cases name memory that lives until they end, and the array outlives the completion below.
        match unsafe { self.queue.submit(&[request]) } {
            Ok(1) => Ok(self.collect(1)?[0].status),
            other => Err(format!("submit: {other:?}")),
        }
    }

    /// Polls until `count` completions have come.
    pub(crate) fn collect(&mut self, count: usize) -> Result<Vec<Completion>, String> {
        let mut all = Vec::new();
        let started = Instant::now();
        let mut room = [Completion {
            tag: 0,
            status: Status::OK,
            reserved: 0,
        }; 16];
        while all.len() < count {
            let got = self
                .queue
                .poll(&mut room)
                .map_err(|status| format!("poll: {status}"))?;
            all.extend_from_slice(&room[..got]);
            if started.elapsed() > PATIENCE {
                return Err(format!(
                    "{} of {count} completions after {PATIENCE:?}",
                    all.len()
                ));
            }
        }
        if all.len() > count {
            return Err(format!("{} completions for {count} requests", all.len()));
        }
        Ok(all)
    }

    /// Runs requests, one a slot, to their ends; statuses by slot.
    pub(crate) fn run(&mut self, ops: &[Op]) -> Result<Vec<Status>, String> {
        self.start(ops)?;
        let completions = self.collect(ops.len())?;
        by_slot(&completions, ops.len())
    }

    /// Runs requests that must all succeed.
    pub(crate) fn must(&mut self, ops: &[Op]) -> Result<(), String> {
        match self
            .run(ops)?
            .iter()
            .enumerate()
            .find(|(_, status)| !status.is_ok())
        {
            None => Ok(()),
            Some((slot, status)) => Err(format!("request {slot} ended with {status}")),
        }
    }

    /// How the queue says its thread may sleep.
    pub(crate) fn wait_kind(&mut self) -> Result<WaitKind, String> {
        self.queue
            .arm_wait()
            .map(|wait| wait.kind)
            .map_err(|status| format!("arm_wait: {status}"))
    }
}

/// Statuses in the order of slots; an error unless each slot completed exactly once.
pub(crate) fn by_slot(completions: &[Completion], slots: usize) -> Result<Vec<Status>, String> {
    let mut statuses = vec![None; slots];
    for completion in completions {
        match statuses.get_mut(completion.tag as usize) {
            Some(slot @ None) => *slot = Some(completion.status),
            Some(Some(_)) => return Err(format!("request {} completed twice", completion.tag)),
            None => {
                return Err(format!(
                    "completion with the unknown tag {}",
                    completion.tag
                ));
            }
        }
    }
    let missing: Vec<usize> = (0..slots)
        .filter(|slot| statuses[*slot].is_none())
        .collect();
    if !missing.is_empty() {
        return Err(format!("requests {missing:?} never completed"));
    }
    Ok(statuses.into_iter().flatten().collect())
}

/// Fills `data` with bytes that depend on `seed` and position.
pub(crate) fn fill(data: &mut [u8], seed: u64) {
    for (at, byte) in data.iter_mut().enumerate() {
        *byte = pattern(seed, at);
    }
}

/// Whether `data` is what `fill` wrote.
pub(crate) fn holds(data: &[u8], seed: u64) -> bool {
    data.iter()
        .enumerate()
        .all(|(at, byte)| *byte == pattern(seed, at))
}

fn pattern(seed: u64, at: usize) -> u8 {
    let mixed = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (at as u64 / 8).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed >> ((at % 8) * 8)) as u8
}
