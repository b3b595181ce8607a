//! A safe driver of a queue: owns the memory of requests until they complete and checks that each
//! completes exactly once.

use daos_plugin_api::abi::{BdevGeometry, BdevOp, Completion, IoVec, Request, Status, WaitKind};
use daos_plugin_api::host::{BdevDevice, BdevQueue, CallOptions, PoolMemory};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How long anything may take before a test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// Memory of requests: offered to the plugin, or not.
pub enum Arena {
    /// Registered with the plugin.
    Pool(PoolMemory),
    /// Just memory.
    Foreign(Foreign),
}

impl Arena {
    /// Memory that the plugin knows.
    pub fn pool(device: &BdevDevice, len: usize) -> Self {
        Self::Pool(device.allocate(len).expect("pool memory"))
    }

    /// Memory that the plugin was never offered.
    pub fn foreign(len: usize) -> Self {
        Self::Foreign(Foreign::new(len))
    }

    fn ptr(&self) -> *mut u8 {
        match self {
            Self::Pool(memory) => memory.ptr(),
            Self::Foreign(memory) => memory.ptr,
        }
    }

    /// Bytes.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        match self {
            Self::Pool(memory) => memory.len(),
            Self::Foreign(memory) => memory.layout.size(),
        }
    }
}

/// Zeroed memory of this process, page aligned.
pub struct Foreign {
    ptr: *mut u8,
    layout: Layout,
}

impl Foreign {
    fn new(len: usize) -> Self {
        let layout = Layout::from_size_align(len.max(1), 4096).expect("a sane size");
        // SAFETY: the size is not zero.
        let ptr = unsafe { alloc_zeroed(layout) };
        assert!(!ptr.is_null(), "out of memory");
        Self { ptr, layout }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`.
        unsafe { dealloc(self.ptr, self.layout) }
    }
}

/// One request in terms of the driver's memory.
#[derive(Clone, Debug)]
pub struct Io {
    /// What to do.
    pub op: BdevOp,
    /// Request flags.
    pub flags: u8,
    /// First block.
    pub lba: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// Pieces of the arena, in order; may overlap for operations that only read memory.
    pub memory: Vec<Range<usize>>,
}

impl Io {
    /// An operation without data.
    pub fn bare(op: BdevOp, lba: u64, blocks: u64) -> Self {
        Self {
            op,
            flags: 0,
            lba,
            blocks,
            memory: Vec::new(),
        }
    }

    /// An operation with one piece of memory.
    pub fn with(op: BdevOp, lba: u64, blocks: u64, memory: Range<usize>) -> Self {
        Self {
            op,
            flags: 0,
            lba,
            blocks,
            memory: vec![memory],
        }
    }

    /// With the FUA flag.
    #[must_use]
    pub fn fua(mut self) -> Self {
        self.flags |= Request::FUA;
        self
    }
}

/// 64-byte aligned scratch.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Scratch {
    _bytes: [u8; 64],
}

struct Held {
    _iov: Box<[IoVec]>,
    _scratch: Box<[Scratch]>,
}

/// A queue with memory.
pub struct Driver {
    queue: BdevQueue, // dropped before the memory it uses
    geometry: BdevGeometry,
    held: HashMap<u64, Held>,
    arena: Arena,
    next_tag: u64,
    staged: Vec<Request>,
}

impl Driver {
    /// Opens a queue of `depth` with this memory.
    pub fn new(device: &BdevDevice, depth: u32, arena: Arena) -> Self {
        let queue = device
            .open_queue(depth, CallOptions::default())
            .expect("a queue opens");
        Self {
            queue,
            geometry: *device.geometry(),
            held: HashMap::new(),
            arena,
            next_tag: 0x1000,
            staged: Vec::new(),
        }
    }

    /// Geometry of the device.
    pub fn geometry(&self) -> &BdevGeometry {
        &self.geometry
    }

    /// Bytes per block.
    pub fn block(&self) -> usize {
        self.geometry.block_size as usize
    }

    /// Bytes of the arena.
    pub fn arena_len(&self) -> usize {
        self.arena.len()
    }

    /// The arena, while nothing is outstanding.
    pub fn memory(&mut self) -> &mut [u8] {
        assert!(self.held.is_empty(), "the device may use the memory");
        // SAFETY: the arena is valid for its length and nothing else refers to it now.
        unsafe { std::slice::from_raw_parts_mut(self.arena.ptr(), self.arena.len()) }
    }

    /// Closes the queue whatever is outstanding, and hands the arena out.
    pub fn close(self) -> Arena {
        drop(self.queue);
        self.arena
    }

    /// Requests submitted or staged whose completion was not polled.
    pub fn outstanding(&self) -> usize {
        self.held.len()
    }

    /// Builds a request; it is handed over by [`Driver::submit`].
    pub fn stage(&mut self, io: &Io) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        let iov: Box<[IoVec]> = io
            .memory
            .iter()
            .map(|range| {
                assert!(range.start <= range.end && range.end <= self.arena.len());
                // SAFETY: the start lies in the arena.
                let ptr = unsafe { self.arena.ptr().add(range.start) };
                IoVec {
                    ptr,
                    len: range.len(),
                }
            })
            .collect();
        let pieces = (self.geometry.scratch_size as usize).div_ceil(64);
        let mut scratch = vec![Scratch { _bytes: [0; 64] }; pieces].into_boxed_slice();
        let request = Request {
            op: io.op,
            flags: io.flags,
            reserved: 0,
            iov_count: iov.len() as u32,
            lba: io.lba,
            blocks: io.blocks,
            iov: iov.as_ptr(),
            tag,
            scratch: if pieces == 0 {
                std::ptr::null_mut()
            } else {
                scratch.as_mut_ptr().cast()
            },
        };
        self.held.insert(
            tag,
            Held {
                _iov: iov,
                _scratch: scratch,
            },
        );
        self.staged.push(request);
        tag
    }

    /// Offers the staged requests once; returns how many were taken.
    pub fn submit(&mut self) -> usize {
        // SAFETY: iovecs, scratch and arena stay until the completion is polled (`held`), and the
        // queue is dropped before the arena.
        let taken = unsafe { self.queue.submit(&self.staged) }.expect("submit works");
        self.staged.drain(..taken);
        taken
    }

    /// Polls once.
    pub fn poll(&mut self, capacity: usize) -> Vec<(u64, Status)> {
        let mut out = vec![
            Completion {
                tag: 0,
                status: Status::OK,
                reserved: 0
            };
            capacity
        ];
        let count = self.queue.poll(&mut out).expect("poll works");
        out.truncate(count);
        let staged = &self.staged;
        out.iter()
            .map(|done| {
                assert!(
                    !staged.iter().any(|request| request.tag == done.tag),
                    "{:#x} completed before it was submitted",
                    done.tag
                );
                assert!(
                    self.held.remove(&done.tag).is_some(),
                    "{:#x} completed twice or was never submitted",
                    done.tag
                );
                (done.tag, done.status)
            })
            .collect()
    }

    /// Submits what is staged and polls until nothing is outstanding.
    pub fn finish(&mut self) -> HashMap<u64, Status> {
        let start = Instant::now();
        let mut done = HashMap::new();
        while !self.held.is_empty() {
            assert!(
                start.elapsed() < PATIENCE,
                "{} requests never complete",
                self.held.len()
            );
            if !self.staged.is_empty() {
                self.submit();
            }
            done.extend(self.poll(32));
        }
        assert!(self.poll(32).is_empty(), "a completion of nothing");
        done
    }

    /// Carries out one request.
    pub fn run(&mut self, io: &Io) -> Status {
        let tag = self.stage(io);
        self.finish()[&tag]
    }

    /// Asks to abort.
    pub fn abort(&mut self, tag: u64) -> Result<(), Status> {
        self.queue.abort(tag)
    }

    /// Sleeps as the queue says, at most five seconds.
    pub fn wait(&mut self) {
        let wait = self.queue.arm_wait().expect("arm_wait works");
        let limit = Duration::from_secs(5);
        match wait.kind {
            WaitKind::FD => {
                // SAFETY: the descriptor is the queue's and stays open while the queue lives.
                let fd = unsafe { BorrowedFd::borrow_raw(wait.fd) };
                let mut fds = [PollFd::new(&fd, PollFlags::IN)];
                let timeout = Timespec::try_from(limit).expect("seconds fit");
                let start = Instant::now();
                let ready = poll(&mut fds, Some(&timeout)).expect("poll(2) works");
                // poll(2) looks once more when its time is over: that is no wake-up.
                let woken = ready > 0 && start.elapsed() < limit;
                assert!(
                    woken,
                    "nothing woke a sleeper while requests are outstanding"
                );
            }
            WaitKind::TIMER => {
                std::thread::sleep(Duration::from_micros(wait.timeout_us).min(limit));
            }
            _ => {}
        }
    }
}
