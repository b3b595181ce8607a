//! The memory of a device, and all access to memory that requests name.

use daos_plugin_api::abi::{IoVec, Request};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::io;
use std::ptr;

/// Alignment of the mapping in bytes, so that the kernel can back it with huge pages.
const GRAIN: usize = 2 << 20;

/// Smallest piece that goes back to the kernel.
pub(crate) const PAGE: usize = 4096;

/// Zeroed anonymous memory. It is shared by the queues of a device like a disk is shared: whoever
/// lets requests on the same blocks overlap in time gets any mix of their data.
pub(crate) struct Memory {
    base: *mut u8,
    len: usize,
    map: *mut u8,
    map_len: usize,
}

// SAFETY: plain memory without a thread; see the type's documentation for concurrent access.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `len` bytes. Pages are taken when first written.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let map_len = len.checked_add(GRAIN).ok_or(io::ErrorKind::OutOfMemory)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new anonymous mapping, the address is the kernel's choice.
        let map =
            unsafe { mmap_anonymous(ptr::null_mut(), map_len, protection, MapFlags::PRIVATE)? }
                .cast::<u8>();
        let skip = map.align_offset(GRAIN);
        // SAFETY: `skip < GRAIN`, and the mapping is `GRAIN` longer than `len`.
        let base = unsafe { map.add(skip) };
        // SAFETY: the range lies in the new mapping. Failing only costs speed.
        let _ = unsafe { madvise(base.cast(), len, Advice::LinuxHugepage) };
        Ok(Self {
            base,
            len,
            map,
            map_len,
        })
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Address of the byte at `at`, which starts a range of `len` bytes inside the memory.
    fn at(&self, at: usize, len: usize) -> *mut u8 {
        assert!(at <= self.len && len <= self.len - at);
        // SAFETY: just checked.
        unsafe { self.base.add(at) }
    }

    /// Copies device memory at `at` into the segments.
    ///
    /// # Safety
    /// The segments are writable memory for the duration of the call.
    pub(crate) unsafe fn read(&self, at: usize, segments: &[IoVec]) {
        let mut at = at;
        for segment in segments {
            // SAFETY: the source is checked by `at`, the caller vouches for the segment; `copy`
            // because a host may do I/O on memory that overlaps a device only by being this memory.
            unsafe { ptr::copy(self.at(at, segment.len), segment.ptr, segment.len) };
            at += segment.len;
        }
    }

    /// Copies the segments into device memory at `at`.
    ///
    /// # Safety
    /// The segments are readable memory for the duration of the call.
    pub(crate) unsafe fn write(&self, at: usize, segments: &[IoVec]) {
        let mut at = at;
        for segment in segments {
            // SAFETY: the target is checked by `at`, the caller vouches for the segment.
            unsafe { ptr::copy(segment.ptr, self.at(at, segment.len), segment.len) };
            at += segment.len;
        }
    }

    /// Whether device memory at `at` equals the segments.
    ///
    /// # Safety
    /// The segments are readable memory for the duration of the call, not written meanwhile.
    pub(crate) unsafe fn equals(&self, at: usize, segments: &[IoVec]) -> bool {
        let mut at = at;
        segments
            .iter()
            .filter(|segment| segment.len > 0)
            .all(|segment| {
                let mine = self.at(at, segment.len);
                at += segment.len;
                // SAFETY: `mine` is checked by `at`, the caller vouches for the segment.
                unsafe {
                    std::slice::from_raw_parts(mine, segment.len)
                        == std::slice::from_raw_parts(segment.ptr, segment.len)
                }
            })
    }

    /// Makes a range read as zeroes; whole pages go back to the kernel when that is worth a system
    /// call.
    pub(crate) fn zero(&self, at: usize, len: usize) {
        let start = self.at(at, len);
        let head = start.align_offset(PAGE).min(len);
        let pages = (len - head) / PAGE * PAGE;
        if pages < GRAIN {
            // SAFETY: checked by `at`.
            unsafe { ptr::write_bytes(start, 0, len) };
            return;
        }
        // SAFETY: all three ranges lie inside the range checked by `at`. Anonymous private pages
        // read as zeroes after DONTNEED; should the kernel refuse, they are cleared by hand.
        unsafe {
            ptr::write_bytes(start, 0, head);
            let first = start.add(head);
            if madvise(first.cast(), pages, Advice::LinuxDontNeed).is_err() {
                ptr::write_bytes(first, 0, pages);
            }
            ptr::write_bytes(first.add(pages), 0, len - head - pages);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`; devices and queues hold an `Arc` of this and are gone.
        let _ = unsafe { munmap(self.map.cast(), self.map_len) };
    }
}

/// The segments of a request.
///
/// # Safety
/// `iov` points to `iov_count` records that live as long as the request.
pub(crate) unsafe fn segments(request: &Request) -> &[IoVec] {
    if request.iov.is_null() {
        return &[];
    }
    // SAFETY: the caller vouches for pointer and count.
    unsafe { std::slice::from_raw_parts(request.iov, request.iov_count as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroing_touches_exactly_the_range() {
        let memory = Memory::new(8 << 20).unwrap();
        let pattern = vec![0xa5u8; 8 << 20];
        let whole = [IoVec {
            ptr: pattern.as_ptr().cast_mut(),
            len: pattern.len(),
        }];
        for (at, len) in [
            (512, 512),
            (0, 8 << 20),
            (512, 5 << 20),
            (4096, (2 << 20) + 512),
        ] {
            // SAFETY: `whole` names `pattern`, which is only read.
            unsafe { memory.write(0, &whole) };
            memory.zero(at, len);
            let mut out = vec![1u8; 8 << 20];
            let target = [IoVec {
                ptr: out.as_mut_ptr(),
                len: out.len(),
            }];
            // SAFETY: `target` names `out`.
            unsafe { memory.read(0, &target) };
            for (i, byte) in out.iter().enumerate() {
                let inside = (at..at + len).contains(&i);
                assert_eq!(
                    *byte,
                    if inside { 0 } else { 0xa5 },
                    "byte {i} after zero({at}, {len})"
                );
            }
        }
    }
}
