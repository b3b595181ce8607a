//! A queue with memory and bookkeeping: every completion must belong to an outstanding request
//! and come once. All unsafe code of the bdev cases is here.

use crate::abi::{BdevGeometry, BdevOp, Completion, IoVec, Request, Status};
use crate::conformance::case::{Verdict, ensure, failed};
use crate::conformance::pattern::difference;
use crate::conformance::wait::{self, LIMIT};
use crate::host::{BdevDevice, BdevQueue, CallOptions, PoolMemory, ThreadGuard};
use std::collections::HashMap;
use std::time::Instant;

/// Bytes of pool memory of a rig.
pub(super) const POOL: usize = 8 << 20;

/// An I/O over ranges (offset, length) of the rig's memory.
#[derive(Clone, Debug)]
pub(super) struct Io {
    pub(super) op: BdevOp,
    pub(super) flags: u8,
    pub(super) lba: u64,
    pub(super) blocks: u64,
    pub(super) parts: Vec<(usize, usize)>,
}

impl Io {
    /// An I/O with one part; its length follows from the blocks.
    pub(super) fn data(op: BdevOp, lba: u64, blocks: u64, offset: usize, block: usize) -> Self {
        Self {
            op,
            flags: 0,
            lba,
            blocks,
            parts: vec![(offset, blocks as usize * block)],
        }
    }

    /// An I/O without data.
    pub(super) fn plain(op: BdevOp, lba: u64, blocks: u64) -> Self {
        Self {
            op,
            flags: 0,
            lba,
            blocks,
            parts: Vec::new(),
        }
    }

    pub(super) fn flush() -> Self {
        Self::plain(BdevOp::FLUSH, 0, 0)
    }

    pub(super) fn fua(mut self) -> Self {
        self.flags = Request::FUA;
        self
    }
}

/// 64 bytes of scratch with its alignment.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

/// What belongs to the device while a request is outstanding.
struct Held {
    _iov: Box<[IoVec]>,
    _scratch: Box<[Line]>,
}

/// A queue on this thread.
pub(super) struct Rig {
    // Dropped first: aborts what is outstanding, so that the rest may go.
    queue: Option<BdevQueue>,
    held: HashMap<u64, Held>,
    memory: PoolMemory,
    next_tag: u64,
    done: Vec<(u64, Status)>,
    geometry: BdevGeometry,
    _thread: ThreadGuard,
}

impl Rig {
    pub(super) fn new(device: &BdevDevice, depth: u32) -> Verdict<Self> {
        let thread = device.instance().attach_thread()?;
        let memory = device.allocate(POOL)?;
        let depth = depth.min(device.geometry().max_queue_depth);
        Ok(Self {
            queue: Some(device.open_queue(depth, CallOptions::default())?),
            held: HashMap::new(),
            memory,
            next_tag: 1,
            done: Vec::new(),
            geometry: *device.geometry(),
            _thread: thread,
        })
    }

    /// Numbers requests from `first` on, so that a completion of another queue cannot pass for one of this.
    pub(super) fn tags_from(&mut self, first: u64) {
        self.next_tag = first;
    }

    pub(super) fn geometry(&self) -> &BdevGeometry {
        &self.geometry
    }

    /// Bytes per block.
    pub(super) fn block(&self) -> usize {
        self.geometry.block_size as usize
    }

    /// Most blocks of a transfer that also fits into `share` of the memory.
    pub(super) fn largest(&self, share: usize) -> u64 {
        u64::from(self.geometry.max_transfer_blocks)
            .min((share / self.block()) as u64)
            .min(self.geometry.block_count)
    }

    pub(super) fn queue(&mut self) -> &mut BdevQueue {
        self.queue
            .as_mut()
            .expect("the queue is open until close_queue")
    }

    /// Requests that the device has.
    pub(super) fn outstanding(&self) -> usize {
        self.held.len()
    }

    /// Closes the queue, whatever is outstanding; the memory stays.
    pub(super) fn close_queue(&mut self) {
        self.queue = None;
        self.held.clear();
    }

    /// Copies `data` into the memory.
    pub(super) fn put(&mut self, offset: usize, data: &[u8]) {
        assert!(
            offset + data.len() <= self.memory.len(),
            "outside of the pool"
        );
        // SAFETY: inside the memory; the caller puts nothing under outstanding I/O.
        unsafe {
            std::ptr::copy_nonoverlapping(data.as_ptr(), self.memory.ptr().add(offset), data.len());
        }
    }

    /// Copies out of the memory.
    pub(super) fn get(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= self.memory.len(), "outside of the pool");
        let mut out = vec![0; len];
        // SAFETY: inside the memory.
        unsafe {
            std::ptr::copy_nonoverlapping(self.memory.ptr().add(offset), out.as_mut_ptr(), len);
        }
        out
    }

    /// Offers requests with fresh tags once; returns the tags of those taken.
    pub(super) fn offer(&mut self, ios: &[Io]) -> Verdict<Vec<u64>> {
        let base = self.memory.ptr();
        let pool = self.memory.len();
        self.offer_at(ios, &|offset, len| {
            assert!(offset + len <= pool, "outside of the pool");
            base.wrapping_add(offset)
        })
    }

    /// Offers one request whose memory is not the pool's; `buffer` stays until it completed.
    pub(super) fn run_on(&mut self, op: BdevOp, lba: u64, buffer: &mut [u8]) -> Verdict<Status> {
        let base = buffer.as_mut_ptr();
        let blocks = (buffer.len() / self.block()) as u64;
        let io = Io::data(op, lba, blocks, 0, self.block());
        let tags = self.offer_at(&[io], &|offset, _| base.wrapping_add(offset))?;
        ensure!(tags.len() == 1, "an empty queue takes no request");
        let result = self.finish();
        // On a failure the device may still have the buffer, which the caller is about to drop.
        if result.is_err() {
            self.close_queue();
        }
        result.map(|done| done[0].1)
    }

    fn offer_at(
        &mut self,
        ios: &[Io],
        locate: &dyn Fn(usize, usize) -> *mut u8,
    ) -> Verdict<Vec<u64>> {
        let lines = (self.geometry.scratch_size as usize).div_ceil(64);
        let mut requests = Vec::with_capacity(ios.len());
        let mut held = Vec::with_capacity(ios.len());
        for (n, io) in ios.iter().enumerate() {
            let iov: Box<[IoVec]> = io
                .parts
                .iter()
                .map(|(offset, len)| IoVec {
                    ptr: locate(*offset, *len),
                    len: *len,
                })
                .collect();
            let mut scratch = vec![Line([0xa5; 64]); lines].into_boxed_slice();
            requests.push(Request {
                op: io.op,
                flags: io.flags,
                reserved: 0,
                iov_count: iov.len() as u32,
                lba: io.lba,
                blocks: io.blocks,
                iov: if iov.is_empty() {
                    std::ptr::null()
                } else {
                    iov.as_ptr()
                },
                tag: self.next_tag + n as u64,
                scratch: if lines == 0 {
                    std::ptr::null_mut()
                } else {
                    scratch.as_mut_ptr().cast()
                },
            });
            held.push(Held {
                _iov: iov,
                _scratch: scratch,
            });
        }
        // SAFETY: iovecs and scratch are kept in `held` until their completion or until the queue
        // is closed, the memory lives as long as the rig or, in `run_on`, until completion.
        let taken = unsafe { self.queue().submit(&requests) }?;
        let first = self.next_tag;
        self.next_tag += ios.len() as u64;
        for (n, parts) in held.into_iter().take(taken).enumerate() {
            self.held.insert(first + n as u64, parts);
        }
        Ok((first..first + taken as u64).collect())
    }

    /// Polls once for up to `capacity` completions and books them.
    pub(super) fn poll(&mut self, capacity: usize) -> Verdict<usize> {
        const POISON: Completion = Completion {
            tag: u64::MAX,
            status: Status(i32::MIN),
            reserved: 0,
        };
        let mut out = vec![POISON; capacity];
        let n = self.queue().poll(&mut out)?;
        for completion in &out[..n] {
            ensure!(
                self.held.remove(&completion.tag).is_some(),
                "a completion for tag {}, which is not outstanding",
                completion.tag
            );
            ensure!(
                completion.status.0 >= 0 && completion.status.name() != "unknown status",
                "tag {} completed with the unknown status {:?}",
                completion.tag,
                completion.status
            );
            self.done.push((completion.tag, completion.status));
        }
        ensure!(
            out[n..].iter().all(|c| *c == POISON),
            "poll wrote beyond the {n} completions it returned"
        );
        Ok(n)
    }

    /// Takes the completions booked so far.
    pub(super) fn take_done(&mut self) -> Vec<(u64, Status)> {
        std::mem::take(&mut self.done)
    }

    /// Polls until nothing is outstanding; returns all completions booked.
    pub(super) fn finish(&mut self) -> Verdict<Vec<(u64, Status)>> {
        let start = Instant::now();
        while self.outstanding() > 0 {
            if self.poll(16)? == 0 {
                let wait = self.queue().arm_wait()?;
                if self.outstanding() > 0 && !wait::sleep(wait)? {
                    return failed("arm_wait slept while a completion was due");
                }
            }
            ensure!(
                start.elapsed() < LIMIT,
                "{} requests do not complete within {LIMIT:?}",
                self.outstanding()
            );
        }
        Ok(self.take_done())
    }

    /// Runs one request on the otherwise empty queue.
    pub(super) fn run(&mut self, io: &Io) -> Verdict<Status> {
        let tags = self.offer(std::slice::from_ref(io))?;
        ensure!(tags.len() == 1, "an empty queue takes no request");
        Ok(self.finish()?[0].1)
    }

    /// Runs one request that must succeed.
    pub(super) fn must(&mut self, io: &Io) -> Verdict {
        let status = self.run(io)?;
        ensure!(status.is_ok(), "{io:?} completed as {status:?}");
        Ok(())
    }

    /// Runs one request that must complete with one of `statuses`.
    pub(super) fn must_fail(&mut self, what: &str, io: &Io, statuses: &[Status]) -> Verdict {
        let status = self.run(io)?;
        ensure!(
            statuses.contains(&status),
            "{what} completed as {status:?}, expected {statuses:?}"
        );
        Ok(())
    }

    /// Like [`Rig::must_fail`] for parts that leave the memory: a device that does not refuse them
    /// by their numbers is broken, and the test would notice in the worst way.
    pub(super) fn must_fail_unchecked(
        &mut self,
        what: &str,
        io: &Io,
        statuses: &[Status],
    ) -> Verdict {
        let base = self.memory.ptr();
        let tags = self.offer_at(std::slice::from_ref(io), &|offset, _| {
            base.wrapping_add(offset)
        })?;
        ensure!(tags.len() == 1, "an empty queue takes no request");
        let status = self.finish()?[0].1;
        ensure!(
            statuses.contains(&status),
            "{what} completed as {status:?}, expected {statuses:?}"
        );
        Ok(())
    }

    /// Writes `data` at `lba`, through the start of the pool.
    pub(super) fn write(&mut self, lba: u64, data: &[u8]) -> Verdict {
        self.put(0, data);
        let blocks = (data.len() / self.block()) as u64;
        self.must(&Io::data(BdevOp::WRITE, lba, blocks, 0, self.block()))
    }

    /// Reads `blocks` at `lba` into poisoned memory, through the start of the pool.
    pub(super) fn read(&mut self, lba: u64, blocks: u64) -> Verdict<Vec<u8>> {
        let len = blocks as usize * self.block();
        self.put(0, &vec![0xee; len]);
        self.must(&Io::data(BdevOp::READ, lba, blocks, 0, self.block()))?;
        Ok(self.get(0, len))
    }

    /// Reads and compares.
    pub(super) fn expect(&mut self, what: &str, lba: u64, data: &[u8]) -> Verdict {
        let found = self.read(lba, (data.len() / self.block()) as u64)?;
        match difference(&found, data) {
            None => Ok(()),
            Some(how) => failed(format!("{what} at block {lba}: {how}")),
        }
    }
}
