//! All access to memory that requests name, and the memory of the queues themselves.

use crate::task::{Buffers, Compared};
use daos_plugin_api::abi::{IoVec, Request};
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Page size that buffers for direct I/O are aligned to.
const PAGE: usize = 4096;

/// io_uring takes at most this much as one registered buffer.
const MAX_REGISTERED: usize = 1 << 30;

/// io_uring takes at most this many registered buffers (1024 before Linux 5.13).
const MAX_BUFFERS: usize = 1024;

/// The segments of a request.
///
/// # Safety
/// `iov` points to `iov_count` records that live as long as `'a`.
pub(crate) unsafe fn segments<'a>(request: &Request) -> &'a [IoVec] {
    if request.iov.is_null() {
        return &[];
    }
    // SAFETY: the caller vouches for pointer and count.
    unsafe { std::slice::from_raw_parts(request.iov, request.iov_count as usize) }
}

/// A position in the segments of a request. Making one promises that records and memory stay valid
/// until the request completes; a cursor is not used after that.
#[derive(Clone, Copy)]
pub(crate) struct Cursor {
    iov: *const IoVec,
    left: u32,
    /// Bytes of the first segment that are done.
    skip: usize,
}

// SAFETY: memory of a request has no thread; it belongs to the plugin until completion.
unsafe impl Send for Cursor {}

impl Cursor {
    /// A cursor of nothing.
    pub(crate) const EMPTY: Self = Self {
        iov: std::ptr::null(),
        left: 0,
        skip: 0,
    };

    /// # Safety
    /// The segments of `request` and their memory stay valid until the cursor's last use.
    pub(crate) unsafe fn new(request: &Request) -> Self {
        if request.iov.is_null() {
            return Self::EMPTY;
        }
        Self {
            iov: request.iov,
            left: request.iov_count,
            skip: 0,
        }
    }

    fn first(&self) -> Option<IoVec> {
        // SAFETY: `left` records follow `iov` (promise of `new`, kept by `advance`).
        (self.left > 0).then(|| unsafe { *self.iov })
    }

    /// What the next transfer may use: one piece of memory, or all remaining segments.
    #[inline]
    pub(crate) fn buffers(&self) -> Buffers {
        match self.first() {
            None => Buffers::One {
                ptr: std::ptr::null_mut(),
                len: 0,
            },
            Some(first) if self.left == 1 || self.skip > 0 => Buffers::One {
                // SAFETY: `skip` bytes of the segment are done, so it is at least that long.
                ptr: unsafe { first.ptr.add(self.skip) },
                len: first.len - self.skip,
            },
            Some(_) => Buffers::Many {
                iov: self.iov,
                count: self.left,
            },
        }
    }

    /// Steps over `bytes`, which are no more than remain.
    #[inline]
    pub(crate) fn advance(&mut self, bytes: usize) {
        let mut bytes = bytes;
        while let Some(first) = self.first() {
            let rest = first.len - self.skip;
            if bytes < rest {
                self.skip += bytes;
                return;
            }
            bytes -= rest;
            self.skip = 0;
            self.left -= 1;
            // SAFETY: one past the end at most.
            self.iov = unsafe { self.iov.add(1) };
        }
    }

    /// Compares memory from here with `data` and steps over it.
    pub(crate) fn compare(&mut self, data: &[u8]) -> Compared {
        let mut data = data;
        while let (Some(first), false) = (self.first(), data.is_empty()) {
            let len = (first.len - self.skip).min(data.len());
            // SAFETY: the segment is valid memory (promise of `new`) which the host does not write
            // while the request is outstanding.
            let mine = unsafe { std::slice::from_raw_parts(first.ptr.add(self.skip), len) };
            let (theirs, rest) = data.split_at(len);
            if mine != theirs {
                return Compared::Differs;
            }
            data = rest;
            self.advance(len);
        }
        Compared::Equal
    }
}

/// Page-aligned memory that lives until the process ends its use by dropping it.
pub(crate) struct PageBuf {
    ptr: *mut u8,
    layout: Layout,
}

// SAFETY: plain memory, used through `&mut` or while the kernel alone has it.
unsafe impl Send for PageBuf {}

impl PageBuf {
    pub(crate) fn new(len: usize) -> Self {
        let layout = Layout::from_size_align(len.max(1), PAGE).expect("a constant of this crate");
        // SAFETY: the size is not zero.
        let ptr = unsafe { alloc_zeroed(layout) };
        if ptr.is_null() {
            handle_alloc_error(layout);
        }
        Self { ptr, layout }
    }

    pub(crate) fn ptr(&mut self) -> *mut u8 {
        self.ptr
    }

    pub(crate) fn len(&self) -> usize {
        self.layout.size()
    }

    /// The first `len` bytes; nothing else writes them at the moment.
    pub(crate) fn filled(&self, len: usize) -> &[u8] {
        assert!(len <= self.layout.size());
        // SAFETY: in bounds and initialised; the kernel's write to it is complete.
        unsafe { std::slice::from_raw_parts(self.ptr, len) }
    }
}

impl Drop for PageBuf {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { std::alloc::dealloc(self.ptr, self.layout) }
    }
}

#[repr(align(4096))]
struct Zeroes([u8; ZEROES]);

/// Bytes that one write of zeroes carries.
pub(crate) const ZEROES: usize = 256 << 10;

static ZERO: Zeroes = Zeroes([0; ZEROES]);

/// Page-aligned zeroes; only read.
pub(crate) fn zeroes() -> *const u8 {
    ZERO.0.as_ptr()
}

/// Memory that the host offered to a plugin. Queues register what is known when they open.
#[derive(Default)]
pub struct Registrations {
    ranges: Mutex<Vec<(usize, usize)>>,
}

impl Registrations {
    fn ranges(&self) -> MutexGuard<'_, Vec<(usize, usize)>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of `len` bytes at `ptr`.
    pub fn add(&self, ptr: *mut u8, len: usize) {
        self.ranges().push((ptr as usize, len));
    }

    /// Forgets them; whether they were known.
    pub fn remove(&self, ptr: *mut u8, len: usize) -> bool {
        let mut ranges = self.ranges();
        let found = ranges
            .iter()
            .position(|range| *range == (ptr as usize, len));
        found.map(|at| ranges.swap_remove(at)).is_some()
    }

    /// The ranges cut into pieces that a ring takes, ordered by address.
    pub(crate) fn regions(&self) -> Regions {
        let mut pieces = Vec::new();
        for (start, len) in self.ranges().iter().copied() {
            let mut at = 0;
            while at < len {
                let piece = (len - at).min(MAX_REGISTERED);
                pieces.push((start + at, piece));
                at += piece;
            }
        }
        pieces.sort_unstable();
        pieces.truncate(MAX_BUFFERS);
        Regions { pieces }
    }
}

/// Memory registered with a ring: buffer index is the position.
pub(crate) struct Regions {
    pieces: Vec<(usize, usize)>,
}

impl Regions {
    pub(crate) const NONE: Self = Self { pieces: Vec::new() };

    pub(crate) fn pieces(&self) -> &[(usize, usize)] {
        &self.pieces
    }

    /// Index of the registered buffer that holds all `len` bytes at `ptr`.
    #[inline]
    pub(crate) fn find(&self, ptr: *mut u8, len: usize) -> Option<u16> {
        let start = ptr as usize;
        let after = match self.pieces.as_slice() {
            [] => return None,
            [_] => 1, // by far the most frequent: one pool
            pieces => pieces.partition_point(|(base, _)| *base <= start),
        };
        let (base, size) = *self.pieces.get(after.checked_sub(1)?)?;
        let offset = start.checked_sub(base)?;
        (offset < size && len <= size - offset).then_some((after - 1) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_hold_whole_ranges_only() {
        let known = Registrations::default();
        let at = |address: usize| address as *mut u8;
        assert_eq!(known.regions().find(at(4096), 1), None);
        known.add(at(0x4000_0000), 0x8000_0000);
        known.add(at(0x20_0000), 0x20_0000);
        let regions = known.regions();
        assert_eq!(regions.pieces().len(), 3, "2 GiB are two buffers");
        assert_eq!(regions.find(at(0x20_0000), 0x20_0000), Some(0));
        assert_eq!(regions.find(at(0x20_0000), 0x20_0001), None);
        assert_eq!(regions.find(at(0x1f_ffff), 1), None);
        assert_eq!(regions.find(at(0x40_0000), 1), None);
        assert_eq!(regions.find(at(0x4000_0000), 4096), Some(1));
        assert_eq!(regions.find(at(0x7fff_f000), 4096), Some(1));
        assert_eq!(
            regions.find(at(0x7fff_f000), 8192),
            None,
            "crosses two buffers"
        );
        assert_eq!(regions.find(at(0x8000_0000), 4096), Some(2));
        assert!(known.remove(at(0x4000_0000), 0x8000_0000));
        assert!(!known.remove(at(0x4000_0000), 0x8000_0000));
        assert_eq!(known.regions().find(at(0x20_0fff), 1), Some(0));
        assert_eq!(known.regions().find(at(0x8000_0000), 4096), None);
    }

    #[test]
    fn cursor_walks_segments_in_pieces_of_any_size() {
        let data: Vec<u8> = (0..100).collect();
        let piece = |range: std::ops::Range<usize>| IoVec {
            ptr: data[range.clone()].as_ptr().cast_mut(),
            len: range.len(),
        };
        let iov = [piece(0..10), piece(10..10), piece(10..50), piece(50..100)];
        let request = Request {
            op: daos_plugin_api::abi::BdevOp::COMPARE,
            flags: 0,
            reserved: 0,
            iov_count: 4,
            lba: 0,
            blocks: 0,
            iov: iov.as_ptr(),
            tag: 0,
            scratch: std::ptr::null_mut(),
        };
        for step in [1, 3, 7, 10, 11, 49, 100] {
            // SAFETY: `iov` and `data` live longer than the cursor.
            let mut cursor = unsafe { Cursor::new(&request) };
            for chunk in data.chunks(step) {
                assert_eq!(cursor.compare(chunk), Compared::Equal);
            }
            assert!(matches!(cursor.buffers(), Buffers::One { len: 0, .. }));
        }
        // SAFETY: as above.
        let mut cursor = unsafe { Cursor::new(&request) };
        cursor.advance(60);
        match cursor.buffers() {
            Buffers::One { ptr, len } => {
                assert_eq!((ptr.cast_const(), len), (data[60..].as_ptr(), 40));
            }
            Buffers::Many { .. } => panic!("a segment that is partly done stands alone"),
        }
        let mut wrong = data[60..].to_vec();
        wrong[39] ^= 1;
        assert_eq!(cursor.compare(&wrong), Compared::Differs);
    }
}
