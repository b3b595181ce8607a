//! What queues work on: a descriptor, its shape, and what is learned about it on the way.

use daos_plugin_api::abi::{BdevGeometry, BdevOp, IoVec, Request, Status};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Most bytes of a read, write or compare.
const MAX_TRANSFER: u32 = 16 << 20;
/// Most segments of a request (the kernel's `UIO_MAXIOV` is 1024).
const MAX_SEGMENTS: u32 = 256;
/// Most queues open at once.
pub(crate) const MAX_QUEUES: u32 = 256;
/// Most requests in a queue.
pub(crate) const MAX_DEPTH: u32 = 1024;

/// How a range is made to read as zeroes. A file system that refuses one way is asked in the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroMode {
    /// `FALLOC_FL_ZERO_RANGE`.
    Range,
    /// `FALLOC_FL_PUNCH_HOLE`, then allocation of the hole (tmpfs).
    PunchAndFill,
    /// Writing zeroes.
    Write,
}

/// What unmap does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmapMode {
    /// `BLKDISCARD` of a block device.
    Discard,
    /// Gives the space of a file back to its file system; later writes may then find none.
    Punch,
    /// Zeroes the range like write-zeroes, which keeps the space of a file reserved.
    KeepSpace,
    /// Not supported.
    None,
}

/// Properties of a target, constant while it is open.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes per block, a power of two.
    pub block_size: u32,
    /// Bytes of the device, a multiple of `block_size`.
    pub size: u64,
    /// Alignment in bytes of memory and segment lengths; 1 without direct I/O.
    pub buffer_alignment: u32,
    /// First way to try for write-zeroes.
    pub zero: ZeroMode,
    /// What unmap does.
    pub unmap: UnmapMode,
    /// Best granularity of unmap in blocks; at least 1.
    pub unmap_granularity: u32,
    /// Completed writes may sit in a volatile cache.
    pub volatile_cache: bool,
    /// NUMA node, -1 = unknown.
    pub numa_node: i32,
    /// Period of `poll_admin` in microseconds; 0 = never.
    pub admin_poll_us: u32,
}

/// An open descriptor with its shape, shared by device and queues.
pub struct Target {
    fd: OwnedFd,
    shape: Shape,
    shift: u32,
    blocks: u64,
    zero: AtomicU8,
    gone: AtomicBool,
    io_errors: AtomicU64,
    media_errors: AtomicU64,
    pub(crate) queues: AtomicU32,
}

impl Target {
    /// Takes the descriptor.
    pub fn new(fd: OwnedFd, shape: Shape) -> Self {
        Self {
            fd,
            shift: shape.block_size.trailing_zeros(),
            blocks: shape.size / u64::from(shape.block_size),
            zero: AtomicU8::new(shape.zero as u8),
            shape,
            gone: AtomicBool::new(false),
            io_errors: AtomicU64::new(0),
            media_errors: AtomicU64::new(0),
            queues: AtomicU32::new(0),
        }
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Shape it was made with.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Geometry as the host sees it.
    pub fn geometry(&self) -> BdevGeometry {
        let shape = &self.shape;
        let granularity = match shape.unmap {
            UnmapMode::None => 0,
            _ => shape.unmap_granularity.max(1),
        };
        let cache = if shape.volatile_cache {
            BdevGeometry::VOLATILE_CACHE
        } else {
            0
        };
        BdevGeometry {
            block_size: shape.block_size,
            buffer_alignment: shape.buffer_alignment,
            block_count: self.blocks,
            max_transfer_blocks: MAX_TRANSFER >> self.shift,
            max_segments: MAX_SEGMENTS,
            atomic_write_blocks: 1,
            deallocate_granularity: granularity,
            max_queues: MAX_QUEUES,
            max_queue_depth: MAX_DEPTH,
            scratch_size: 0,
            numa_node: shape.numa_node,
            admin_poll_us: shape.admin_poll_us,
            reserved: 0,
            flags: BdevGeometry::WRITE_ZEROES | BdevGeometry::COMPARE | cache,
        }
    }

    pub(crate) fn block_shift(&self) -> u32 {
        self.shift
    }

    pub(crate) fn unmap_mode(&self) -> UnmapMode {
        self.shape.unmap
    }

    pub(crate) fn zero_mode(&self) -> ZeroMode {
        match self.zero.load(Ordering::Relaxed) {
            0 => ZeroMode::Range,
            1 => ZeroMode::PunchAndFill,
            _ => ZeroMode::Write,
        }
    }

    /// The next way of zeroing after `refused` was; remembered for later requests.
    pub(crate) fn zero_fallback(&self, refused: ZeroMode) -> Option<ZeroMode> {
        let next = match refused {
            ZeroMode::Range => ZeroMode::PunchAndFill,
            ZeroMode::PunchAndFill => ZeroMode::Write,
            ZeroMode::Write => return None,
        };
        self.zero.fetch_max(next as u8, Ordering::Relaxed);
        Some(next)
    }

    /// Whether the device was seen to be gone, by a request or by [`Target::set_gone`].
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// From now on every request fails with DEVICE_GONE.
    pub fn set_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Failed requests so far: (I/O errors, of these media errors).
    pub fn errors(&self) -> (u64, u64) {
        (
            self.io_errors.load(Ordering::Relaxed),
            self.media_errors.load(Ordering::Relaxed),
        )
    }

    /// Counts a failure and notices a device that is gone.
    #[cold]
    pub(crate) fn note_failure(&self, status: Status) {
        match status {
            Status::IO | Status::TIMED_OUT => {}
            Status::MEDIA => {
                self.media_errors.fetch_add(1, Ordering::Relaxed);
            }
            Status::DEVICE_GONE => self.set_gone(),
            _ => return,
        }
        self.io_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the request is well-formed; `segments` are its.
    #[inline]
    pub(crate) fn check(&self, request: &Request, segments: &[IoVec]) -> bool {
        if request.op == BdevOp::FLUSH {
            return request.flags <= Request::FUA;
        }
        let end = request.lba.checked_add(request.blocks);
        if request.blocks == 0
            || end.is_none_or(|end| end > self.blocks)
            || request.flags > Request::FUA
        {
            return false;
        }
        match request.op {
            BdevOp::READ | BdevOp::WRITE | BdevOp::COMPARE => {
                if request.iov_count > MAX_SEGMENTS {
                    return false;
                }
                let mut sum = 0usize;
                let mut bits = 0usize;
                for segment in segments {
                    if segment.ptr.is_null() {
                        return false;
                    }
                    bits |= segment.ptr as usize | segment.len;
                    sum = match sum.checked_add(segment.len) {
                        Some(sum) => sum,
                        None => return false,
                    };
                }
                sum <= MAX_TRANSFER as usize
                    && sum as u64 == request.blocks << self.shift
                    && bits & (self.shape.buffer_alignment as usize - 1) == 0
            }
            BdevOp::UNMAP => self.shape.unmap != UnmapMode::None,
            BdevOp::WRITE_ZEROES => true,
            _ => false,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A target of 4 MiB on nothing.
    pub(crate) fn target(zero: ZeroMode, unmap: UnmapMode) -> Target {
        let shape = Shape {
            block_size: 4096,
            size: 4 << 20,
            buffer_alignment: 512,
            zero,
            unmap,
            unmap_granularity: 1,
            volatile_cache: true,
            numa_node: -1,
            admin_poll_us: 0,
        };
        Target::new(std::fs::File::open("/dev/null").unwrap().into(), shape)
    }

    #[test]
    fn only_media_and_io_errors_count_and_a_gone_device_stays_gone() {
        let target = target(ZeroMode::Range, UnmapMode::None);
        for status in [Status::CANCELLED, Status::MISCOMPARE, Status::NO_SPACE] {
            target.note_failure(status);
        }
        assert_eq!(target.errors(), (0, 0));
        target.note_failure(Status::IO);
        target.note_failure(Status::MEDIA);
        assert_eq!(target.errors(), (2, 1));
        assert!(!target.is_gone());
        target.note_failure(Status::DEVICE_GONE);
        assert!(target.is_gone());
    }
}
